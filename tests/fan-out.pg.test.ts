import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Random } from "../clinic/dataset/random.ts";
import type { BegunExecution } from "../shared/plan/begin.ts";
import { Gate, gated, PAGE_STATEMENTS } from "./support/gate.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** What an incremental execution of one entity did: its chains, and the pages of its records. */
async function readBy(test: Pipeline, begun: BegunExecution, entity: string) {
  const chains = await test.target.admin<{ capture: string; range: string | null }[]>`
    select c.capture, c.range_from || '-' || c.range_to as range
      from public.sync_chains c join public.sync_entities e on e.id = c.entity_id
     where c.execution_id = ${begun.execution} and e.entity_type = ${entity} order by c.capture`;
  const [sums] = await test.target.admin<{ read: number; updated: number; unchanged: number }[]>`
    select coalesce(sum(read), 0)::integer as read, coalesce(sum(updated), 0)::integer as updated,
           coalesce(sum(unchanged), 0)::integer as unchanged
      from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
     where l.execution_id = ${begun.execution} and e.entity_type = ${entity}`;
  return { ...sums, chains: chains.map(({ capture, range }) => (range === null ? capture : `${capture} ${range}`)) };
}

/** Everything that these tests fill. */
const ENTITIES = ["offices", "profiles", "doctors", "patients", "orders"];

/** Patients 1 and 2 with three and two orders, doctors 50 and 51, offices 1 and 2; everything is synced. */
async function clinic(env: Record<string, string> = {}): Promise<Pipeline> {
  const test = await createPipeline({ env });
  for (const id of [1, 2]) await test.seed.office(id);
  for (const id of [50, 51]) await test.seed.doctor(id);
  await test.seed.group(2, "Doctor");
  await test.seed.patient(1, { userId: 20, doctorId: 50, officeId: 1, suffix: "A" });
  await test.seed.patient(2, { userId: 21, doctorId: 51, officeId: 1, suffix: "B" });
  for (const id of [11, 12, 13]) await test.seed.instruction(id, 1);
  for (const id of [14, 15]) await test.seed.instruction(id, 2);
  await test.sync({ entities: ENTITIES });
  return test;
}

const numbers = async (test: Pipeline) =>
  (
    await test.target.admin<{ number: string }[]>`select order_number as number from public.orders order by legacy_instruction_id`
  ).map(({ number }) => number);

