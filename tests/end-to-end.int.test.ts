import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { applyEdits } from "../local/dataset/edit.ts";
import { registry } from "../shared/entities/registry.gen.ts";
import { expectGolden, expectManifest, expectMoney } from "./support/expect-manifest.ts";
import { startTestPlatform, type TestPlatform } from "./support/platform.ts";
import type { ExecutionState } from "../local/demo/watch.ts";

/** The share of the platform's limits that an invocation may use: 70 % of 2 s and of 256 MB. */
const CPU_LIMIT_MS = 1_400;
const MEMORY_LIMIT_BYTES = 180 * 1024 * 1024;

describe("a legacy database synced over HTTP, QStash, Redis and Deno", () => {
  let test: TestPlatform;
  let first: ExecutionState;

  beforeAll(async () => {
    test = await startTestPlatform("e2e", { scale: 0.1 });
    first = await test.finish((await test.start()).execution);
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it("succeeds", () => {
    expect(first).toMatchObject({ status: "succeeded", errors: null });
  });

  it("is about the same entities as the manifest", () => {
    expect(registry.map(({ name }) => name).sort()).toEqual(Object.keys(test.manifest.entities).sort());
  });

  it("lands exactly what the manifest says, and queues exactly the rest, each for its reason", async () => {
    await expectManifest(test, first);
  });

  it("carries every cent: the money of landed records adds up to the manifest's sums", async () => {
    await expectMoney(test);
  });

  it("turns each kind of dirt into the value that the domain decided", async () => {
    await expectGolden(test);
  });

  it("refers only to the right parents, checked on both sides by plain SQL", async () => {
    const there = await test.source<{ id: number; patient: number; doctor: number | null; office: number | null }[]>`
      select i.id, i.patient_id as patient, p.doctor_id as doctor, p.office_id as office
        from public.dispatch_instruction i join public.dispatch_patient p on p.id = i.patient_id order by 1`;
    const here = await test.target<{ id: number; patient: number; doctor: number | null; office: number | null }[]>`
      select o.legacy_instruction_id::integer as id, p.legacy_patient_id::integer as patient, d.legacy_user_id::integer as doctor, f.legacy_office_id::integer as office
        from public.orders o join public.patients p on p.id = o.patient_id left join public.doctors d on d.id = o.doctor_id
        left join public.offices f on f.id = o.office_id order by 1`;
    const landed = new Set(here.map((row) => row.id));
    expect([...here]).toEqual([...there.filter((row) => landed.has(row.id))]);
  });

  it("shows metrics that plain SQL over the page log recomputes", async () => {
    const [row] = await test.target<
      {
        processed: number;
        succeeded: number;
        failed: number;
        healed: number;
        latency: number;
        hits: number;
        lookups: number;
        seconds: number;
      }[]
    >`
      select sum(read)::integer as processed, sum(inserted + updated + unchanged + deleted + waived)::integer as succeeded, sum(waiting + in_conflict)::integer as failed,
             (select coalesce(sum(c.attempts), 0)::integer from public.sync_conflicts c where c.execution_id = ${first.execution} and c.resolved_in = ${first.execution}) as healed,
             avg(wall_ms)::float8 as latency, sum(cache_hits)::integer as hits, sum(cache_lookups)::integer as lookups,
             (select extract(epoch from completed_at - started_at)::float8 from public.sync_executions where id = ${first.execution}) as seconds
        from public.sync_page_log where execution_id = ${first.execution}`;
    if (!row) throw new Error("no page log");
    const { metrics } = first;
    expect(metrics["recordsProcessed"]).toBe(row.processed);
    expect(metrics["successRate"]).toBeCloseTo(row.succeeded / row.processed, 5);
    expect(metrics["errorRate"]).toBeCloseTo((row.failed - row.healed) / row.processed, 5);
    expect(metrics["averageLatency"]).toBeCloseTo(row.latency, 2);
    expect(metrics["uuidCacheHitRate"]).toBeCloseTo(row.hits / row.lookups, 5);
    expect(metrics["throughputPerSecond"]).toBeCloseTo(row.processed / row.seconds, 1);
    // Of the records that waited or went to the queue, those that landed within the execution after all.
    const [queue] = await test.target<{ resolved: number; touched: number }[]>`
      select count(*) filter (where resolved_in = ${first.execution})::integer as resolved, count(*)::integer as touched
        from public.sync_conflicts where ${first.execution} in (execution_id, resolved_in)`;
    expect(metrics["conflictResolutionRate"]).toBeCloseTo((queue?.resolved ?? 0) / (queue?.touched ?? 1), 5);
  });

  it("finds what changed without any modification time, lands it, and reads nothing else again", async () => {
    const before = Object.fromEntries(first.entities.map((state) => [state.entity, state.counts.read]));
    await applyEdits({ url: test.platform.urls.sourceOwner, count: 100 });
    const second = await test.finish((await test.start()).execution);
    expect(second.status).toBe("succeeded");
    for (const { entity, capture, counts } of second.entities) {
      expect([null, "xmin", "joins"], entity).toContain(capture);
      expect(counts.read, entity).toBeLessThan((before[entity] ?? 0) / 2 + 60);
    }
    const [there] = await test.source<{ paid: string; orders: string }[]>`
      select (select sum(paid_price) from public.dispatch_payment where not instruction_id is null) as paid, (select count(*) from public.dispatch_instruction) as orders`;
    const [here] = await test.target<{ paid: string; orders: string; queued: string }[]>`
      select (select sum(paid_amount) from public.payments where order_id is not null) as paid, (select count(*) from public.orders) as orders,
             (select count(*) from public.sync_conflicts where entity_type = 'orders' and state in ('waiting', 'open')) as queued`;
    const held = await test.target<
      { id: string }[]
    >`select source_record_id::text as id from public.sync_conflicts where entity_type = 'payments' and state in ('waiting', 'open')`;
    const [missing] = await test.source<{ paid: string }[]>`
      select coalesce(sum(paid_price), 0) as paid from public.dispatch_payment where instruction_id is not null and id = any (${held.map((row) => Number(row.id))})`;
    expect(BigInt(String(here?.paid).replace(".", "")) + BigInt(String(missing?.paid).replace(".", ""))).toBe(
      BigInt(String(there?.paid).replace(".", "")),
    );
    expect(Number(here?.orders) + Number(here?.queued)).toBe(Number(there?.orders));
  });

  it("changes nothing in a third run over everything", async () => {
    const third = await test.finish((await test.start({ capture: "full" })).execution);
    expect(third.status).toBe("succeeded");
    for (const { entity, counts } of third.entities) {
      expect(counts, entity).toMatchObject({ inserted: 0, updated: 0, surplus: 0 });
      expect(counts.unchanged + counts.waiting + counts.inConflict + counts.waived, entity).toBe(counts.read);
    }
    expect(third.metrics["uuidCacheHitRate"]).toBeGreaterThan(0.95);
  });

  it.each([2_000, 5_000])("keeps every invocation of a %i-row page within its CPU and memory budget", async (pageSize) => {
    await using big = await startTestPlatform(`budget-${pageSize}`, {
      scale: 0.25,
      env: { ISTHMUS_PAGE_SIZE: String(pageSize), ISTHMUS_PAGE_SIZE_MAX: String(pageSize), ISTHMUS_CHAINS_PER_ENTITY: "1" },
    });
    const state = await big.finish((await big.start()).execution);
    expect(state.status).toBe("succeeded");
    const calls = big.platform.functions.invocations().filter((call) => call.function === "sync-page");
    expect(calls.length).toBeGreaterThan(5);
    const [largest] = await big.target<{ read: number }[]>`select max(read - waived) as read from public.sync_page_log`;
    expect(largest?.read).toBe(pageSize === 2_000 ? 2_000 : 5_000);
    expect(Math.max(...calls.map((call) => call.cpuMs))).toBeLessThan(CPU_LIMIT_MS);
    // The platform counts the isolate, not the runtime around it; with it, the whole must stay below the limit itself.
    expect(Math.max(...calls.map((call) => call.memoryBytes))).toBeLessThan(MEMORY_LIMIT_BYTES);
    expect(Math.max(...calls.map((call) => call.peakRssBytes))).toBeLessThan(256 * 1024 * 1024);
    expect(calls.filter((call) => call.status !== 200 || call.killed !== undefined)).toEqual([]);
  });

  it("puts no value of a row into a log line or a queue message", async () => {
    const names = await test.source<
      { name: string }[]
    >`select last_name as name from public.auth_user where length(last_name) > 5 limit 200`;
    const said =
      test.logs.map((entry) => entry.line).join("\n") +
      test.platform.qstash
        .history()
        .map((delivery) => delivery.body)
        .join("\n");
    expect(said.length).toBeGreaterThan(1_000);
    expect(names.filter(({ name }) => said.includes(name))).toEqual([]);
    for (const delivery of test.platform.qstash.history().filter((entry) => entry.url.endsWith("/sync-page"))) {
      expect(
        Object.keys(JSON.parse(delivery.body) as object).every((key) => ["execution", "chain", "page", "sends"].includes(key)),
      ).toBe(true);
    }
  });
});
