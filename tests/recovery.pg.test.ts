import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ErrorCode } from "../shared/errors.ts";
import { CATEGORIES, categoryOf, categoryOfState, CLASSES, CODES, pauseSeconds, STATES } from "../shared/recovery.ts";
import { createTestTarget } from "./support/databases.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStrangers, ENTITY, type Stranger } from "./support/stranger.ts";

it("what the functions and the database say of a code or a SQLSTATE is one table", async () => {
  await using target = await createTestTarget();
  const states = [
    ...Object.keys(STATES),
    ...Object.keys(CLASSES).map((one) => `${one}000`),
    "LX000",
    "72XYZ",
    "9A001",
    "A1000",
    "ZZZZZ",
    "",
  ];
  const asked = await target.admin<{ name: string; category: string }[]>`
    select name, sync.category_of_state(name) as category from unnest(${states}::text[]) name
    union all select name, sync.category_of_code(name) from unnest(${Object.keys(CODES)}::text[]) name`;
  const told = [...states.map((name) => [name, categoryOfState(name)]), ...Object.entries(CODES)];
  expect(asked.map(({ name, category }) => [name, category]).sort()).toEqual(told.sort());
  const [passes] = await target.admin<{ states: string[] }[]>`
    select array_agg(name order by name) as states from unnest(${["40001", "55P03", "57014", "53100", "08006", "XX000", "XX001", "42703", "23503", "22000", "P0001"]}::text[]) name
     where sync.passes_by_itself(name)`;
  expect(passes?.states).toEqual(["08006", "40001", "53100", "55P03", "57014"]);
});

it("of what a database has refused the SQLSTATE says what is done, of all else the code", () => {
  const code = (one: ErrorCode, sqlstate?: string) => categoryOf({ code: one, sqlstate });
  expect(code("SOURCE_REFUSED", "42703")).toBe("schema");
  expect(code("TARGET_REFUSED", "23503")).toBe("parent");
  expect(code("TARGET_REFUSED", "F0000")).toBe("other");
  expect(code("TARGET_REFUSED")).toBe("other");
  expect(code("TARGET_UNAVAILABLE", "42703")).toBe("transient");
  expect(
    Object.keys(CATEGORIES).filter(
      (one) => !Object.values<string>({ ...CODES, ...CLASSES, ...STATES }).includes(one) && one !== "parent" && one !== "damage",
    ),
  ).toEqual([]);
});

it("a page that fails again waits twice as long, up to five minutes, and less by chance, so that pages do not come back together", () => {
  expect([0, 1, 2, 3, 8, 9, 30].map((failures) => pauseSeconds(failures, 0))).toEqual([1, 2, 4, 8, 256, 300, 300]);
  expect([0, 1, 2, 3, 8, 9, 30].map((failures) => pauseSeconds(failures, 1))).toEqual([1, 1, 2, 4, 128, 150, 150]);
  expect(new Set(Array.from({ length: 50 }, () => pauseSeconds(9))).size).toBeGreaterThan(10);
});

describe("what the target says of a page", () => {
  const OTHER: Stranger = { name: "others", source: "old_other", target: "new_other", columns: { name: { type: "text" } } };
  let test: Pipeline;
  let record = 1;

  beforeAll(async () => {
    test = await createStrangers([{ source: "old", target: "new", columns: { name: { type: "text" } } }, OTHER]);
    for (const table of ["old", "old_other"]) await test.source.admin.unsafe(`insert into public.${table} values (1, 'x')`);
    await test.sync();
    await test.target.admin`create table public.said (state text)`;
    await test.target.admin`
      create function public.refuse() returns trigger language plpgsql security definer as $$
      begin raise exception 'no' using errcode = (select state from public.said); end $$`;
    await test.target.admin`create trigger refuse before insert on public.new for each row execute function public.refuse()`;
  });
  afterAll(() => test?.[Symbol.asyncDispose]());

  /** One of each class, and each that is no such as its class. PL/pgSQL raises no success. */
  const said = [...Object.keys(STATES), ...Object.keys(CLASSES).map((one) => `${one}0ZZ`), "LX000", "A1000"].filter(
    (state) => !state.startsWith("00"),
  );
  it.each(said.map((state) => [state, categoryOfState(state)] as const))(
    "%s, which is %s: does what docs/errors.md says, and the other entity goes on",
    async (state, category) => {
      record++;
      for (const table of ["old", "old_other"])
        await test.source.admin.unsafe(`insert into public.${table} values (${record}, 'x')`);
      await test.target.admin`delete from public.said`;
      await test.target.admin`insert into public.said values (${state})`;
      const { execution } = await test.start();
      const failed = (await test.drain()).filter((one) => one.outcome === "failed");
      const queued = (await test.live(ENTITY)).some(({ id }) => id === record);
      const { status } = await test.status(execution);
      await test.target.admin`update public.sync_executions set status = 'cancelled' where status = 'running'`;
      const again = failed.map(({ retrySeconds }) => retrySeconds !== null);
      const expected = {
        transient: { queued: false, again: [true], status: "running" },
        schema: { queued: false, again: [false], status: "failed" },
        other: { queued: false, again: [false], status: "failed" },
      };
      expect({ queued, again, status }).toEqual(
        category in expected ? expected[category as keyof typeof expected] : { queued: true, again: [], status: "succeeded" },
      );
      expect([...(await test.target.admin`select from public.new_other where legacy_id = ${record}`)]).toHaveLength(1);
    },
  );
});
