import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { stopStalled } from "../shared/target/ends.ts";
import { Gate, gated } from "./support/gate.ts";
import type { Side } from "./support/page-ends.ts";
import { ACQUIRE_SECONDS, createDirect, createPooled, TRIES, type Pooled } from "./support/pooled.ts";
import type { Refused } from "./support/refusing-pooler.ts";

const SIDES: readonly Side[] = ["source", "target"];
const ROLE: Readonly<Record<Side, string>> = { source: "isthmus_reader", target: "isthmus_worker" };
/** What a page spends on refusals at most: claim or statement, and the look at the chain after it, each for as long as it waits for a connection. */
const BOUND_MS = 3 * ACQUIRE_SECONDS * 1_000;

interface Fault {
  readonly name: string;
  /** The reason that is told; undefined: the page comes through. */
  readonly reason: string | undefined;
  /** Puts the fault in place, and returns what takes it away. */
  readonly strike: (pooled: Pooled, side: Side) => Promise<() => Promise<unknown>>;
}

/** Holds a server connection of the pool in a transaction, or with `idle` a client connection alone, until it is told to let go. */
async function hold(url: string, idle = false): Promise<() => Promise<void>> {
  const other = postgres(url, { max: 1, fetch_types: false, prepare: false, onnotice: () => undefined });
  // Whoever looked whether the pooler is up may still be its only client.
  await expect.poll(() => other.unsafe("select 1").then(() => "in", String), { timeout: 5_000, interval: 20 }).toBe("in");
  if (idle) return () => other.end({ timeout: 1 });
  const holder = await other.reserve();
  await holder.unsafe("begin");
  return async () => {
    await holder.unsafe("rollback");
    holder.release();
    await other.end({ timeout: 1 });
  };
}

const restarted =
  (settings: Readonly<Record<string, string | number>>, passwords?: Readonly<Record<string, string>>): Fault["strike"] =>
  async ({ poolers }, side) => {
    await poolers[side].restart(settings, passwords);
    return () => poolers[side].restart();
  };

const PGBOUNCER: readonly Fault[] = [
  {
    name: "all its servers are busy, for as long as it lets a client wait",
    reason: "pooler_refused",
    strike: async ({ poolers, url }, side) => {
      await poolers[side].restart({ default_pool_size: 1, query_wait_timeout: 1 });
      const free = await hold(url[side]);
      return async () => {
        await free();
        await poolers[side].restart();
      };
    },
  },
  {
    name: "all its servers are busy, and it lets a client wait for ever",
    reason: "CONNECT_TIMEOUT",
    strike: async ({ poolers, url }, side) => {
      await poolers[side].restart({ default_pool_size: 1, query_wait_timeout: 0 });
      const free = await hold(url[side]);
      return async () => {
        await free();
        await poolers[side].restart();
      };
    },
  },
  {
    name: "it takes no more clients",
    reason: "pooler_refused",
    strike: async ({ poolers, url }, side) => {
      await poolers[side].restart({ max_client_conn: 1 });
      const free = await hold(url[side], true);
      return async () => {
        await free();
        await poolers[side].restart();
      };
    },
  },
  {
    name: "it is paused",
    reason: "CONNECT_TIMEOUT",
    strike: async ({ poolers }, side) => {
      await poolers[side].tell("PAUSE");
      return () => poolers[side].tell("RESUME");
    },
  },
  {
    name: "it is paused for a moment",
    reason: undefined,
    strike: async ({ poolers }, side) => {
      await poolers[side].tell("PAUSE");
      const resumed = new Promise((later) => setTimeout(later, 300)).then(() => poolers[side].tell("RESUME"));
      return () => resumed;
    },
  },
  {
    name: "it opens new connections to its server",
    reason: undefined,
    strike: async ({ poolers }, side) => {
      await poolers[side].tell("RECONNECT");
      return () => Promise.resolve();
    },
  },
  {
    name: "it is away",
    // Whether the former connection is known to be gone before the page begins is chance.
    reason: expect.stringMatching(/^(ECONNREFUSED|ECONNRESET|EPIPE|CONNECTION_CLOSED)$/) as string,
    strike: async ({ poolers }, side) => {
      await poolers[side].crash();
      return () => poolers[side].restart();
    },
  },
  { name: "it was started again", reason: undefined, strike: restarted({}) },
  {
    name: "it has another password",
    reason: "pooler_refused",
    strike: restarted({}, { isthmus_reader: "x", isthmus_worker: "x" }),
  },
  { name: "it does not know the database", reason: "pooler_refused", strike: restarted({ databases: "other" }) },
  {
    name: "its server refuses the role",
    reason: "pooler_refused",
    strike: async ({ test, poolers }, side) => {
      await test.target.admin.unsafe(`alter role ${ROLE[side]} nologin`);
      await poolers[side].restart({ server_login_retry: 1 });
      return async () => {
        await test.target.admin.unsafe(`alter role ${ROLE[side]} login`);
        await poolers[side].restart();
      };
    },
  },
  {
    name: "its server is starting",
    reason: "pooler_refused",
    strike: async ({ poolers, wires }, side) => {
      await wires[side].cut({ code: "57P03", message: "the database system is starting up" });
      await poolers[side].restart({ server_login_retry: 1 });
      return async () => {
        await wires[side].mend();
        await poolers[side].restart();
      };
    },
  },
];