describe("a changed row of a joined table", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await clinic();
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it("has exactly its records read again when a column that they consume changed", async () => {
    await test.source.admin`update public.dispatch_patient set suffix = 'Z' where id = 1`;
    const begun = await test.sync({ entities: ["orders"] });
    expect(await readBy(test, begun, "orders")).toEqual({ read: 3, updated: 3, unchanged: 0, chains: ["keys", "joins"] });
    expect(await numbers(test)).toEqual(["Z-11", "Z-12", "Z-13", "B-14", "B-15"]);
  });

  it("has no record read again when nothing that they consume changed, although the row was written", async () => {
    await test.source.admin`update public.dispatch_patient set updated_at = now(), archived = true`;
    await test.source.admin`update public.auth_user set last_login = now()`;
    const begun = await test.sync({ entities: ["orders"] });
    expect(await readBy(test, begun, "orders")).toEqual({ read: 0, updated: 0, unchanged: 0, chains: ["joins"] });
    expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(0);
    expect((await test.sync({ entities: ["orders"] })).chains).toEqual([]);
  });

  it("is consumed by each of its dependants for itself", async () => {
    const begun = await test.sync({ entities: ENTITIES });
    // The users and patients themselves changed; who is a doctor asks only whether a patient names a doctor.
    expect((await readBy(test, begun, "patients")).chains).toContain("xmin");
    expect(await readBy(test, begun, "doctors")).toMatchObject({ read: 2, unchanged: 2 });
    expect(await readBy(test, begun, "orders")).toMatchObject({ read: 0, chains: [] });
  });

  it("has the records of its old and of its new link read again when it moves", async () => {
    await test.source.admin`update public.dispatch_doctorsetting set user_id = 21 where id = 51`;
    const begun = await test.sync({ entities: ["doctors"] });
    // 21 has become a doctor; 51 still is one, by a patient, without the setting.
    expect(await readBy(test, begun, "doctors")).toMatchObject({ read: 2, chains: ["keys", "joins"] });
    await test.source.admin`update public.dispatch_doctorsetting set credit = '5.00' where id = 51`;
    expect(await readBy(test, await test.sync({ entities: ["doctors"] }), "doctors")).toMatchObject({ read: 1, updated: 1 });
    await test.source.admin`update public.dispatch_patient set doctor_id = null where id = 1`;
    expect(await readBy(test, await test.sync({ entities: ["doctors"] }), "doctors")).toMatchObject({ read: 1, unchanged: 1 });
  });

  it("two steps away reaches its records through the step between", async () => {
    await test.source.admin`insert into public.auth_user_groups (id, user_id, group_id) values (1, 50, 2)`;
    expect(await readBy(test, await test.sync({ entities: ["doctors"] }), "doctors")).toMatchObject({ read: 1 });
    await test.source.admin`update public.auth_group set name = 'Physician' where id = 2`;
    const begun = await test.sync({ entities: ["doctors"] });
    expect(await readBy(test, begun, "doctors")).toMatchObject({ read: 1, chains: ["keys", "joins"] });
  });

  it("is not asked about twice for records that were written themselves", async () => {
    await test.source.admin`update public.dispatch_patient set suffix = 'Y' where id = 1`;
    await test.source.admin`update public.dispatch_instruction set notes = 'n' where id in (11, 12)`;
    const begun = await test.sync({ entities: ["orders"] });
    expect(await readBy(test, begun, "orders")).toMatchObject({ read: 3, updated: 3, chains: ["xmin", "keys", "joins"] });
    expect((await numbers(test)).slice(0, 3)).toEqual(["Y-11", "Y-12", "Y-13"]);
  });

  it("that is gone is forgotten by the next full pass, so that one that comes back counts as new", async () => {
    await test.source.admin`delete from public.auth_user_groups where id = 1`;
    await test.sync({ entities: ["doctors"], capture: "full" });
    await test.source.admin`insert into public.auth_user_groups (id, user_id, group_id) values (1, 50, 2)`;
    expect(await readBy(test, await test.sync({ entities: ["doctors"] }), "doctors")).toMatchObject({ read: 1 });
  });
});

describe("more records than may be listed", () => {
  it("are read as one range of keys, in the same execution", async () => {
    await using test = await clinic({ ISTHMUS_FANOUT_KEYS: "4", ISTHMUS_JOIN_ROWS: "1" });
    await test.source.admin`update public.dispatch_patient set suffix = 'Z'`;
    const begun = await test.start({ entities: ["orders"] });
    await test.runJoins();
    // The first page listed three; the second would make it five, and takes over what the first has listed only
    // within its range.
    expect(
      await test.target.admin`select legacy_id::integer as id, reason from public.sync_pending_keys order by 1`,
    ).toMatchObject([11, 12, 13].map((id) => ({ id, reason: "fan_out" })));
    await test.drain();
    expect(await readBy(test, begun, "orders")).toMatchObject({ read: 5, updated: 5, chains: ["full 14-15", "keys", "joins"] });
    expect(await test.status(begun.execution)).toMatchObject({ status: "succeeded" });
    expect(await numbers(test)).toEqual(["Z-11", "Z-12", "Z-13", "Z-14", "Z-15"]);
    expect((await test.sync({ entities: ["orders"] })).chains).toEqual([]);
  });

  it("become one range over all pages that have too many", async () => {
    await using test = await clinic({ ISTHMUS_FANOUT_KEYS: "1", ISTHMUS_JOIN_ROWS: "1" });
    await test.source.admin`update public.dispatch_patient set suffix = 'Z'`;
    const begun = await test.sync({ entities: ["orders"] });
    expect(await readBy(test, begun, "orders")).toMatchObject({ read: 5, updated: 5, chains: ["full 11-15", "joins"] });
  });

  it("are all read by the next execution when this one breaks off before it has read them", async () => {
    await using test = await clinic({ ISTHMUS_FANOUT_KEYS: "1" });
    await test.source.admin`update public.dispatch_patient set suffix = 'Z'`;
    const { execution } = await test.start({ entities: ["orders"] });
    await test.runJoins();
    await test.target.admin`update public.sync_chains set state = 'failed', closed_at = now(), due_at = null
                             where execution_id = ${execution} and capture = 'full'`;
    await test.target.admin`select sync.advance_execution(${execution})`;
    test.queue.length = 0;
    expect((await test.status(execution)).status).toBe("failed");
    expect((await test.sync({ entities: ["orders"] })).chains).toContainEqual(
      expect.objectContaining({ entity: "orders", capture: "full" }),
    );
    expect(await numbers(test)).toEqual(["Z-11", "Z-12", "Z-13", "Z-14", "Z-15"]);
  });
});

