import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { applyEdits } from "../../clinic/dataset/edit.ts";
import { registry } from "../../clinic/entities/registry.gen.ts";
import { estimatedCpuMs } from "../../shared/page/page-size.ts";
import { AFTER_A_FIRST_LOAD, expectNoValues } from "./after-a-first-load.ts";
import type { TargetVersion } from "../../local/platform.ts";
import { HOSTED } from "../../local/functions/hosted.ts";
import { countConnections, startTestPlatform, type MostConnections, type TestPlatform } from "./platform.ts";
import { pageCosts, type PageCost } from "./page-costs.ts";
import type { ExecutionState } from "../../local/demo/watch.ts";

/** The share of the platform's limits that an invocation may use: 70 % of 2 s and of 256 MB. */
const CPU_LIMIT_MS = 1_400;
const MEMORY_LIMIT_BYTES = 180 * 1024 * 1024;
/** ISTHMUS_POOL_SIZE, unless told otherwise. */
const POOL_SIZE = 2;
const FUNCTIONS = 3;
const SCALE: Readonly<Record<TargetVersion, number>> = { 15: 0.04, 17: 0.1 };
/** What a page costs its function is the function's work, not the target's: on 15 the largest is enough. */
const PAGE_SIZES: Readonly<Record<TargetVersion, readonly number[]>> = { 15: [5_000], 17: [2_000, 5_000] };

/**
 * How far off the estimate of CPU is that page sizes follow. Beside the speed of this machine, which is the same for
 * all pages: the factor of the middle page, and of all but one in twenty. A faster machine than the estimate's makes
 * pages smaller than need be; a slower one has them killed.
 */
function expectEstimated(costs: readonly PageCost[]): void {
  expect(costs.length).toBeGreaterThan(30);
  const sum = (values: readonly number[]) => values.reduce((all, one) => all + one, 0);
  const whole = sum(costs.map(({ cpuMs }) => cpuMs)) / sum(costs.map(({ records, bytes }) => estimatedCpuMs(records, bytes)));
  const factors = costs.map(({ records, bytes, cpuMs }) => Math.max(cpuMs, 1) / estimatedCpuMs(records, bytes) / whole);
  const off = factors.map((factor) => Math.max(factor, 1 / factor)).sort((a, b) => a - b);
  const at = (share: number) => off[Math.floor(off.length * share)] ?? Infinity;
  const text = [at(0.5), at(0.95), whole].map((value) => value.toFixed(2)).join(", ");
  process.stdout.write(`  the estimate of CPU is off by a factor (middle, 95 %, all pages together): ${text}\n`);
  expect(at(0.5)).toBeLessThan(2);
  expect(at(0.95)).toBeLessThan(3);
  expect(whole).toBeLessThan(2);
}

/**
 * A legacy database synced over HTTP, QStash, Redis and Deno into a target of this version, by roles that are no
 * superusers, and looked at by `postgres`. On 15 nobody calls a tick but the target's own pg_cron; on 17 the
 * platform's schedule and this test do.
 */
export function describeEndToEnd(targetVersion: TargetVersion): void {
  describe(`a legacy database synced into PostgreSQL ${targetVersion}`, () => endToEnd(targetVersion));
}

