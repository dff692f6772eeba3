import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALL_METRICS, METRICS } from "../shared/metrics/registry.ts";
import { scrape } from "../shared/metrics/scrape.ts";
import { readMetrics, type Sample } from "../shared/target/metrics.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

describe("metrics", () => {
  let test: InProcess;
  beforeAll(async () => {
    test = await createInProcess({ scale: 0.01 });
    await test.sync();
    await test.target.admin`select sync.count_queue(id) from public.sync_sources`;
    await test.target.admin`select sync.end_tick(sync.begin_tick(null))`;
    await test.target
      .admin`insert into public.sync_brakes (entity_id, kind, records, landed) select min(id), 'delete', 9, 10 from public.sync_entities`;
    await test.target.admin`insert into public.sync_alerts (kind, severity, message) values ('brake', 'warning', 'test')`;
  });
  afterAll(() => test[Symbol.asyncDispose]());

  const samples = () => readMetrics(test.context.target);
  const of = (all: readonly Sample[], metric: keyof typeof METRICS, labels: Record<string, string> = {}) =>
    all.filter((one) => one.metric === metric && Object.entries(labels).every(([name, value]) => one.labels[name] === value));
  const sum = (all: readonly Sample[]) => all.reduce((total, { value }) => total + value, 0);

  it("tell of each entity what its pages logged, by outcome", async () => {
    const all = await samples();
    const rows = await test.target.admin<{ entity: string; outcome: string; n: number }[]>`
      select e.entity_type as entity, o.key as outcome, sum(o.value::integer)::integer as n
        from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
       cross join lateral jsonb_each_text(to_jsonb(l)) o
       where o.key in ('inserted', 'updated', 'unchanged', 'deleted', 'waiting', 'in_conflict', 'waived') group by 1, 2`;
    expect(rows.length).toBeGreaterThan(100);
    for (const { entity, outcome, n } of rows)
      expect(sum(of(all, "isthmus_records_total", { entity, outcome })), `${entity} ${outcome}`).toBe(n);
  });

  it("have the seven of the latest execution as it has them", async () => {
    const all = await samples();
    const [row] = await test.target.admin<{ metrics: Record<string, number> }[]>`
      select metrics from public.sync_executions where not dry_run and job_id is null order by started_at desc limit 1`;
    const seven = ALL_METRICS.slice(0, 7).map(([name, { help }]) => ({ name, key: help.split(":")[0] ?? "" }));
    for (const { name, key } of seven) {
      const expected = row?.metrics[key];
      const [sample] = of(all, name, { sync_job: "" });
      if (expected === undefined || expected === null) expect(sample).toBeUndefined();
      else expect(sample?.value).toBeCloseTo(key === "averageLatency" ? expected / 1_000 : expected, 9);
    }
    expect(row?.metrics["recordsProcessed"]).toBeGreaterThan(0);
  });

  it("have a meaning for each, the labels that are described, and no sample twice", async () => {
    const all = await samples();
    const seen = new Set<string>();
    for (const { metric, labels } of all) {
      expect(Object.keys(METRICS)).toContain(metric);
      expect(Object.keys(labels).sort(), metric).toEqual([...METRICS[metric as keyof typeof METRICS].labels].sort());
      const id = `${metric} ${JSON.stringify(labels)}`;
      expect(seen.has(id), id).toBe(false);
      seen.add(id);
    }
    // In this process nobody tells of the heap, nothing runs, and the seeded job has not run yet.
    const without = [
      "isthmus_page_heap_bytes",
      "isthmus_chains",
      "isthmus_page_failed_tries",
      "isthmus_page_sends",
      "isthmus_job_last_success_timestamp_seconds",
    ];
    without.push(
      "isthmus_job_next_timestamp_seconds",
      "isthmus_job_usual_duration_seconds",
      "isthmus_uuid_cache_hit_rate",
      "isthmus_average_latency_seconds",
    );
    const missing = ALL_METRICS.map(([name]) => name).filter((name) => !all.some(({ metric }) => metric === name));
    expect(missing.filter((name) => !without.includes(name))).toEqual([]);
    expect((await scrape(test.context.target)).text.endsWith("# EOF\n")).toBe(true);
  });

  it("never count back, whatever ends, is deleted or only planned", async () => {
    const counters = async () =>
      new Map(
        (await samples())
          .filter(({ metric }) => METRICS[metric as keyof typeof METRICS].type === "counter")
          .map((s) => [`${s.metric} ${JSON.stringify(s.labels)}`, s.value]),
      );
    let before = await counters();
    const grown = async () => {
      const after = await counters();
      for (const [id, value] of before) expect(after.get(id) ?? 0, id).toBeGreaterThanOrEqual(value);
      const changed = [...after].filter(([id, value]) => value !== (before.get(id) ?? 0)).map(([id]) => id);
      before = after;
      return changed;
    };
    const entities = ["offices"];
    await test.start({ entities, capture: "full" });
    const [first] = test.queue;
    expect(first).toBeDefined();
    for (const message of test.queue.splice(0, 1)) await test.run(message);
    expect(await grown()).toContain('isthmus_pages_total {"entity":"offices","source":"legacy","sync_job":""}');
    await test.drain();
    expect((await grown()).some((id) => id.startsWith("isthmus_executions_total"))).toBe(true);
    await test.start({ entities, capture: "full", dryRun: true });
    await test.drain();
    expect(await grown()).toEqual([]);
    await test.target.admin`delete from public.sync_executions`;
    expect(await grown()).toEqual([]);
    // Summed up twice is counted once.
    await test.start({ entities, capture: "full" });
    await test.drain();
    await grown();
    await test.target.admin`select sync.sum_execution(id) from public.sync_executions`;
    expect(await grown()).toEqual([]);
  });

  it("are nothing that others than the worker may ask for", async () => {
    const [rights] = await test.target.admin<{ who: string[] }[]>`
      select array(select rolname::text from pg_roles where rolname in ('anon', 'authenticated', 'service_role', 'isthmus_decisions', 'isthmus_worker')
                      and has_function_privilege(oid, 'sync.metrics()', 'execute')) as who`;
    expect(rights?.who).toEqual(["isthmus_worker"]);
  });
});

