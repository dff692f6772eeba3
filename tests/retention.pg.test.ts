// History that is older than public.sync_retention says goes, a bounded number of rows a minute; what still counts
// does not.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const OLD = "now() - interval '2 years'";

describe("history", () => {
  let test: Pipeline;
  const admin = (sql: string) => test.target.admin.unsafe<Record<string, unknown>[]>(sql);
  const count = async (table: string) => Number((await admin(`select count(*) as n from public.${table}`))[0]?.["n"]);
  const gone = async (rows = 2000) => (await admin(`select sync.remove_aged(${rows}) as gone`))[0]?.["gone"];

  beforeAll(async () => {
    test = await createPipeline();
    await test.seed.patient(1, { userId: 1 });
    await test.sync({ entities: ["patients"] });
    await test.sync({ entities: ["patients"] });
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it("is kept while it is young, however often it is looked at", async () => {
    const before = await count("sync_page_log");
    expect(await gone()).toEqual({});
    expect(await count("sync_page_log")).toBe(before);
    expect(await admin("select page_log_days, removed, removed_at from public.sync_retention")).toEqual([
      { page_log_days: 60, removed: {}, removed_at: null },
    ]);
  });

  it("loses the oldest pages, as many as one call takes, and says so", async () => {
    await test.sync({ entities: ["patients"], capture: "full" });
    const before = await count("sync_page_log");
    expect(before).toBeGreaterThan(1);
    await admin(`update public.sync_page_log set committed_at = ${OLD}`);
    expect(await gone(1)).toEqual({ sync_page_log: 1 });
    await gone();
    expect(await count("sync_page_log")).toBe(0);
    const [kept] = await admin("select removed, removed_at is not null as told from public.sync_retention");
    expect(kept).toEqual({ removed: { sync_page_log: before }, told: true });
  });

  it("keeps the pages of an execution that runs", async () => {
    const { execution } = await test.start({ entities: ["patients"], capture: "full" });
    while ((await count("sync_page_log")) === 0) await test.runOne();
    await admin(`update public.sync_page_log set committed_at = ${OLD}`);
    expect(await gone()).toEqual({});
    await test.drain();
    await admin(`update public.sync_page_log set committed_at = ${OLD}`);
    expect((await test.status(execution)).status).toBe("succeeded");
    expect(await gone()).toEqual({ sync_page_log: expect.any(Number) as number });
  });

  it("loses reports and closed alerts, but no open alert and none that people do not know to be over", async () => {
    await admin(`insert into public.sync_reports (execution_id, kind, body, round, created_at)
                 select id, kind, '{}', round, ${OLD} + interval '1 hour' * round
                   from (select id from public.sync_executions limit 1) e, (values ('test', 1), ('test', 2), ('other', 1)) r (kind, round)`);
    await admin(`insert into public.sync_alerts (kind, severity, message, subject, closed_at, told_severity)
                 values ('test', 'warning', 'over', 'a', ${OLD}, null), ('test', 'warning', 'told as open', 'b', ${OLD}, 'warning'),
                        ('test', 'warning', 'open', 'c', null, null), ('test', 'warning', 'young', 'd', now(), null)`);
    // The next report is compared with the latest of its kind.
    expect(await gone()).toEqual({ sync_reports: 1, sync_alerts: 1 });
    expect(await admin("select kind, round from public.sync_reports where kind in ('test', 'other') order by kind")).toEqual([
      { kind: "other", round: 1 },
      { kind: "test", round: 2 },
    ]);
    await admin("delete from public.sync_reports");
    expect(
      (await admin("select message from public.sync_alerts where kind = 'test' order by subject")).map((a) => a["message"]),
    ).toEqual(["told as open", "open", "young"]);
  });

  it("loses resolved conflicts with what a decision could be put back to, but no decision that counts and nothing that is open", async () => {
    const insert = (id: number, columns: string, values: string) =>
      admin(`insert into public.sync_conflicts (entity_id, entity_type, source_record_id, source_table, target_table, conflict_type, rule, remedy, retry_class, ${columns})
             select id, entity_type, ${id}, source_table, target_table, 'business_rule_violation', 'test', 'test', 'rule', ${values}
               from public.sync_entities where entity_type = 'patients'`);
    await test.target.admin.unsafe("set session_replication_role = replica");
    try {
      await insert(901, "state, resolved_at", `'resolved', ${OLD}`);
      await insert(902, "state, resolved_at, decisions, resolution_strategy", `'resolved', ${OLD}, 1, 'source_wins'`);
      await insert(903, "state, resolved_at, decisions, resolution_strategy", `'resolved', ${OLD}, 1, 'target_wins'`);
      await insert(904, "state, resolved_at, standing", `'resolved', ${OLD}, true`);
      await insert(905, "state, first_seen_at", `'open', ${OLD}`);
      await insert(907, "state, last_seen_at", `'superseded', ${OLD}`);
      await insert(906, "state, resolved_at", "'resolved', now()");
    } finally {
      await test.target.admin.unsafe("set session_replication_role = origin");
    }
    await admin(
      "insert into public.sync_conflict_values (conflict_id) select id from public.sync_conflicts where source_record_id = 902",
    );
    expect(await gone()).toEqual({ sync_conflicts: 3 });
    expect(
      (
        await admin("select source_record_id::integer as id from public.sync_conflicts where source_record_id > 900 order by 1")
      ).map((c) => c["id"]),
    ).toEqual([903, 904, 905, 906]);
    expect(await count("sync_conflict_values")).toBe(0);
  });

  it("loses executions with their chains, but for the last thousand and those that have pages or somebody's hand on them", async () => {
    const before = await count("sync_executions");
    await admin(`update public.sync_executions set started_at = ${OLD}, completed_at = ${OLD}`);
    await admin(
      `update public.sync_conflicts set execution_id = (select id from public.sync_executions order by ordinal limit 1)`,
    );
    expect(await gone()).toEqual({});
    await admin(`insert into public.sync_executions (source_id, started_at, status, triggered_by, entities, horizon, snapshot_xmax,
                                                     system_identifier, timeline, database_oid, server_start, source_time)
                 select source_id, ${OLD}, 'succeeded', 'test', entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid, server_start,
                        source_time
                   from (select * from public.sync_executions limit 1) e cross join generate_series(1, 1000)`);
    const first = `(select id from public.sync_executions order by ordinal limit 1)`;
    await admin(
      `insert into public.sync_alerts (kind, severity, message, subject, execution_id, closed_at) select 'test', 'warning', 'of it', 'e', ${first}, now()`,
    );
    await test.target.admin.begin(async (holds) => {
      await holds.unsafe(`select 1 from public.sync_alerts where subject = 'e' for update`);
      expect(await gone()).toEqual({});
    });
    // An open alert is about the last of them.
    const last = `(select id from public.sync_executions order by ordinal offset ${before - 1} limit 1)`;
    await admin(
      `insert into public.sync_alerts (kind, severity, message, subject, execution_id) select 'test', 'warning', 'open', 'g', ${last}`,
    );
    await admin("update public.sync_sources set forgotten_at = '2020-01-01'");
    expect(await gone()).toEqual({ sync_executions: before - 1 });
    await admin("update public.sync_alerts set closed_at = now() where subject = 'g'");
    expect(await gone()).toEqual({ sync_executions: 1 });
    // What ages out is no reason to believe a page of a database that was put back.
    expect(await gone()).toEqual({});
    expect(await admin("select distinct forgotten_at < now() - interval '8 days' as long_ago from public.sync_sources")).toEqual([
      { long_ago: true },
    ]);
    expect(await admin("select 1 from public.sync_conflicts where execution_id is not null or resolved_in is not null")).toEqual(
      [],
    );
    expect(await count("sync_executions")).toBe(1000);
    expect(await admin("select execution_id from public.sync_alerts where subject = 'e'")).toEqual([{ execution_id: null }]);
    expect(
      await admin(
        "select count(*)::integer as n from public.sync_chains c left join public.sync_executions e on e.id = c.execution_id where e.id is null",
      ),
    ).toEqual([{ n: 0 }]);
  });

  it("is kept as operators say in the table editor, within bounds", async () => {
    await expect(admin("update public.sync_retention set page_log_days = 0")).rejects.toMatchObject({ code: "23514" });
    await admin("update public.sync_retention set conflict_days = 3650");
    await admin(`update public.sync_conflicts set resolved_at = ${OLD} where source_record_id = 906`);
    expect(await gone()).toEqual({});
  });

  it("tells people where something refuses, and that it is over", async () => {
    await admin("update public.sync_retention set alert_days = 7");
    await admin(
      `insert into public.sync_alerts (kind, severity, message, subject, closed_at) values ('test', 'warning', 'over', 'f', ${OLD})`,
    );
    await admin(
      "create function public.refuse_delete() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$",
    );
    await admin("create trigger refuse before delete on public.sync_alerts for each row execute function public.refuse_delete()");
    const told = () =>
      admin(
        "select closed_at is null as open, details ->> 'sqlstate' as state from public.sync_alerts where kind = 'history_kept'",
      );
    await admin("select sync.remove_history()");
    expect(await told()).toEqual([{ open: true, state: "P0001" }]);
    await admin("drop trigger refuse on public.sync_alerts");
    await admin("select sync.remove_history()");
    expect(await told()).toEqual([{ open: false, state: "P0001" }]);
    expect(await admin("select 1 from public.sync_alerts where subject = 'f'")).toEqual([]);
  });
});
