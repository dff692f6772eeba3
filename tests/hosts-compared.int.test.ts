import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { registry } from "../clinic/entities/registry.gen.ts";
import { HOSTED } from "../local/functions/hosted.ts";
import { execute, HOSTS, SLOWER, total, type Execution, type Host, type Run } from "./hosts/executions.ts";
import { keepPristine, startTestPlatform, type TestPlatform } from "./support/platform.ts";
import { sentTo } from "./support/sent.ts";

/** So little that isolates retire in loads as small as these. All other limits are the platform's. */
const SOFT_MS = 250;
const LOADS: readonly Execution[] = ["first load"];
/**
 * CPU that a new isolate may use before it works as fast as one that has worked for a while. An isolate is retired
 * after `cpuSoftMs`: with this much in each, the work takes 1.5 times the CPU that it takes in an isolate that lives
 * for ever.
 */
const COLD_MS = HOSTED.cpuSoftMs * (1 - 1 / SLOWER);
/** Of so many messages one may be delivered again: two pages of an execution may meet in the target. */
const AGAIN = 20;

// Seconds say little on a busy machine: npm run compare:hosts measures them. What they are made of is counted here:
// pages, messages, isolates and CPU.
describe("the whole clinic within the platform's limits, and on the same host without", () => {
  let test: TestPlatform;
  let runs: readonly Run[];
  const of = (host: Host, what: (run: Run) => number) => LOADS.reduce((sum, load) => sum + total(runs, host, load, what), 0);

  beforeAll(async () => {
    test = await startTestPlatform("hosts-compared", { scale: 0.005, logScale: 0.0002 });
    const pristine = await keepPristine(test);
    const all: Run[] = [];
    for (const host of ["kind", "double"] as const) {
      await test.platform.restartFunctions(host === "double" ? { cpuSoftMs: SOFT_MS } : HOSTS.kind, pristine);
      for (const load of LOADS) {
        const run = await execute(test, host, load);
        process.stdout.write(`  ${JSON.stringify(run)}\n`);
        all.push(run);
      }
    }
    runs = all;
  }, 900_000);
  afterAll(() => test[Symbol.asyncDispose]());

  it("compares what it says: on the double isolates retire and others start, on the other host none does", () => {
    expect(of("double", ({ retired }) => retired)).toBeGreaterThan(5);
    expect(of("kind", ({ retired }) => retired)).toBe(0);
    expect(of("double", ({ records }) => records)).toBe(of("kind", ({ records }) => records));
  });

  it("no page is killed, none is turned away, and hardly any is sent twice", () => {
    for (const run of runs) {
      expect(run).toMatchObject({ killed: 0, killedTwice: 0, busy: 0 });
      expect(run.deliveries - run.messages, `${run.host}: ${run.execution}`).toBeLessThanOrEqual(run.messages / AGAIN);
    }
  });

  it("the limits cost no pages and no messages", () => {
    for (const count of ["pages", "messages"] as const)
      expect(
        of("double", (run) => run[count]),
        count,
      ).toBeLessThanOrEqual(of("kind", (run) => run[count]) * (1 + 1 / AGAIN));
  });

  it("no isolate starts but for one whose CPU is used up, and for pages that run at the same time", () => {
    const starts = of("double", (run) => run.starts);
    expect(starts).toBeLessThanOrEqual(of("double", ({ cpuMs }) => cpuMs) / SOFT_MS + HOSTED.isolates * LOADS.length);
    expect(starts).toBeLessThan(of("double", ({ pages }) => pages) / 2);
  });

  it("a new isolate costs so little CPU that the work takes less than one and a half times as much", () => {
    const [double, kind] = (["double", "kind"] as const).map((host) => ({
      starts: of(host, (run) => run.starts),
      cpuMs: of(host, (run) => run.cpuMs),
      records: of(host, (run) => run.records),
    })) as [{ starts: number; cpuMs: number; records: number }, { starts: number; cpuMs: number; records: number }];
    const cold = (double.cpuMs - kind.cpuMs) / (double.starts - kind.starts);
    process.stdout.write(
      `  CPU ms a record: ${(double.cpuMs / double.records).toFixed(2)} in ${double.starts} isolates, ${(kind.cpuMs / kind.records).toFixed(2)} in ${kind.starts}; ${cold.toFixed(0)} CPU ms for each new isolate (limit ${COLD_MS.toFixed(0)})\n`,
    );
    expect(cold).toBeLessThan(COLD_MS);
  });

  describe("with nothing to do", () => {
    /** Messages that carry pages while something is done. */
    const messages = async (work: () => Promise<unknown>) => {
      const before = test.platform.qstash.history().length;
      await work();
      const history = test.platform.qstash.history().slice(before);
      // Besides these, only the schedule's calls of sync-tick.
      const [pages, ticks] = [sentTo(history, "sync-page"), sentTo(history, "sync-tick")];
      expect(pages.deliveries + ticks.deliveries).toBe(history.length);
      return pages.messages;
    };
    const executed = async (body: object) => {
      const state = await test.finish((await test.start(body)).execution, { tickEveryMs: Infinity });
      expect(state).toMatchObject({ status: "succeeded", errors: null });
      for (const { entity, counts } of state.entities)
        expect(counts, entity).toMatchObject({ inserted: 0, updated: 0, deleted: 0 });
    };
    const ticked = async () => {
      const done = async () => [...(await test.target`select id from public.sync_ticks where ended_at is not null`)].length;
      const before = await done();
      expect((await test.platform.call("sync-tick", { body: {} })).status).toBe(202);
      await vi.waitUntil(async () => (await done()) > before, { timeout: 30_000 });
    };

    beforeAll(async () => {
      // Records that were released meanwhile are read again first.
      const none = async () => {
        await ticked();
        return [...(await test.target`select id from public.sync_executions where status = 'running'`)].length === 0;
      };
      await vi.waitUntil(none, { timeout: 60_000 });
    }, 90_000);

    it("an execution sends one message", async () => {
      expect(await messages(() => executed({}))).toBe(1);
    });

    it("an execution that compares both sides, as the job daily does, sends two for each entity: one compares it, one validates it", async () => {
      const [job] = await test.target`select configuration from public.sync_jobs where name = 'daily'`;
      expect(await messages(() => executed(job?.["configuration"] as object))).toBe(2 * registry.length);
    });

    it("a tick sends none", async () => {
      expect(await messages(ticked)).toBe(0);
    });
  });
});