describe("a scrape at scale 1", () => {
  const ROWS = { states: 1_000_000, queue: 100_000, executions: 20_000, chains: 400_000, pages: 400_000 };
  let test: InProcess;
  beforeAll(async () => {
    test = await createInProcess({ scale: 0.01 });
    await test.sync();
    const { admin } = test.target;
    await admin.begin(async (tx) => {
      await tx`set local session_replication_role = replica`;
      await tx`insert into public.sync_row_states (entity_id, legacy_id, seen_hash, left_hash)
        select e.id, 10000000 + n, n, n from (select min(id) as id from public.sync_entities) e, generate_series(1, ${ROWS.states}::integer) n`;
      await tx`insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, remedy, rule, source_table, target_table, entity_id)
        select 'open', e.entity_type, 10000000 + n, 'business_rule_violation', 'none', 'r@1', 's', 't', e.id
          from (select * from public.sync_entities order by id limit 1) e, generate_series(1, ${ROWS.queue}::integer) n`;
      await tx`create temp table copied on commit drop as select gen_random_uuid() as id, n from generate_series(1, ${ROWS.executions}::integer) n`;
      await tx`insert into public.sync_executions (id, job_id, source_id, started_at, completed_at, status, triggered_by, entities, horizon, snapshot_xmax, system_identifier, timeline,
                 database_oid, server_start, source_time, metrics)
        select c.id, case when n % 2 = 0 then (select id from public.sync_jobs limit 1) end, x.source_id, x.started_at - make_interval(mins => c.n), x.completed_at - make_interval(mins => c.n), 'succeeded',
               x.triggered_by, x.entities, x.horizon, x.snapshot_xmax, x.system_identifier, x.timeline, x.database_oid, x.server_start, x.source_time, x.metrics
          from copied c, (select * from public.sync_executions limit 1) x`;
      await tx`insert into public.sync_chains (execution_id, entity_id, capture, state, page_size, closed_at, counts)
        select c.id, e.id, 'full', 'done', 100, now(), '{"pages": 1}' from copied c, (select id from public.sync_entities order by id limit ${ROWS.chains / ROWS.executions}) e`;
      await tx`insert into public.sync_page_log (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, waiting, in_conflict, wall_ms, heap_bytes)
        select c.execution_id, c.id, c.entity_id, 0, 0, 0, 0, 0, 0, 0, 5, 1000 from public.sync_chains c where c.counts = '{"pages": 1}'`;
    });
    await admin`select sync.count_queue(id) from public.sync_sources`;
    await admin`select sync.end_tick(sync.begin_tick(null))`;
    await admin`vacuum analyze`;
    // One under way, with a chain of each entity.
    await test.start({ capture: "full" });
  }, 300_000);
  afterAll(() => test[Symbol.asyncDispose]());

  it("reads few blocks, and scans nothing that grows with records, executions or pages", async () => {
    const { target } = test.context;
    const times: number[] = [];
    for (let round = 0; round < 15; round++) {
      const begun = performance.now();
      await readMetrics(target);
      times.push(performance.now() - begun);
    }
    const [plan] = await test.target.admin<
      { "QUERY PLAN": { "Execution Time": number }[] }[]
    >`explain (analyze, buffers, format json) select * from sync.metrics()`;
    const text = JSON.stringify(plan);
    process.stdout.write(
      `a scrape: median ${times.toSorted((a, b) => a - b)[7]?.toFixed(1)} ms, blocks ${/"Shared Hit Blocks":\s*(\d+)/.exec(text)?.[1]}\n`,
    );
    const scans = async () =>
      Object.fromEntries(
        (
          await test.target.admin<{ name: string; n: number }[]>`
          select relname as name, seq_scan::integer as n from pg_stat_user_tables where schemaname = 'public'`
        ).map(({ name, n }) => [name, n]),
      );
    await test.target.admin`select pg_stat_force_next_flush()`;
    const before = await scans();
    const blocks =
      Number(/"Shared Hit Blocks":\s*(\d+)/.exec(text)?.[1]) + Number(/"Shared Read Blocks":\s*(\d+)/.exec(text)?.[1]);
    expect(blocks).toBeLessThan(5_000);
    await test.target.admin.begin(async (tx) => {
      await tx`select count(*) from sync.metrics()`;
    });
    await test.target.admin`select pg_stat_force_next_flush()`;
    const after = await scans();
    for (const table of [
      "sync_row_states",
      "sync_conflicts",
      "sync_executions",
      "sync_chains",
      "sync_page_log",
      "uuid_mappings_enhanced",
    ])
      expect([table, after[table]]).toEqual([table, before[table]]);
  }, 120_000);
});