describe("PgBouncer in transaction mode", () => {
  let pooled: Pooled;
  beforeAll(async () => {
    pooled = await createPooled();
  });
  afterAll(() => pooled[Symbol.asyncDispose]());
  // What a case leaves that failed is its own: the next one begins with poolers as they were, and nothing under way.
  afterEach(async ({ task }) => {
    if (task.result?.state === "fail") await pooled.mend();
  });
  const LANDED = { status: "succeeded", missing: [], queued: 0 };
  const cases = PGBOUNCER.flatMap((fault) => SIDES.map((side) => ({ ...fault, side })));

  it.each(cases)("before the $side: $name", async ({ side, reason, strike }) => {
    const execution = await pooled.begin();
    const mend = await strike(pooled, side);
    const attempt = await pooled.attempt().finally(mend);
    expect(attempt.again).toBe(true);
    expect(attempt.ms).toBeLessThan(BOUND_MS);
    expect(attempt).toMatchObject(
      reason === undefined
        ? { outcome: "committed" }
        : { outcome: side === "source" ? "failed" : "unclaimed", code: `${side.toUpperCase()}_UNAVAILABLE`, reason },
    );
    expect(await pooled.end(execution)).toEqual(LANDED);
  });

  it.each([
    { side: "source", at: 5 },
    { side: "target", at: 3 },
    { side: "target", at: 7 },
  ] as const)(
    "before the $side is killed before the statement $at of a page, and started again: all land",
    async ({ side, at }) => {
      const execution = await pooled.begin();
      const gate = new Gate(at);
      const attempt = pooled.attempt(gated(pooled.test.context, gate));
      await gate.reached;
      await pooled.poolers[side].crash();
      await new Promise((noticed) => setTimeout(noticed, 50));
      gate.open();
      const { again } = await attempt;
      await pooled.poolers[side].restart();
      expect(again).toBe(true);
      expect(await pooled.end(execution)).toEqual(LANDED);
    },
  );

  it("that refuses for good is told: the page is stopped with the reason, and the next execution lands all", async () => {
    const execution = await pooled.begin();
    const [message] = pooled.test.queue;
    const mend = await restarted({ databases: "other" })(pooled, "source");
    for (let tries = 0; tries < TRIES; tries++) {
      if (message) pooled.test.queue.splice(0, Infinity, message);
      expect(await pooled.attempt()).toMatchObject({ outcome: "failed", reason: "pooler_refused", again: true });
    }
    const { target, config } = pooled.test.context;
    await stopStalled(target, config.ISTHMUS_PAGE_TRIES, config.ISTHMUS_STALLED_MINUTES);
    await mend();
    const { status, errors } = await pooled.test.status(execution);
    expect(status).toBe("failed");
    expect(errors).toMatchObject([
      { code: "PAGE_STALLED", passes: true, cause: { code: "SOURCE_UNAVAILABLE", reason: "pooler_refused" } },
    ]);
    expect(JSON.stringify(errors)).toMatch(/the pooler's log says why/);
    expect(await pooled.end(await pooled.begin())).toEqual(LANDED);
  });

  it.each(SIDES)(
    "before the %s that is paused refuses a start, and holds no tick for longer than a connection is waited for",
    async (side) => {
      await pooled.poolers[side].tell("PAUSE");
      const began = performance.now();
      const started = pooled.test.start({ entities: ["offices"], capture: "full" });
      const ticked = tick({ ...pooled.test.context, log: { ...pooled.test.context.log, error: () => undefined } });
      await expect(started).rejects.toMatchObject({
        code: `${side.toUpperCase()}_UNAVAILABLE`,
        detail: { reason: "CONNECT_TIMEOUT" },
      });
      expect((await ticked).started).toEqual([]);
      expect(performance.now() - began).toBeLessThan(BOUND_MS);
      await pooled.poolers[side].tell("RESUME");
      expect(await pooled.end(await pooled.begin())).toEqual(LANDED);
    },
  );

  /** As its source has them (supabase/supavisor, lib/supavisor/errors): what a person reads is theirs. */
  const SUPAVISOR: readonly (Refused & { readonly at: "login" | "statement"; readonly reason: string })[] = [
    { at: "statement", code: "XX000", message: "(ECHECKOUTTIMEOUT) Pool checkout timeout.", reason: "pooler_refused" },
    { at: "statement", code: "XX000", message: "(EDBHANDLEREXITED) connection to database closed.", reason: "pooler_refused" },
    {
      at: "login",
      code: "XX000",
      message: "(EMAXCLIENTCONN) max client connections reached, limit: 200",
      reason: "pooler_refused",
    },
    { at: "login", code: "XX000", message: "Max client connections reached", untranslated: true, reason: "pooler_refused" },
    { at: "login", code: "XX000", message: "(ECIRCUITBREAKER) too many authentication failures", reason: "pooler_refused" },
    {
      at: "login",
      code: "28P01",
      message: 'password authentication failed for user "w"',
      untranslated: true,
      reason: "credentials_refused",
    },
    {
      at: "statement",
      code: "57P01",
      message: "terminating connection due to administrator command",
      untranslated: true,
      reason: "57P01",
    },
  ];

  it.each(SUPAVISOR.map((said, at) => ({ side: SIDES[at % 2] ?? "source", ...said })))(
    "Supavisor before the $side, at a $at: $code $message",
    async ({ side, at, reason, ...says }) => {
      // The wire stands where Supavisor does: nothing pools behind it.
      await using direct = await createDirect(pooled, side);
      const execution = await pooled.begin();
      if (at === "login") await direct.wire.cut(says);
      else direct.wire.turnAway(says);
      const attempt = await pooled.attempt(direct.context);
      expect(attempt).toMatchObject({ code: `${side.toUpperCase()}_UNAVAILABLE`, reason, again: true });
      await direct.wire.mend();
      expect(await pooled.end(execution)).toEqual(LANDED);
    },
  );
});