describe("what was noted of a joined row is never newer than what its records were read with", () => {
  it.each(["full", "auto"] as const)("a change during a pass (%s) is found by the next", async (capture) => {
    await using test = await clinic();
    await test.source.admin`update public.dispatch_patient set suffix = 'X'`;
    const { execution } = await test.start({ entities: ["orders"], capture });
    for (let step = 0; test.queue.length > 0; step++) {
      await test.source.admin`update public.dispatch_patient set suffix = ${`s${step}`} where id = 1`;
      await test.runOne();
    }
    expect((await test.status(execution)).status).toBe("succeeded");
    const [{ suffix } = { suffix: "" }] = await test.source.admin<
      { suffix: string }[]
    >`select suffix from public.dispatch_patient where id = 1`;
    await test.sync({ entities: ["orders"] });
    expect((await numbers(test)).slice(0, 3)).toEqual([`${suffix}-11`, `${suffix}-12`, `${suffix}-13`]);
  });

  it("records are not read before all joined rows have been gone through", async () => {
    await using test = await clinic({ ISTHMUS_JOIN_ROWS: "1" });
    await test.start({ entities: ["orders", "doctors"], capture: "full" });
    const open = async () =>
      (
        await test.target.admin<{ open: string }[]>`
          select distinct e.entity_type || ' ' || c.capture as open from public.sync_chains c
            join public.sync_entities e on e.id = c.entity_id where c.state = 'open' order by 1`
      ).map((row) => row.open);
    expect(await open()).toEqual(["doctors joins", "orders joins"]);
    await test.runJoins();
    expect(await open()).toEqual(["doctors full"]);
    await test.drain();
  });

  it("a full pass that breaks off is followed by a full pass", async () => {
    await using test = await clinic();
    const { execution } = await test.start({ entities: ["orders"], capture: "full" });
    await test.source.admin`update public.dispatch_patient set suffix = 'X'`;
    await test.runJoins();
    await test.target.admin`update public.sync_chains set state = 'failed', closed_at = now(), due_at = null
                             where execution_id = ${execution} and capture = 'full'`;
    await test.target.admin`select sync.advance_execution(${execution})`;
    test.queue.length = 0;
    await test.sync({ entities: ["orders"] });
    expect(await numbers(test)).toEqual(["X-11", "X-12", "X-13", "X-14", "X-15"]);
  });
});

describe("joined rows that could not be gone through", () => {
  it("let no record of the entity be read, and the next execution finds everything", async () => {
    await using test = await clinic();
    await test.source.admin`update public.dispatch_patient set suffix = 'X' where id = 1`;
    await test.source.admin`update public.dispatch_instruction set price = 7 where id = 14`;
    const begun = await test.start({ entities: ["orders"] });
    const message = test.queue.shift();
    if (!message) throw new Error("no page");
    await test.source.admin`alter table public.dispatch_patient rename column suffix to suffix_now`;
    expect(await test.runOne(message)).toMatchObject({ outcome: "failed", retrySeconds: null });
    expect(await readBy(test, begun, "orders")).toMatchObject({ read: 0 });
    expect((await test.status(begun.execution)).status).toBe("failed");
    await test.source.admin`alter table public.dispatch_patient rename column suffix_now to suffix`;
    await test.sync({ entities: ["orders"] });
    expect((await numbers(test)).slice(0, 3)).toEqual(["X-11", "X-12", "X-13"]);
    await expectNothingMissed(test);
  });

  it("because this deployment joins another table have everything read again by the next execution", async () => {
    await using test = await clinic();
    await test.source.admin`update public.dispatch_patient set suffix = 'X' where id = 1`;
    const { execution } = await test.start({ entities: ["orders"] });
    const orders = test.context.entities.get("orders");
    const message = test.queue.shift();
    if (!orders || !message) throw new Error("no page of orders");
    const older = { ...orders, source: { ...orders.source, joins: {} } };
    const context = {
      ...test.context,
      entities: new Map([...test.context.entities, ["orders", older] as const]),
      hashes: new Map([...test.context.hashes, ["orders", "older"] as const]),
    };
    expect(await test.run(message, context)).toMatchObject({ outcome: "fanned_out", asked: 0 });
    await test.drain();
    expect((await test.status(execution)).status).toBe("succeeded");
    expect((await test.sync({ entities: ["orders"] })).chains).toContainEqual(
      expect.objectContaining({ entity: "orders", capture: "full" }),
    );
    expect((await numbers(test)).slice(0, 3)).toEqual(["X-11", "X-12", "X-13"]);
  });
});

