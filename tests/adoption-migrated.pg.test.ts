import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { addressesOf } from "../shared/db/connect.ts";
import { migrateBadly } from "../clinic/dataset/already-migrated.ts";
import type { MigratedRows } from "../clinic/dataset/migrated-rows.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { startAdoption } from "../shared/plan/adopt.ts";
import { tick } from "../shared/tick/tick.ts";
import { adoptAs, adoptPage } from "../shared/target/adoption.ts";
import { claimPage } from "../shared/target/claims.ts";
import { adopt, adoptionState, dying, sweep } from "./support/adoption.ts";
import { endState } from "./support/digest.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

const SCALE = 0.01;
/** What the badly migrated target holds. */
const TABLES = ["offices", "profiles", "doctors", "patients", "orders", "payments", "operations"];
const entities = registry.filter(({ name }) => TABLES.includes(name));
const env = { ISTHMUS_ADOPT_PAGE_SIZE: "25" };
const make = () => createInProcess({ scale: SCALE, env, entities });

/** Every landed record as `entity legacyId`, with the columns of ours; references as the legacy ids of what they point to. */
async function landed(test: InProcess): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const entity of entities) {
    const columns = Object.entries(entity.fields).map(([name, field]) =>
      field.parent === undefined
        ? `'${name}', t."${name}"`
        : `'${name}', (select p.legacy_id from public.uuid_mappings_enhanced p where p.entity_type = '${field.parent}' and p.entity_uuid = t."${name}")`,
    );
    const rows = await test.target.admin.unsafe<{ id: string; line: string }[]>(`
      select m.legacy_id::text as id, jsonb_build_object(${columns.join(", ")})::text as line
        from public.uuid_mappings_enhanced m
        join public.sync_entities e on e.entity_type = m.entity_type
        join public.sync_row_states s on s.entity_id = e.id and s.legacy_id = m.legacy_id
        join public.${entity.target.table} t on t.id = m.entity_uuid
       where m.entity_type = '${entity.name}'`);
    for (const row of rows) found.set(`${entity.name} ${row.id}`, row.line);
  }
  return found;
}

/** Target rows per legacy id, as the migration left them. */
function rowsById(made: readonly MigratedRows[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { entity, ids } of made) {
    for (const { id, legacyId } of ids) {
      if (legacyId === null) continue;
      const key = `${entity} ${legacyId}`;
      found.set(key, [...(found.get(key) ?? []), id]);
    }
  }
  return found;
}

async function rowsNow(test: InProcess): Promise<Map<string, string | null>> {
  const found = new Map<string, string | null>();
  for (const entity of entities) {
    const rows = await test.target.admin.unsafe<{ id: string; legacy: string | null }[]>(
      `select id, ${entity.target.legacyKey}::text as legacy from public.${entity.target.table}`,
    );
    for (const row of rows) found.set(row.id, row.legacy);
  }
  return found;
}

