import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { addressesOf } from "../shared/db/connect.ts";
import { claimPage } from "../shared/target/claims.ts";
import { createArena, LOCKED_AT, RECORDS, type Arena, type Place, type Strike, type Way } from "./support/page-ends.ts";

/** Of statements that wait for a lock, and of nothing else. */
const LIMIT = "100ms";

const held =
  (during: (arena: Arena, sent: Promise<unknown>, table: string) => Promise<unknown>): Strike =>
  async ({ arena, place, side }, go) => {
    const table = LOCKED_AT[place];
    if (!side || !table) throw new Error(`nothing is waited for at ${place}`);
    const holder = await arena.admin(side).reserve();
    try {
      await holder.unsafe(`begin; lock table public.${table} in access exclusive mode`);
      const sent = go();
      sent.catch(() => undefined);
      return await during(arena, sent, table);
    } finally {
      await holder.unsafe("rollback");
      holder.release();
    }
  };

const serverError = (code: string) =>
  Object.assign(new Error("of this test"), { name: "PostgresError", code, severity: "ERROR", severity_local: "ERROR" });
const cut =
  (says?: { code: string; message: string }): Strike =>
  async ({ arena, side }, go) => {
    if (!side) throw new Error("no server works here");
    await arena.wires[side].cut(says);
    try {
      return await go();
    } finally {
      await arena.wires[side].mend();
    }
  };

/**
 * What becomes of records when a page is ended so each time that it comes to a place. landed: all of them; queued:
 * each, when it is alone on its page; told: the page is stopped, and the next execution lands them. (Ended once: all
 * land.)
 */
type End = "landed" | "queued" | "told";
const servers = (end: End) => ({ claim: end, position: end, detect: end, slots: end, read: end, map: end, commit: end });
const TOLD = servers("told");
const { position: _, ...LOCKED } = TOLD;

const WAYS: readonly (Way & {
  readonly name: string;
  readonly ends: Readonly<Partial<Record<Place, End>>>;
})[] = [
  ...["statement_timeout", "lock_timeout", "transaction_timeout"].map((name) => ({
    name,
    ends: { ...LOCKED, read: "queued", map: "queued" } as const,
    settings: { [name]: LIMIT },
    strike: held((_arena, sent) => sent),
  })),
  {
    name: "idle_session_timeout",
    ends: servers("landed"),
    settings: { idle_session_timeout: "30ms" },
    strike: async (_struck, go) => {
      await new Promise((idle) => setTimeout(idle, 100));
      return go();
    },
  },
  {
    name: "memory of the server",
    ends: { ...TOLD, read: "queued", map: "queued" },
    thrown: () => {
      throw serverError("53200");
    },
  },
  {
    name: "memory of the worker's strings",
    ends: { read: "queued", map: "queued", commit: "told" },
    thrown: () => {
      throw new RangeError("Invalid string length");
    },
  },
  {
    name: "killed worker",
    ends: { ...TOLD, read: "queued", map: "queued", transform: "queued", send: "landed" },
    thrown: ({ die }) => die(),
  },
  {
    name: "ended session",
    ends: LOCKED,
    strike: held(async ({ admin }, sent, table) => {
      const side = table === "dispatch_office" ? "source" : "target";
      for (let ended = 0; ended === 0;) {
        const rows = await admin(side)`
          select pg_terminate_backend(pid, 1000) from pg_locks where relation = ${`public.${table}`}::regclass and not granted`;
        ended = rows.length;
      }
      return sent;
    }),
  },
  {
    name: "lease taken by another delivery",
    ends: { ...TOLD, send: "landed" },
    strike: async ({ arena: { test }, message }, go) => {
      await test.target
        .admin`update public.sync_chains set lease_until = now() - interval '1 second' where id = ${message.chain} and lease_until is not null`;
      await claimPage(test.target.admin as never, message, 60, addressesOf(test.context.config));
      return go();
    },
  },
  { name: "refused connection", ends: TOLD, strike: cut() },
  {
    name: "XX000 of a pooler",
    ends: TOLD,
    strike: cut({ code: "XX000", message: "Max client connections reached" }),
  },
  {
    name: "server that is away until the page has ended",
    // As of a killed worker: nobody could say why the page did not come through.
    ends: { ...TOLD, map: "queued" },
    strike: async ({ arena, side }, go) => {
      if (side) await arena.wires[side].cut();
      return go();
    },
    after: async ({ wires }) => {
      await Promise.all([wires.source.mend(), wires.target.mend()]);
    },
  },
  {
    name: "queue that refuses",
    ends: { send: "landed" },
    thrown: () => {
      throw new Error("no queue");
    },
  },
];
const CASES = WAYS.flatMap((way) =>
  (Object.entries(way.ends) as [Place, End][]).map(([place, end]) => ({ name: way.name, place, end, way })),
);

describe("a page that is ended", () => {
  let arena: Arena;
  beforeAll(async () => {
    arena = await createArena();
  });
  afterAll(() => arena[Symbol.asyncDispose]());

  /** The records' keys by what became of them. */
  const outcome = async () => {
    const { source, target } = arena.test;
    const sent = await source.admin<
      { id: number; city: string }[]
    >`select id::integer, city from public.dispatch_office order by 1`;
    const here = await target.admin<
      { id: number; city: string }[]
    >`select legacy_office_id::integer as id, city from public.offices`;
    const cities = new Map(here.map(({ id, city }) => [id, city]));
    const queued = (await arena.test.live("offices")).map(({ id }) => id);
    const stale = sent.filter(({ id, city }) => cities.get(id) !== city).map(({ id }) => id);
    return { queued, lost: stale.filter((id) => !queued.includes(id)), landed: sent.length - stale.length };
  };
  const ALL_LANDED = { queued: [], lost: [], landed: RECORDS };
  const stalled = async () =>
    (await arena.test.target.admin`select from public.sync_alerts where kind = 'page_stalled' and closed_at is null`).length;

  it.each(CASES)("once at $place, by: $name: all land", async ({ place, way }) => {
    const ended = await arena.run(place, way, "once");
    expect(ended).toMatchObject({ status: "succeeded", errors: [], struck: 1 });
    expect(await outcome()).toEqual(ALL_LANDED);
  });

  it.each(CASES)("always at $place, by: $name: $end, and nothing of it stays when it is over", async ({ place, way, end }) => {
    const ended = await arena.run(place, way, "always");
    const { lost, queued } = await outcome();
    const seen = ended.status !== "succeeded" ? "told" : queued.length > 0 ? "queued" : "landed";
    expect(seen).toBe(end);
    if (end !== "told") expect(lost).toEqual([]);
    else {
      expect(ended.errors.map(({ code }) => code)).toContain("PAGE_STALLED");
      for (const { remedy } of ended.errors) expect(remedy).toMatch(/\w+ \w+/);
      expect(await stalled()).toBe(1);
    }
    await arena.test.sync({ entities: ["offices"], capture: "full" });
    expect(await outcome()).toEqual(ALL_LANDED);
    expect(await stalled()).toBe(0);
  });
});
