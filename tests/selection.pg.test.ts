import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { describeIssues } from "../shared/errors.ts";
import { sourceKinds } from "../clinic/schema/column-kinds.gen.ts";
import { LARGEST_PAGE, MOST_LEGACY_IDS, selectiveSync } from "../shared/plan/selective-sync.ts";
import { createTestTarget } from "./support/databases.ts";
import { SEED } from "./support/hostile.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

describe("a selection", () => {
  let test: Pipeline;

  beforeAll(async () => {
    test = await createPipeline();
    const { seed } = test;
    await seed.office(1);
    await seed.office(2);
    await seed.course(1);
    for (let id = 1; id <= 6; id++) await seed.patient(id, { userId: 100 + id, officeId: id % 2 === 0 ? 2 : 1 });
    for (let id = 1; id <= 6; id++) await seed.instruction(10 + id, id, { status: id % 2, price: "1.00" });
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());
  beforeEach(() => {
    expect(test.queue).toEqual([]);
  });

  const sql = (statement: string) => test.source.admin.unsafe(statement);
  /** What the last execution read, by entity; those with nothing are left out. */
  const read = async (execution: string) =>
    Object.fromEntries(
      (
        await test.target.admin<{ entity: string; n: number }[]>`
          select e.entity_type as entity, sum(l.read)::integer as n from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
           where l.execution_id = ${execution} group by 1 having sum(l.read) > 0 order by 1`
      ).map(({ entity, n }) => [entity, n]),
    );
  const notes = async () =>
    Object.fromEntries(
      (
        await test.target.admin<{ id: number; notes: string | null }[]>`
          select legacy_instruction_id::integer as id, notes from public.orders order by 1`
      ).map((row) => [row.id, row.notes]),
    );
  const pending = async () => (await test.target.admin`select from public.sync_pending_keys`).length;
  const checkpoints = () => test.target.admin`select * from public.sync_checkpoints order by entity_type`;

  it("reads the ids that are named, moves no checkpoint and compares nothing", async () => {
    const before = await checkpoints();
    await sql("update public.dispatch_instruction set notes = 'new' where id in (11, 12, 13)");
    const { execution, chains } = await test.sync({ legacyIds: { orders: ["11", "12"] } });
    expect(chains).toEqual([{ entity: "orders", capture: "keys" }]);
    expect(await read(execution)).toEqual({ orders: 2 });
    expect(await notes()).toMatchObject({ 11: "new", 12: "new", 13: null });
    expect(await checkpoints()).toEqual(before);
    expect(await pending()).toBe(0);
    expect((await test.target.admin`select from public.sync_reports where execution_id = ${execution}`).length).toBe(0);
    await test.sync({ entities: ["orders"] });
    expect(await notes()).toMatchObject({ 13: "new" });
  });

  it("reads what filters let in, page by page, every column's values together", async () => {
    const { execution } = await test.sync({ filters: { orders: { status: ["1"] } }, pageSize: 2 });
    expect(await read(execution)).toEqual({ orders: 3 });
    const pages = await test.target.admin`select from public.sync_page_log where execution_id = ${execution}`;
    expect(pages.length).toBe(2);
    const both = await test.sync({ filters: { orders: { status: ["0", "1"], patient_id: ["2", "3", "99"] } } });
    expect(await read(both.execution)).toEqual({ orders: 2 });
  });

  it("reads what is dated within the range: from is in it, to is not", async () => {
    await sql("update public.dispatch_instruction set updated_at = '2021-05-01T10:00:00Z' where id = 14");
    await sql("update public.dispatch_instruction set updated_at = '2021-05-02T10:00:00Z' where id = 15");
    const range = { from: "2021-05-01T12:00:00+02:00", to: "2021-05-02T10:00:00Z" };
    expect(await read((await test.sync({ entities: ["orders"], dateRange: range })).execution)).toEqual({ orders: 1 });
    const open = await test.sync({ filters: { orders: { patient_id: ["5"] } }, dateRange: { from: range.from } });
    expect(await read(open.execution)).toEqual({ orders: 1 });
  });

  it("brings the parents that have not landed, up the tree", async () => {
    await test.seed.office(3);
    await test.seed.patient(7, { userId: 107, officeId: 3 });
    await test.seed.instruction(17, 7);
    const { execution } = await test.sync({ legacyIds: { orders: ["17"] } });
    expect(await read(execution)).toMatchObject({ offices: 1, profiles: 1, patients: expect.any(Number) as number });
    expect(Object.keys(await notes())).toContain("17");
    expect(await test.live("orders")).toEqual([]);
    expect(await pending()).toBe(0);
  });

  it("ends although a parent does not exist, and leaves the record waiting", async () => {
    await test.seed.orphan("dispatch_instruction", {
      id: 18,
      patient_id: 999,
      status: 1,
      deleted: false,
      updated_at: "2020-01-01",
      suffix: "",
      cbct: false,
    });
    await test.seed.orphan("dispatch_category", { id: 1, name: "a", parent_id: 99 });
    await test.seed.orphan("dispatch_category", { id: 2, name: "b", parent_id: 1 });
    // An order without its patient's row is no record at all; a category may wait for one that the source does not
    // have.
    await test.sync({ legacyIds: { orders: ["18"], categories: ["1"] } });
    expect((await test.live("categories")).map(({ id }) => id)).toEqual([1]);
    expect(await pending()).toBe(0);
    await sql("update public.dispatch_category set parent_id = null where id = 1");
    await test.sync({ legacyIds: { categories: ["1"] } });
    expect(await test.live("categories")).toEqual([]);
  });

  it("reads the records that refer to the selected ones, down the tree, where that is asked for", async () => {
    await sql("update public.dispatch_instruction set notes = 'with its patient' where id in (11, 12)");
    const alone = await test.sync({ legacyIds: { patients: ["1"] } });
    expect(await read(alone.execution)).toEqual({ patients: 1 });
    await test.seed.payment(1, { instructionId: 11 });
    await test.seed.operation(1, { paymentId: 1 });
    const { execution } = await test.sync({ legacyIds: { patients: ["1"] }, dependants: true });
    expect(await read(execution)).toMatchObject({ patients: 1, orders: 1, payments: 1, operations: 1 });
    expect(await notes()).toMatchObject({ 11: "with its patient", 12: "new" });
    const filtered = await test.sync({ filters: { patients: { office_id: ["2"] } }, dependants: true });
    expect(await read(filtered.execution)).toMatchObject({ patients: 3, orders: 3 });
    const circle = await test.sync({ legacyIds: { categories: ["1"] }, dependants: true });
    expect(await read(circle.execution)).toEqual({ categories: 2 });
  });

  it("a plan of it writes nothing, and tells what would come with it", async () => {
    await test.seed.patient(8, { userId: 108, officeId: 1 });
    await test.seed.instruction(19, 8, { price: "2.50" });
    const { execution } = await test.start({ legacyIds: { orders: ["19"], patients: ["1"] }, dependants: true, dryRun: true });
    await test.drain();
    const [report] = await test.target.admin<{ body: { entities: { entity: string; counts: Record<string, number> }[] } }[]>`
      select body from public.sync_reports where execution_id = ${execution} and kind = 'plan'`;
    const counts = Object.fromEntries((report?.body.entities ?? []).map((one) => [one.entity, one.counts]));
    expect(counts).toMatchObject({ orders: { inserted: 1 }, patients: { inserted: 1 }, payments: { unchanged: 1 } });
    expect(Object.keys(await notes())).not.toContain("19");
    expect(await pending()).toBe(0);
  });

  it("opens what comes with it as a run of its own would, and leaves alone what has to be adopted first", async () => {
    await using fresh = await createPipeline();
    await fresh.seed.office(1);
    await fresh.seed.patient(1, { userId: 101, officeId: 1 });
    await fresh.seed.instruction(11, 1);
    await fresh.target
      .admin`insert into public.offices (legacy_office_id, name, is_active, email_notifications) values (900, 'of an earlier migration', true, true)`;
    await expect(fresh.start({ legacyIds: { offices: ["1"] } })).rejects.toMatchObject({ code: "TARGET_NOT_EMPTY" });
    await fresh.sync({ legacyIds: { orders: ["11"] } });
    const opened = await fresh.target.admin<{ entity: string }[]>`
      select entity_type as entity from public.sync_entities where adoption_epoch > 0 order by 1`;
    expect(opened.map(({ entity }) => entity)).toEqual(["orders", "patients", "profiles"]);
    expect(await fresh.live("patients")).toMatchObject([{ id: 1, state: "waiting", parent: "offices", parentId: 1 }]);
    expect((await fresh.target.admin`select from public.sync_pending_keys`).length).toBe(0);
  });

  it("starts chains in the order of the priorities", async () => {
    const order = async (priorities: string[]) => {
      const { execution } = await test.start({ entities: ["offices", "courses", "products"], capture: "full", priorities });
      const entities = await test.target.admin<{ id: string; entity: string; capture: string }[]>`
        select c.id, e.entity_type as entity, c.capture from public.sync_chains c join public.sync_entities e on e.id = c.entity_id
         where execution_id = ${execution} and capture = 'full'`;
      const names = test.queue.flatMap(({ chain }) => entities.find(({ id }) => id === chain)?.entity ?? []);
      await test.drain();
      return names;
    };
    expect((await order(["offices", "courses"])).slice(0, 2)).toEqual(["offices", "courses"]);
    expect((await order(["courses", "offices"])).slice(0, 2)).toEqual(["courses", "offices"]);
  });
});

describe("what a request may say", () => {
  const parse = (body: unknown) => {
    const result = selectiveSync(entities, sourceKinds).safeParse(body);
    return result.success ? result.data : describeIssues(result.error.issues);
  };
  let entities: Pipeline["context"]["entities"];
  beforeAll(async () => {
    const { registry } = await import("../clinic/entities/registry.gen.ts");
    entities = new Map(registry.map((entity) => [entity.name, entity]));
  });

  it("1,000 times: PostgreSQL has every one that is accepted", async () => {
    const two = (most: number) => fc.integer({ min: 0, max: most }).map((n) => String(n).padStart(2, "0"));
    const year = fc.oneof(
      fc.constantFrom("0000", "0001", "9999"),
      fc.integer({ min: 0, max: 9_999 }).map((n) => String(n).padStart(4, "0")),
    );
    const second = fc.oneof(
      fc.constant(""),
      two(60).map((s) => `:${s}`),
      fc.tuple(two(59), fc.stringMatching(/^[0-9]{1,9}$/)).map(([s, f]) => `:${s}.${f}`),
    );
    const offset = fc.oneof(
      fc.constantFrom("Z", "", "+16:00", "-15:59"),
      fc.tuple(two(24), two(60)).map(([h, m]) => `+${h}:${m}`),
    );
    const time = fc
      .tuple(year, two(13), two(31), two(24), two(60), second, offset)
      .map(([y, mo, d, h, mi, s, o]) => `${y}-${mo}-${d}T${h}:${mi}${s}${o}`);
    const accepted = fc
      .sample(time, { seed: SEED, numRuns: 1_000 })
      .filter((from) => typeof parse({ dateRange: { from }, entities: ["orders"] }) !== "string");
    expect(accepted.length).toBeGreaterThan(100);
    await using target = await createTestTarget();
    const refused = await target.admin<{ at: string }[]>`
      select at from unnest(${accepted}::text[]) at where not pg_input_is_valid(at, 'timestamptz')`;
    expect(refused.map(({ at }) => at)).toEqual([]);
  });

  it("ids are integers or decimal texts within bigint", () => {
    expect(parse({ legacyIds: { patients: [1, "9223372036854775807", "-0012"] } })).toEqual({
      legacyIds: { patients: ["1", "9223372036854775807", "-12"] },
    });
  });

  it.each([
    [{ legacyIds: { patients: [1, 2, "x"] } }, "legacyIds.patients[2]: must be an integer within bigint"],
    [{ legacyIds: { patients: [1.5] } }, "legacyIds.patients[0]: must be an integer"],
    [{ legacyIds: { patients: ["9223372036854775808"] } }, "legacyIds.patients[0]: must be an integer within bigint"],
    [{ legacyIds: { unicorns: [1] } }, "legacyIds.unicorns: there is no entity"],
    [
      { legacyIds: { patients: Array.from({ length: MOST_LEGACY_IDS + 1 }, (_, id) => id) } },
      `legacyIds: has ${MOST_LEGACY_IDS + 1} ids`,
    ],
    [{ entities: ["patients", "unicorns"] }, "entities[1]: there is no entity"],
    [{ priorities: ["unicorns"] }, "priorities[0]: there is no entity"],
    [{ filters: { orders: { notes: "x" } } }, "filters.orders.notes: orders declares no such filter; it has patient_id"],
    [{ filters: { orders: { status: ["1", "shipped"] } } }, "filters.orders.status[1]: must be an integer"],
    [{ filters: { orders: { status: { gt: 1 } } } }, "filters.orders.status: must be"],
    [{ filters: { orders: {} } }, "filters.orders: is empty: name a column"],
    [{ filters: {} }, "filters: is empty: name an entity"],
    [{ filters: { orders: { status: [] } } }, "filters.orders.status: is empty"],
    [{ legacyIds: {} }, "legacyIds: is empty: name an entity"],
    [{ legacyIds: { patients: [] } }, "legacyIds.patients: is empty"],
    [JSON.parse('{"legacyIds": {"__proto__": [1]}}'), "legacyIds.__proto__: is not the name of an entity"],
    [JSON.parse('{"legacyIds": {"patients": [1], "__proto__": [1]}}'), "legacyIds.__proto__: is not the name of an entity"],
    [JSON.parse('{"filters": {"__proto__": {"status": 1}}}'), "filters.__proto__: is not the name of an entity"],
    [JSON.parse('{"filters": {"orders": {"__proto__": 1}}}'), "filters.orders.__proto__: is not the name of a column"],
    [JSON.parse('{"__proto__": {"entities": ["patients"]}}'), "__proto__"],
    [{ legacyIds: { constructor: [1] } }, "legacyIds.constructor: there is no entity"],
    [{ filters: { orders: { constructor: 1 } } }, "filters.orders.constructor: orders declares no such filter"],
    [{ entities: [] }, "entities: is empty"],
    [{ priorities: [] }, "priorities: is empty"],
    [{ legacyIds: { patients: [2 ** 53] } }, "legacyIds.patients[0]: must be an integer; beyond 2^53 write it as a text"],
    [{ filters: { orders: { patient_id: 2 ** 53 } } }, "filters.orders.patient_id: "],
    [{ filters: { orders: { status: "\ud800" } } }, "filters.orders.status[0]: must be an integer"],
    [{ filters: { products: { code: "\ud800" } } }, "filters.products"],
    ...["0000-01-01T00:00:00Z", "2026-01-01T00:00:00+16:00", "2026-01-01T00:00:00-23:59", "2026-01-01T00:00:00.1234567Z"].map(
      (from): [unknown, string] => [
        { dateRange: { from }, entities: ["orders"] },
        "dateRange.from: must be a time from the year 1 on",
      ],
    ),
    [{ filters: { tasks: { checked: "perhaps" } } }, "filters.tasks.checked[0]: must be true or false"],
    [{ dateRange: {} }, "dateRange: needs from, to or both"],
    [{ dateRange: { from: "2026-01-01" }, entities: ["orders"] }, "dateRange.from: must be a time with an offset"],
    [
      { dateRange: { from: "2026-01-02T00:00:00Z", to: "2026-01-01T00:00:00Z" }, entities: ["orders"] },
      "dateRange: from must lie before to",
    ],
    [{ dateRange: { from: "2026-01-01T00:00:00Z" }, entities: ["orders", "offices"] }, "dateRange: offices declare no column"],
    [{ dateRange: { from: "2026-01-01T00:00:00Z" }, legacyIds: { orders: [1] } }, "dateRange: does not belong to legacyIds"],
    [{ entities: ["orders", "patients"], legacyIds: { orders: [1] } }, "entities[1]: patients has neither legacyIds nor filters"],
    [{ entities: ["orders"], legacyIds: { patients: [1] } }, "legacyIds.patients: is not among entities"],
    [{ legacyIds: { orders: [1] }, filters: { orders: { status: 1 } } }, "legacyIds.orders: has filters as well"],
    [{ legacyIds: { orders: [1] }, capture: "full" }, "capture: "],
    [{ legacyIds: { orders: [1] }, adopt: true }, "adopt: does not belong to"],
    [{ dependants: true }, "dependants: belongs to legacyIds"],
    [{ pageSize: LARGEST_PAGE + 1 }, "pageSize: "],
    [{ capture: "quick" }, "capture: "],
    [{ colour: "red" }, "colour"],
  ])("%j is refused by the name of its field", (body, message) => {
    expect(parse(body)).toContain(message);
  });
});