function endToEnd(targetVersion: TargetVersion): void {
  let test: TestPlatform;
  let first: ExecutionState;
  let most: MostConnections;
  const ticks = targetVersion === 15 ? { tickEveryMs: Infinity } : {};

  beforeAll(async () => {
    test = await startTestPlatform(`e2e-${targetVersion}`, { scale: SCALE[targetVersion], targetVersion });
    const counted = countConnections(test);
    first = await test.finish((await test.start()).execution, { ...ticks, timeoutMs: 200_000 });
    most = await counted();
  }, 240_000);
  afterAll(() => test[Symbol.asyncDispose]());

  it("is migrated, synced and looked at by roles that are no superusers", async () => {
    const roles = await test.target`
      select current_user as me, current_setting('server_version_num')::integer / 10000 as version,
             rolname as name, rolsuper as super, rolbypassrls as bypasses from pg_roles
       where rolname in ('postgres', 'isthmus_worker', 'isthmus_decisions') order by rolname`;
    expect([...roles]).toEqual(
      ["isthmus_decisions", "isthmus_worker", "postgres"].map((name) => ({
        ...{ me: "postgres", version: targetVersion, name },
        ...{ super: false, bypasses: true },
      })),
    );
    const [owner] =
      await test.target`select pg_get_userbyid(relowner) as name from pg_class where oid = 'public.sync_jobs'::regclass`;
    expect(owner?.["name"]).toBe("postgres");
  });

  it("succeeds", () => {
    expect(first).toMatchObject({ status: "succeeded", errors: null });
  });

  it("ends no isolate in the middle of its requests", () => {
    const { functions } = test.platform;
    const ends = functions.isolates().flatMap(({ ended }) => ended ?? []);
    expect(ends.filter((end) => end !== "early_drop")).toEqual([]);
    expect(functions.invocations().filter(({ status }) => status >= 500)).toEqual([]);
  });

  it("opens no more connections than its isolates have, within what the smallest plans allow", () => {
    process.stderr.write(`  most connections at once: ${JSON.stringify(most)}\n`);
    for (const side of ["source", "target"] as const) {
      expect(most[side]).toBeGreaterThan(0);
      expect(most[side]).toBeLessThanOrEqual(POOL_SIZE * most.isolates);
    }
    // Were every function's every isolate busy: Nano and Micro have 60 connections, and 200 clients of the pooler.
    expect(POOL_SIZE * FUNCTIONS * HOSTED.isolates).toBeLessThanOrEqual(30);
  });

  it("is about the same entities as the manifest", () => {
    expect(registry.map(({ name }) => name).sort()).toEqual(Object.keys(test.manifest.entities).sort());
  });

  it.each(AFTER_A_FIRST_LOAD)("$title", ({ holds }) => holds(test, first));

  it("finds what changed without any modification time, lands it, and reads nothing else again", async () => {
    const before = Object.fromEntries(first.entities.map((state) => [state.entity, state.counts.read]));
    await applyEdits({ url: test.platform.urls.sourceOwner, count: 100 });
    const second = await test.finish((await test.start()).execution, ticks);
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

  const expectNothingChanged = async () => {
    const state = await test.finish((await test.start({ capture: "full" })).execution, ticks);
    expect(state.status).toBe("succeeded");
    for (const { entity, counts } of state.entities) {
      expect(counts, entity).toMatchObject({ inserted: 0, updated: 0, surplus: 0 });
      expect(counts.unchanged + counts.waiting + counts.inConflict + counts.waived, entity).toBe(counts.read);
    }
    const [log] = await test.target<{ untouched: number; unchanged: number }[]>`
      select sum(untouched)::integer as untouched, sum(unchanged)::integer as unchanged from public.sync_page_log where execution_id = ${state.execution}`;
    return { ...state, untouched: log?.untouched ?? NaN, unchanged: log?.unchanged ?? NaN };
  };

  it("changes nothing in a third run over everything", async () => {
    // Has everything read: else hashes would tell that there is nothing to do.
    await test.target`update public.sync_checkpoints set definition_hash = 'read again'`;
    const third = await expectNothingChanged();
    expect(third.untouched).toBe(0);
    expect(third.metrics["uuidCacheHitRate"]).toBeGreaterThan(0.95);
  });
  it("and leaves most of it unread in a fourth", async () => {
    const fourth = await expectNothingChanged();
    expect(fourth.untouched).toBeGreaterThan(fourth.unchanged * 0.8);
  });

  it.each(PAGE_SIZES[targetVersion])(
    "keeps every invocation of a %i-row page within its CPU and memory budget",
    async (pageSize) => {
      await using big = await startTestPlatform(`budget-${pageSize}`, {
        scale: 0.25,
        targetVersion,
        // One page at a time in an isolate, so that CPU and heap have an owner.
        hosted: { requestsPerIsolate: 1, cpuSoftMs: Infinity, cpuHardMs: Infinity },
        env: { ISTHMUS_PAGE_SIZE: String(pageSize), ISTHMUS_PAGE_SIZE_MAX: String(pageSize), ISTHMUS_CHAINS_PER_ENTITY: "1" },
      });
      const state = await big.finish((await big.start()).execution, ticks);
      expect(state.status).toBe("succeeded");
      const calls = big.platform.functions.invocations().filter((call) => call.function === "sync-page");
      expect(calls.length).toBeGreaterThan(5);
      const [largest] = await big.target<{ read: number }[]>`select max(read - waived) as read from public.sync_page_log`;
      expect(largest?.read).toBe(pageSize === 2_000 ? 2_000 : 5_000);
      expect(Math.max(...calls.map((call) => call.cpuMs))).toBeLessThan(CPU_LIMIT_MS);
      expect(Math.max(...calls.map((call) => call.peakHeapBytes))).toBeLessThan(MEMORY_LIMIT_BYTES);
      expectEstimated(pageCosts(calls, big.logs));
      expect(calls.filter((call) => call.status !== 200 || call.killed !== undefined)).toEqual([]);
    },
  );

  // Last: its minute is over by then.
  if (targetVersion === 15)
    it(
      "is called by the target's schedule, through pg_net, with the key of Vault, and the tick's work is there",
      { timeout: 150_000 },
      async () => {
        const worked = () =>
          test.target`select status_code, timed_out, error from public.sync_ticks where request_id is not null and ended_at is not null and answered_at is not null`;
        await expect.poll(async () => (await worked()).length, { timeout: 140_000, interval: 250 }).toBeGreaterThan(0);
        expect({ ...(await worked())[0] }).toEqual({ status_code: 202, timed_out: false, error: null });
        expect([
          ...(await test.target`select kind, message from public.sync_alerts where kind like 'tick_%' and closed_at is null`),
        ]).toEqual([]);
      },
    );

  it("puts no value of a row anywhere in all of that", () => expectNoValues(test));
}