/** What auto does not see (docs/invariants.md, Gaps): a joined row comes back to what is noted of it after a record was read with something else. */
describe("a joined row that is put back after a record was read with it", () => {
  const tiers = async (test: Pipeline) =>
    (
      await test.target.admin<{ tier: string | null }[]>`select tier_type as tier from public.doctors order by legacy_user_id`
    ).map(({ tier }) => tier);
  const OTHER = {
    changed: "update public.dispatch_doctorsetting set tier_type = 'other' where id = 50",
    deleted: "delete from public.dispatch_doctorsetting where id = 50",
  };
  const prepared = async () => {
    const test = await clinic();
    await test.source.admin`insert into public.auth_user_groups (id, user_id, group_id) values (1, 50, 2)`;
    await test.source.admin`update public.dispatch_doctorsetting set tier_type = 'gold' where id = 50`;
    await test.sync({ entities: ENTITIES });
    await test.source.admin`create table public.aside as select * from public.dispatch_doctorsetting where id = 50`;
    return test;
  };
  const putBack = (test: Pipeline) =>
    test.source.admin.unsafe(
      "delete from public.dispatch_doctorsetting where id = 50; insert into public.dispatch_doctorsetting select * from public.aside",
    );

  it.each([
    ["changed", "its id", "other"],
    ["changed", "pages that run", "other"],
    ["deleted", "its id", null],
    ["deleted", "a digest", null],
    ["deleted", "pages that run", null],
  ] as const)("%s, and read by %s: the next digest reads the record again", async (how, by, meanwhile) => {
    await using test = await prepared();
    if (by === "pages that run") {
      await test.source.admin`update public.auth_user set is_active = false where id = 50`;
      await test.start({ entities: ["doctors"] });
      await test.runJoins();
      await test.source.admin.unsafe(OTHER[how]);
      await test.drain();
    } else {
      await test.source.admin.unsafe(OTHER[how]);
      await test.sync(by === "its id" ? { legacyIds: { doctors: ["50"] } } : { entities: ["doctors"], capture: "digest" });
    }
    expect((await tiers(test))[0]).toBe(meanwhile);
    await putBack(test);
    await test.sync({ entities: ["doctors"] });
    const { execution } = await test.sync({ entities: ["doctors"], capture: "digest" });
    expect((await test.status(execution)).status).toBe("succeeded");
    expect((await tiers(test))[0]).toBe("gold");
    await expectNothingMissed(test);
  });
});

/** What is noted of joined rows. */
const noted = async (test: Pipeline) =>
  (
    await test.target.admin<{ line: string }[]>`
      select concat_ws(' ', entity_id, join_id, row_id, link, digest) as line from public.sync_join_rows order by 1`
  ).map(({ line }) => line);

/** Once what was written last has been synced, a full pass finds nothing to change, in the target and in what is noted. */
async function expectNothingMissed(test: Pipeline): Promise<void> {
  await test.sync({ entities: ENTITIES });
  const before = await noted(test);
  const { execution } = await test.sync({ entities: ENTITIES, capture: "full" });
  const [found] = await test.target.admin`
    select sum(read) > 0 as read, sum(inserted)::integer as inserted, sum(updated)::integer as updated
      from public.sync_page_log where execution_id = ${execution}`;
  expect(found).toEqual({ read: true, inserted: 0, updated: 0 });
  expect(await noted(test)).toEqual(before);
}