describe("a target that a real migration filled", () => {
  let clean: Map<string, string>;
  let test: InProcess;
  let made: readonly MigratedRows[];
  let before: Map<string, string[]>;
  let ambiguous: string[];

  beforeAll(async () => {
    await using empty = await make();
    await empty.sync();
    clean = await landed(empty);
    test = await make();
    made = await migrateBadly({ url: test.target.superuserUrl, scale: SCALE });
    before = rowsById(made);
    ambiguous = [...before]
      .filter(([, ids]) => ids.length > 1)
      .map(([key]) => key)
      .sort();
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it("holds what such a target holds: duplicates, rows without origin, gaps, and references to the wrong kind of row", async () => {
    const [wrong] = await test.target.admin<{ n: number }[]>`
      select count(*)::integer as n from public.orders o where doctor_id is not null and not exists (select from public.doctors d where d.id = o.doctor_id)`;
    expect(wrong?.n).toBeGreaterThan(50);
    expect(ambiguous.length).toBeGreaterThan(15);
    expect([...before.values()].filter((ids) => ids.length === 3).length).toBeGreaterThan(3);
    expect(made.flatMap(({ ids }) => ids).filter(({ legacyId }) => legacyId === null).length).toBeGreaterThan(5);
    expect([...clean.keys()].filter((key) => !before.has(key)).length).toBeGreaterThan(20);
  });

  it("is adopted without a change to any row: every legacy id with one row is mapped to it, exactly the others are in the queue", async () => {
    const digest = async () =>
      (
        await Promise.all(
          TABLES.map((table) =>
            test.target.admin.unsafe<{ sum: string }[]>(
              `select md5(string_agg(t::text, ',' order by id)) as sum from public.${table} t`,
            ),
          ),
        )
      ).map(([row]) => row?.sum);
    const untouched = await digest();
    await adopt(test);
    expect(await digest()).toEqual(untouched);
    const mapped = await test.target.admin<{ line: string }[]>`
      select concat_ws(' ', entity_type, legacy_id, entity_uuid) as line from public.uuid_mappings_enhanced order by 1`;
    expect(mapped.map(({ line }) => line).sort()).toEqual(
      [...before].flatMap(([key, [id, ...more]]) => (more.length === 0 ? [`${key} ${id ?? ""}`] : [])).sort(),
    );
    const queued = await test.target.admin<{ line: string; ids: string[] }[]>`
      select concat_ws(' ', entity_type, source_record_id) as line, array(select c ->> 'id' from jsonb_array_elements(conflict_data -> 'candidates') c) as ids
        from public.sync_conflicts where state = 'open' and conflict_type = 'uuid_mapping_conflict'`;
    expect(queued.map(({ line }) => line).sort()).toEqual(ambiguous);
    for (const { line, ids } of queued) expect([...ids].sort(), line).toEqual([...(before.get(line) ?? [])].sort());
  });

  it("is synced onto the adopted ids: nothing twice, what was missing is inserted, what was wrong is corrected and kept", async () => {
    await test.sync();
    const now = await rowsNow(test);
    for (const { entity, ids } of made)
      for (const { id, legacyId } of ids)
        expect(now.get(id), `${entity} ${legacyId ?? "null"}`).toBe(legacyId === null ? null : String(legacyId));
    const [twice] = await test.target.admin.unsafe<{ n: number }[]>(
      `select sum(n)::integer as n from (${entities.map(({ target }) => `select count(*) - count(distinct ${target.legacyKey}) as n from public.${target.table} where ${target.legacyKey} is not null`).join(" union all ")}) x`,
    );
    expect(twice?.n).toBe([...before.values()].reduce((sum, ids) => sum + ids.length - 1, 0));
    // Whatever a clean target would hold is here with the same values, except what waits for a decision.
    const here = await landed(test);
    const undecided = [...clean.keys()].filter((key) => !here.has(key));
    const waiting = await test.target.admin<{ key: string }[]>`
      select concat_ws(' ', entity_type, source_record_id) as key from public.sync_conflicts where state in ('waiting', 'open')`;
    const queued = new Set(waiting.map(({ key }) => key));
    expect(undecided.length).toBeGreaterThan(15);
    expect(undecided.filter((key) => !queued.has(key))).toEqual([]);
    expect([...clean].filter(([key, line]) => here.has(key) && here.get(key) !== line)).toEqual([]);
    const [kept] = await test.target.admin<{ n: number }[]>`
      select count(*)::integer as n from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
       where c.entity_type = 'orders' and c.resolution_strategy = 'source_wins' and v.target ? 'doctor_id'`;
    expect(kept?.n).toBeGreaterThan(50);
  });

  it("marks as deleted what the source has lost since", async () => {
    const lost = (made.find(({ entity }) => entity === "orders")?.ids ?? [])
      .map(({ legacyId }) => legacyId ?? 0)
      .sort((a, b) => b - a)
      .slice(0, 2);
    const marked = await test.target.admin<{ id: number }[]>`
      select o.legacy_instruction_id::integer as id from public.orders o join public.uuid_mappings_enhanced m on m.entity_type = 'orders' and m.entity_uuid = o.id
       where o.deleted and o.legacy_instruction_id in ${test.target.admin(lost)} order by 1 desc`;
    expect(marked.map(({ id }) => id)).toEqual(lost);
  });

  it("changes no more in a second adoption and a second full pass", async () => {
    const state = await endState(test.target.admin);
    await adopt(test);
    await test.sync({ capture: "full" });
    expect(await endState(test.target.admin)).toEqual(state);
  });

  it("ends as a clean target once people have decided; the losing rows stay and are surplus", async () => {
    const open = await test.target.admin<{ id: string; key: string }[]>`
      select id, concat_ws(' ', entity_type, source_record_id) as key from public.sync_conflicts where state = 'open' and rule = 'adoption.ambiguous'`;
    for (const { id, key } of open) await adoptAs(test.context.target, id, before.get(key)?.[1] ?? "");
    for (let turn = 0; turn < 3; turn++) {
      await tick(test.context);
      await test.drain();
    }
    await test.sync({ capture: "full" });
    const here = await landed(test);
    expect([...clean].filter(([key, line]) => here.get(key) !== line)).toEqual([]);
    const now = await rowsNow(test);
    expect([...before.values()].flat().filter((id) => !now.has(id))).toEqual([]);
    const [surplus] = await test.target.admin<{ n: number }[]>`
      select sum((details ->> 'duplicates')::integer)::integer as n from public.sync_alerts where kind = 'surplus' and closed_at is null`;
    expect(surplus?.n).toBe([...before.values()].reduce((sum, ids) => sum + ids.length - 1, 0));
  });
});

describe("an adoption whose process dies", () => {
  it.each([25, 7, 3])("at every step, with pages of %i rows, ends like one that nobody disturbed", async (pageSize) => {
    const small = { scale: SCALE, env: { ISTHMUS_ADOPT_PAGE_SIZE: String(pageSize) }, entities };
    const only = ["offices", "payments", "operations"];
    await using calm = await createInProcess({ ...small, env });
    await using test = await createInProcess(small);
    for (const each of [calm, test]) await migrateBadly({ url: each.target.superuserUrl, scale: SCALE });
    await adopt(calm, ...only);
    const { execution } = await startAdoption(test.context, { entities: only, triggeredBy: "http:test" });
    for (let step = 0; test.queue.length > 0; step++) {
      // Dead before the claim, behind it, behind the commit, and alive.
      const message = test.queue.shift();
      const deadAfter = step % 4;
      if (message)
        await test.run(message, deadAfter === 3 ? test.context : dying(test.context, deadAfter)).catch(() => undefined);
      const early = await test.target.admin`
        select from public.sync_entities e join public.sync_chains c on c.entity_id = e.id where c.state <> 'done' and e.adoption_epoch > 0`;
      expect(early.length, "entities that may mint although their adoption is not through").toBe(0);
      await sweep(test);
    }
    expect((await test.target.admin`select status from public.sync_executions where id = ${execution}`)[0]).toEqual({
      status: "succeeded",
    });
    expect(await adoptionState(test)).toEqual(await adoptionState(calm));
  });

  it("commits nothing under a lease that another delivery has taken over, and does nothing for a message that comes late", async () => {
    await using test = await make();
    await migrateBadly({ url: test.target.superuserUrl, scale: SCALE });
    await startAdoption(test.context, { entities: ["payments"], triggeredBy: "http:test" });
    const message = test.queue.shift();
    if (!message) throw new Error("no page");
    const first = await claimPage(test.context.target, message, 60, addressesOf(test.context.config));
    await test.target.admin`update public.sync_chains set lease_until = now() - interval '1 second' where id = ${message.chain}`;
    const second = await claimPage(test.context.target, message, 60, addressesOf(test.context.config));
    if (first.outcome !== "claimed" || second.outcome !== "claimed") throw new Error("not claimed");
    await expect(adoptPage(test.context.target, first, 60)).rejects.toMatchObject({ code: "LEASE_LOST" });
    expect(await test.target.admin`select from public.uuid_mappings_enhanced`).toHaveLength(0);
    await adoptPage(test.context.target, second, 60);
    const state = await adoptionState(test);
    expect((await test.run(message)).outcome).toBe("stale");
    await expect(adoptPage(test.context.target, second, 60)).rejects.toMatchObject({ code: "LEASE_LOST" });
    expect(await adoptionState(test)).toEqual(state);
  });
});
