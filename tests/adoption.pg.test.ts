import postgres from "postgres";
import { describe, expect, it } from "vitest";
import type { IsthmusError } from "../shared/errors.ts";
import { previewAdoptions, startAdoption } from "../shared/plan/adopt.ts";
import { tick } from "../shared/tick/tick.ts";
import { adoptAs } from "../shared/target/adoption.ts";
import { adopt, idsOf, loosen } from "./support/adoption.ts";
import { ownerUrl } from "./support/databases.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;

/** An office row as an earlier migration wrote it: lower-cased, with the wrong country. */
async function migratedOffice(test: Pipeline, n: number, legacyId: number | null, name = `office ${legacyId ?? "?"}`) {
  await test.target.admin`
    insert into public.offices (id, legacy_office_id, name, country, is_active, email_notifications)
    values (${uuid(n)}, ${legacyId}, ${name}, 'US', true, true)`;
}

const refused = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason as IsthmusError,
  );
  return { code: error?.code, hint: error?.detail["hint"] };
};

describe("a target that already holds rows", () => {
  it("is refused until it is adopted, with a remedy that names the command; nothing is minted before", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await migratedOffice(test, 1, 1);
    const refusal = await refused(test.start({ entities: ["offices"] }));
    expect(refusal.code).toBe("TARGET_NOT_EMPTY");
    expect(refusal.hint).toContain("npm run sync -- adopt offices");
    expect(await test.target.admin`select from public.uuid_mappings_enhanced`).toHaveLength(0);
    // The load itself refuses, too, whoever asks it: an adoption that is half done has opened nothing.
    const { execution } = await startAdoption(test.context, { entities: ["offices"], triggeredBy: "http:test" });
    test.queue.length = 0;
    await test.target.admin.begin(async (tx) => {
      await tx`set local session_replication_role = replica`;
      await tx`update public.sync_chains set capture = 'full' where execution_id = ${execution}`;
    });
    const [chain] = await test.target.admin<
      { id: string }[]
    >`select id from public.sync_chains where execution_id = ${execution}`;
    const outcome = await test.runOne({ execution, chain: chain?.id ?? "", page: 0 });
    expect(outcome).toMatchObject({ outcome: "failed", error: { code: "TARGET_NOT_EMPTY" } });
    expect(await idsOf(test, "offices", "legacy_office_id")).toEqual([`${uuid(1)} 1`]);
  });

  it("keeps every id: rows with one legacy id are the records, and what the migration got wrong is corrected and kept", async () => {
    await using test = await createPipeline();
    await test.seed.office(1, { name: "Office One" });
    await test.seed.office(2, { name: "office 2" });
    await test.seed.office(3, { name: "Office Three" });
    await migratedOffice(test, 1, 1, "office one");
    await migratedOffice(test, 2, 2, "office 2");
    await test.target.admin`update public.offices set notes = 'by hand', country = null where id = ${uuid(2)}`;
    await adopt(test, "offices");
    const { execution } = await test.sync({ entities: ["offices"] });

    expect(await idsOf(test, "offices", "legacy_office_id")).toEqual([
      `${uuid(1)} 1`,
      `${uuid(2)} 2`,
      expect.stringMatching(/^[0-9a-f-]{36} 3$/),
    ]);
    expect(
      (await test.target.admin`select name, country, notes from public.offices order by legacy_office_id`).map((r) => ({ ...r })),
    ).toEqual([
      { name: "Office One", country: null, notes: null },
      { name: "office 2", country: null, notes: "by hand" },
      { name: "Office Three", country: null, notes: null },
    ]);
    expect([
      ...(await test.target.admin`
      select c.source_record_id::integer as id, c.state, c.conflict_type as type, c.resolution_strategy as by, v.target as held
        from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id`),
    ]).toEqual([
      {
        id: 1,
        state: "resolved",
        type: "concurrent_modification",
        by: "source_wins",
        held: { name: "office one", country: "US" },
      },
    ]);
    const [counts] = await test.target.admin`
      select sum(inserted)::integer as inserted, sum(updated)::integer as updated, sum(unchanged)::integer as unchanged
        from public.sync_page_log where execution_id = ${execution}`;
    expect(counts).toEqual({ inserted: 1, updated: 1, unchanged: 1 });
    const again = await test.sync({ entities: ["offices"], capture: "full" });
    expect(
      (
        await test.target.admin`select sum(updated + inserted)::integer as n, sum(unchanged)::integer as same
      from public.sync_page_log where execution_id = ${again.execution}`
      )[0],
    ).toEqual({ n: 0, same: 3 });
  });
});