describe("a page of joined rows that dies", () => {
  it.each([
    { keys: "20", chains: ["keys", "joins"] },
    { keys: "2", chains: ["full 11-13", "joins"] },
  ])("between any two statements, with room for $keys keys, has the same end", async ({ keys, chains }) => {
    await using test = await clinic({ ISTHMUS_FANOUT_KEYS: keys });
    for (let held = 0; held < PAGE_STATEMENTS; held++) {
      await test.source.admin`update public.dispatch_patient set suffix = ${`a${held}`} where id = 1`;
      const begun = await test.start({ entities: ["orders"] });
      const message = test.queue.shift();
      if (!message) throw new Error("no page");
      const gate = new Gate(held);
      const slow = test.run(message, gated(test.context, gate));
      await Promise.race([gate.reached, slow]);
      // Its lease runs out, and another delivery takes over; then it turns out to be alive.
      await test.target
        .admin`update public.sync_chains set lease_until = now() - interval '1 second' where id = ${message.chain} and lease_until is not null`;
      await test.run(message);
      gate.open();
      await slow;
      await test.drain();
      expect(await test.status(begun.execution)).toMatchObject({ status: "succeeded" });
      expect(await readBy(test, begun, "orders"), `held after ${held}`).toEqual({ read: 3, updated: 3, unchanged: 0, chains });
      expect((await numbers(test)).slice(0, 3)).toEqual([11, 12, 13].map((id) => `a${held}-${id}`));
    }
    await expectNothingMissed(test);
  });

  it("loses no change that falls between any two of its statements", async () => {
    await using test = await clinic();
    for (let held = 0; held < PAGE_STATEMENTS; held++) {
      await test.source.admin`update public.dispatch_patient set suffix = ${`a${held}`}, doctor_id = 50 where id = 1`;
      await test.start({ entities: ["orders"] });
      const message = test.queue.shift();
      if (!message) throw new Error("no page");
      const gate = new Gate(held);
      const page = test.run(message, gated(test.context, gate));
      await Promise.race([gate.reached, page]);
      await test.source.admin`update public.dispatch_patient set suffix = ${`b${held}`}, doctor_id = 51 where id = 1`;
      gate.open();
      await page;
      await test.drain();
      await test.sync({ entities: ["orders"] });
      expect((await numbers(test)).slice(0, 3)).toEqual([11, 12, 13].map((id) => `b${held}-${id}`));
    }
  });
});

describe("whatever is written, also while pages run", () => {
  // Not every seed: in some, a joined row comes back to what is noted of it after a record was read with another
  // value (docs/invariants.md, Gaps).
  it.each([2, 4])("incremental passes leave nothing for a full pass to find (seed %i)", async (seed) => {
    await using test = await clinic({ ISTHMUS_FANOUT_KEYS: "2", ISTHMUS_JOIN_ROWS: "2", ISTHMUS_PAGE_SIZE: "2" });
    await test.source.admin`insert into public.auth_user_groups (id, user_id, group_id) values (1, 50, 2), (2, 51, 2)`;
    const random = Random.for(seed, "fan-out");
    const users = [20, 21, 50, 51];
    const edits: readonly (() => string)[] = [
      () => `update public.dispatch_patient set suffix = 's${random.between(1, 9)}' where id = ${random.between(1, 2)}`,
      () => `update public.dispatch_patient set doctor_id = ${random.pick(users)} where id = ${random.between(1, 2)}`,
      () => `update public.dispatch_patient set updated_at = now() where id = ${random.between(1, 2)}`,
      () => `update public.dispatch_instruction set patient_id = ${random.between(1, 2)} where id = ${random.between(11, 15)}`,
      () => `update public.auth_user_groups set user_id = ${random.pick([20, 21, 50])} where id = 1`,
      () => `update public.auth_group set name = '${random.pick(["Doctor", "Physician"])}' where id = 2`,
      () => `update public.dispatch_doctorsetting set tier_type = 't${random.between(1, 9)}' where id = ${random.pick([50, 51])}`,
      () => `update public.auth_user set last_login = now() where id = ${random.pick(users)}`,
    ];
    const write = () => test.source.admin.unsafe(random.pick(edits)());
    for (let round = 0; round < 12; round++) {
      await write();
      await test.start({ entities: ENTITIES });
      while (test.queue.length > 0) {
        const [message] = test.queue.splice(random.between(0, test.queue.length - 1), 1);
        if (message) await test.runOne(message);
        if (random.between(1, 3) === 1) await write();
      }
    }
    await expectNothingMissed(test);
  });
});
