import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { inZone } from "../shared/entity/define-entity.ts";
import { createTestSource, type TestDatabase } from "./support/databases.ts";

const MINUTE = 60_000;
/** Whole hours, half an hour (Lord Howe), a day (Apia), two hours (Troll), backwards in winter (Dublin), twice within weeks (Casablanca), none. */
const ZONES = [
  "Europe/Zurich",
  "America/Edmonton",
  "Australia/Lord_Howe",
  "Pacific/Apia",
  "Antarctica/Troll",
  "Europe/Dublin",
  "Africa/Casablanca",
  "America/St_Johns",
  "Asia/Kathmandu",
  "UTC",
];
const [FROM, TO] = [Date.UTC(1975, 0, 1), Date.UTC(2036, 0, 1)];

let source: TestDatabase;
beforeAll(async () => {
  source = await createTestSource();
});
afterAll(() => source[Symbol.asyncDispose]());

/** Times around each change of a zone's clocks as the server knows them, and some at random: minutes since 1970, read as UTC. */
async function timesOf(zone: string): Promise<number[]> {
  // Every quarter of an hour at which the offset is another one than a quarter before.
  const changes = await source.admin.unsafe<{ at: string; before: string; after: string }[]>(`
    with days as (
      select d, (d at time zone '${zone}') - (d at time zone 'UTC') as o, ((d + interval '24 hours') at time zone '${zone}') - ((d + interval '24 hours') at time zone 'UTC') as next
        from generate_series('1975-01-01+00'::timestamptz, '2035-12-31+00', '24 hours') d)
    select extract(epoch from m)::bigint / 60 as at, extract(epoch from b.o)::bigint / 60 as before, extract(epoch from a.o)::bigint / 60 as after
      from days, generate_series(d, d + interval '24 hours', '1 minute') m,
           lateral (select (m at time zone '${zone}') - (m at time zone 'UTC') as o) a,
           lateral (select ((m - interval '1 minute') at time zone '${zone}') - ((m - interval '1 minute') at time zone 'UTC') as o) b
     where days.o <> days.next and a.o <> b.o`);
  const around = changes.flatMap(({ at, before, after }) =>
    [before, after].flatMap((offset) =>
      [-1441, -31, -1, 0, 1, 29, 30, 31, 59, 60, 61, 119, 120, 1439, 1441].map(
        (minutes) => Number(at) + Number(offset) + minutes,
      ),
    ),
  );
  const random = fc.sample(fc.integer({ min: FROM / MINUTE, max: TO / MINUTE }), { numRuns: 200, seed: 1 });
  return [...new Set([...around, ...random])];
}

const stamp = (minutes: number) => new Date(minutes * MINUTE).toISOString().slice(0, 16).replace("T", " ");

/** What an expression makes of times, given as `kind` in order. */
async function made(times: readonly number[], kind: "timestamp" | "timestamptz", sql: string): Promise<string[]> {
  const rows = await source.admin.unsafe<{ made: string }[]>(
    `select (${sql}) as made from unnest($1::text[]) with ordinality v (text, n) cross join lateral (select (v.text${kind === "timestamptz" ? " || '+00'" : ""})::${kind} as x) t order by n`,
    [times.map(stamp)],
  );
  return rows.map((row) => row.made);
}

/** The moments of a zone that are called by each time there: asked of the server the other way round, moment by moment. */
async function momentsOf(zone: string, times: readonly number[]): Promise<number[][]> {
  const rows = await source.admin.unsafe<{ moments: string[] }[]>(
    `select array(select extract(epoch from m)::bigint / 60 from generate_series((t.x - interval '27 hours') at time zone 'UTC', (t.x + interval '27 hours') at time zone 'UTC', '15 minutes') m
                   where m at time zone '${zone}' = t.x order by m)::text[] as moments
       from unnest($1::text[]) with ordinality v (text, n) cross join lateral (select v.text::timestamp as x) t order by n`,
    [times.map(stamp)],
  );
  return rows.map(({ moments }) => moments.map(Number));
}

describe("a time in a zone", () => {
  it.each(ZONES)(
    "of %s is the one moment that is called so there, and is left as it stands where there is none or are two",
    async (zone) => {
      const times = (await timesOf(zone)).filter((minutes) => minutes % 15 === 0);
      const moments = await momentsOf(zone, times);
      const seen = new Set<number>();
      const plain = await made(times, "timestamp", inZone("t.x", zone, "a test").sql);
      const early = await made(times, "timestamp", inZone("t.x", zone, "a test", { skipped: "back", repeated: "first" }).sql);
      const late = await made(times, "timestamp", inZone("t.x", zone, "a test", { skipped: "forward", repeated: "second" }).sql);
      const servers = await made(times, "timestamp", `(t.x at time zone '${zone}')::text`);
      times.forEach((minutes, n) => {
        const found = moments[n] ?? [];
        seen.add(found.length);
        const [first, second] = [found[0], found.at(-1)].map((one) => (one === undefined ? undefined : `${stamp(one)}:00+00`));
        const title = `${stamp(minutes)} in ${zone}`;
        expect(plain[n], title).toBe(found.length === 1 ? first : `${stamp(minutes)}:00`);
        if (found.length === 0) {
          expect(Date.parse(early[n] ?? ""), title).toBeLessThan(Date.parse(late[n] ?? ""));
          expect(late[n], title).toBe(servers[n]);
        } else expect([early[n], late[n]], title).toEqual([first, second]);
      });
      expect(seen).toEqual(["UTC", "Asia/Kathmandu"].includes(zone) ? seen : new Set([0, 1, 2]));
    },
  );

  it.each(ZONES)(
    "of %s is what a moment was called there, and that moment again, or is left as it stands where two were called so",
    async (zone) => {
      const times = (await timesOf(zone)).filter((minutes) => minutes % 15 === 0);
      const walls = await made(times, "timestamptz", `(t.x at time zone '${zone}')::text`);
      const minutesOf = (text: string) => Date.parse(`${text}Z`) / MINUTE;
      const moments = await momentsOf(zone, walls.map(minutesOf));
      const plain = await made(times, "timestamptz", inZone("t.x", zone, "a test").sql);
      const ruled = await made(times, "timestamptz", inZone("t.x", zone, "a test", { repeated: "second" }).sql);
      times.forEach((minutes, n) => {
        const title = `${stamp(minutes)} UTC in ${zone}`;
        expect(moments[n], title).toContain(minutes);
        expect(plain[n], title).toBe(moments[n]?.length === 1 ? walls[n] : `${stamp(minutes)}:00+00`);
        expect(ruled[n], title).toBe(walls[n]);
      });
    },
  );

  it("needs a reason, and a zone by its name", () => {
    expect(() => inZone("t.x", "Europe/Zurich", " ")).toThrow("say why in that one");
    for (const zone of ["'; --", "UTC+2", "EST", "IST", "Zurich"])
      expect(() => inZone("t.x", zone, "a test"), zone).toThrow("no name of a time zone");
  });
});