describe("a legacy id that two target rows have", () => {
  async function twice(test: Pipeline): Promise<string> {
    await loosen(test, ["offices", "legacy_office_id"]);
    await test.seed.doctor(10);
    await test.seed.office(1);
    await test.seed.office(2);
    await test.seed.patient(1, { userId: 20, doctorId: 10, officeId: 1 });
    await migratedOffice(test, 1, 1);
    await migratedOffice(test, 2, 1);
    await migratedOffice(test, 3, 2);
    await migratedOffice(test, 4, null);
    await adopt(test, "offices");
    const [conflict] = await test.target.admin<{ id: string }[]>`select id from public.sync_conflicts where state = 'open'`;
    return conflict?.id ?? "";
  }

  it("goes to the queue with its candidates, is neither minted nor inserted, and its children wait", async () => {
    await using test = await createPipeline();
    await twice(test);
    await test.sync();
    await test.sync({ capture: "full" });
    expect(await idsOf(test, "offices", "legacy_office_id")).toEqual([`${uuid(1)} 1`, `${uuid(2)} 1`, `${uuid(3)} 2`, uuid(4)]);
    expect(await test.live("offices")).toMatchObject([
      { id: 1, state: "open", type: "uuid_mapping_conflict", rule: "adoption.ambiguous" },
    ]);
    expect(await test.live("patients")).toMatchObject([{ id: 1, state: "waiting", parent: "offices", parentId: 1 }]);
    expect((await test.target.admin`select conflict_data from public.sync_conflicts where state = 'open'`)[0]).toEqual({
      conflict_data: {
        candidates: [
          { id: uuid(1), claimed_by: null },
          { id: uuid(2), claimed_by: null },
        ],
      },
    });
  });

  it("gets no mapping by any other path either", async () => {
    await using test = await createPipeline();
    await twice(test);
    const map = (legacyId: number) => test.target.admin`
      insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
      select source_id, entity_type, ${legacyId}, gen_random_uuid(), source_table, target_table from public.sync_entities where entity_type = 'offices'`;
    await expect(map(1)).rejects.toMatchObject({ code: "IS002" });
    await map(99);
  });

  it("is decided once: the chosen row is the record, its children land, the other row stays and is surplus", async () => {
    await using test = await createPipeline();
    const conflict = await twice(test);
    await test.sync();
    // As the owner of the database, from the SQL editor.
    const owner = postgres(ownerUrl(test.target), { max: 1 });
    expect((await refused(adoptAs(owner, conflict, uuid(3)))).code).toBe("DECISION_REFUSED");
    await adoptAs(owner, conflict, uuid(2));
    expect((await refused(adoptAs(owner, conflict, uuid(1)))).code).toBe("DECISION_REFUSED");
    await owner.end();
    for (let turn = 0; turn < 3; turn++) {
      await tick(test.context);
      await test.drain();
    }
    expect(await idsOf(test, "offices", "legacy_office_id")).toEqual([`${uuid(1)} 1`, `${uuid(2)} 1`, `${uuid(3)} 2`, uuid(4)]);
    expect([
      ...(await test.target.admin`select legacy_patient_id::integer as id, assigned_office_id as office from public.patients`),
    ]).toEqual([{ id: 1, office: uuid(2) }]);
    expect(
      (await test.target.admin`select state, resolved_by, resolution_data from public.sync_conflicts where id = ${conflict}`)[0],
    ).toEqual({
      state: "resolved",
      resolved_by: "postgres",
      resolution_data: { id: uuid(2) },
    });
    await test.sync({ capture: "full" });
    expect([...(await test.target.admin`select details from public.sync_alerts where kind = 'surplus'`)]).toEqual([
      { details: { count: 1, duplicates: 1 } },
    ]);
  });

  it("is adopted after all when its rows have been corrected and the entity is adopted again", async () => {
    await using test = await createPipeline();
    await twice(test);
    await test.sync();
    await test.target.admin`update public.offices set legacy_office_id = null where id = ${uuid(1)}`;
    await adopt(test, "offices");
    expect(await test.live("offices")).toEqual([]);
    await test.sync();
    expect(await idsOf(test, "offices", "legacy_office_id")).toEqual([uuid(1), `${uuid(2)} 1`, `${uuid(3)} 2`, uuid(4)]);
    expect(await test.live("patients")).toEqual([]);
  });

  it("is inserted like any other when none of its rows is left and the entity is adopted again", async () => {
    await using test = await createPipeline();
    await twice(test);
    await test.sync();
    await test.target.admin`delete from public.offices where legacy_office_id = 1`;
    await adopt(test, "offices");
    for (let turn = 0; turn < 3; turn++) {
      await tick(test.context);
      await test.drain();
    }
    expect((await idsOf(test, "offices", "legacy_office_id")).sort()).toEqual(
      [`${uuid(3)} 2`, uuid(4), expect.stringMatching(/^[0-9a-f-]{36} 1$/)].sort(),
    );
    expect([...(await test.live("offices")), ...(await test.live("patients"))]).toEqual([]);
  });

  it("that has appeared since, in a table that is synced already, is surplus beside the record; an id of one row is adopted and read", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync({ entities: ["offices"] });
    await loosen(test, ["offices", "legacy_office_id"]);
    await test.seed.office(2, { name: "Office Two" });
    await migratedOffice(test, 1, 1);
    await migratedOffice(test, 2, 2);
    await adopt(test, "offices");
    await test.sync({ entities: ["offices"] });
    const rows = await test.target.admin<{ id: string; legacy: number; name: string }[]>`
      select id, legacy_office_id::integer as legacy, name from public.offices order by 2, 3, 1`;
    expect(rows.map(({ legacy, name }) => `${legacy} ${name}`)).toEqual(["1 office 1", "1 office 1", "2 Office Two"]);
    expect(rows[2]?.id).toBe(uuid(2));
    expect(await test.live("offices")).toEqual([]);
    expect([...(await test.target.admin`select details from public.sync_alerts where kind = 'surplus'`)]).toMatchObject([
      { details: { duplicates: 1 } },
    ]);
  });

  it("is counted by a dry run and by the report, beside rows without a legacy id, which stay as they are", async () => {
    await using test = await createPipeline();
    await loosen(test, ["offices", "legacy_office_id"]);
    await migratedOffice(test, 1, 1);
    await migratedOffice(test, 2, 1);
    await migratedOffice(test, 3, 2);
    await migratedOffice(test, 4, null);
    const { preview } = await previewAdoptions(test.context, ["offices", "patients"]);
    expect(preview).toEqual([
      {
        entity: "offices",
        table: "offices",
        adoptable: 1,
        ambiguous: 1,
        ambiguousRows: 2,
        withoutLegacyId: 1,
        indexed: false,
        open: false,
      },
      {
        entity: "patients",
        table: "patients",
        adoptable: 0,
        ambiguous: 0,
        ambiguousRows: 0,
        withoutLegacyId: 0,
        indexed: true,
        open: false,
      },
    ]);
    expect(await test.target.admin`select from public.uuid_mappings_enhanced`).toHaveLength(0);
    const { execution } = await adopt(test, "offices");
    expect([
      ...(await test.target
        .admin`select kind, body from public.sync_reports where kind <> 'contract' and execution_id = ${execution}`),
    ]).toEqual([
      {
        kind: "adoption:offices",
        body: { table: "offices", adopted: 1, ambiguous: 1, ambiguous_rows: 2, surplus_rows: 0, without_legacy_id: 1 },
      },
    ]);
  });
});
