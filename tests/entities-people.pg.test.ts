import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { landedRows } from "./support/landed.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { pinnedSession, recomputed, verify } from "./verifier/verify.ts";

const DAY = "2021-03-04T05:06:07Z";
const PATIENT = {
  doctor_id: null,
  office_id: null,
  birthdate: null,
  sex: 1,
  suffix: "",
  status: 1,
  archived: false,
  suspended: false,
  schemes: null,
  submitted_at: DAY,
  updated_at: DAY,
};

/** Users 10 and 11 are doctors, 30 to 33 technicians or not, 101 to 111 the users of patients 1 to 11. */
async function seedPeople({ seed, source }: Pipeline): Promise<void> {
  // Groups count by name: their ids are not the ones of the old application.
  for (const [id, name] of [
    [33, "Technician"],
    [34, "Doctor"],
    [35, "Sales"],
  ] as const)
    await seed.group(id, name);
  await seed.office(1);
  await seed.office(2);
  await seed.doctor(10);
  for (const id of [11, 30, 31, 32, 33]) await seed.user(id, { superuser: id === 32 });
  await source.admin`update public.auth_user set is_active = false where id = 31`;
  await seed.row("dispatch_office_doctors", { id: 1, office_id: 1, user_id: 11 });
  await seed.row("dispatch_office_doctors", { id: 2, office_id: 2, user_id: 10 });
  await seed.membership(1, 30, 33);
  await seed.membership(2, 31, 33);
  await seed.membership(3, 32, 33);
  await seed.membership(4, 33, 35);
  const patients: [number, object][] = [
    [1, { doctor_id: 10, office_id: 1, suffix: "AB", schemes: '{"upper": [1, 2]}' }],
    [2, {}],
    [3, { doctor_id: 11, archived: true }],
    [4, { suspended: true, status: 2 }],
    [5, { office_id: 2, status: 2, schemes: "[" }],
    [6, { doctor_id: 10, status: 4, submitted_at: null, schemes: "" }],
    [7, { status: null }],
    [8, { status: 4 }],
    [9, { doctor_id: 10, status: 77, suffix: "Z" }],
    [10, { status: 10 }],
    [11, { status: 2, submitted_at: null }],
  ];
  for (const [id, values] of patients) {
    await seed.user(100 + id);
    await seed.row("dispatch_patient", { ...PATIENT, id, user_id: 100 + id, ...values });
  }
  await seed.row("dispatch_payment", {
    ...{ id: 5, total_price: "10", subtotal_price: "10", paid_price: "10", additional_price: "0", tax_rate: "0", tax_value: "0" },
    ...{ used_credit: "0", paid: true, canceled: false, free: false, netsuite: false, installments: "" },
  });
  await seed.row("dispatch_operation", {
    ...{ id: 1, payment_id: 5, type: 1, price: "10.00", sq_order_id: "order-1", sq_payment_id: "payment-1", sq_refund_id: null },
    ...{ card_brand: 'VISA "gold"', card_bin: "411111", card_last: "4242", office_card: true },
  });
  await seed.row("dispatch_operation", { id: 2, type: 2, price: "1.00", card_last: "" });
}

describe("people and their cases", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline();
    await seedPeople(test);
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());
  const landed = (entity: string) => landedRows(test.target.admin, entity);

  it("technicians are the users in the group of that name, whatever else they are", async () => {
    const joined = "2020-01-01 00:00:00+00";
    expect(await landed("technicians")).toEqual({
      30: { profile_id: "30", employee_id: "user-30", status: "active", hired_at: joined },
      31: { profile_id: "31", employee_id: "user-31", status: "inactive", hired_at: joined },
      32: { profile_id: "32", employee_id: "user-32", status: "active", hired_at: joined },
    });
  });

  it("doctor_offices are one to one", async () => {
    expect(await landed("doctor_offices")).toEqual({
      1: { doctor_id: "11", office_id: "1" },
      2: { doctor_id: "10", office_id: "2" },
    });
  });

  it("patients_doctors_offices has a row for each patient with a doctor or an office, and waits for the patient", async () => {
    expect(await landed("patients_doctors_offices")).toEqual({
      1: { patient_id: "1", doctor_id: "10", office_id: "1" },
      3: { patient_id: "3", doctor_id: "11", office_id: null },
      5: { patient_id: "5", doctor_id: null, office_id: "2" },
      6: { patient_id: "6", doctor_id: "10", office_id: null },
    });
    expect(await test.live("patients_doctors_offices")).toMatchObject([
      { id: 9, state: "waiting", parent: "patients", parentId: 9 },
    ]);
  });

  it("cases are one per patient, with the raw code of the status, and wait for the patient", async () => {
    const plain = { primary_doctor_id: null, office_id: null, status_code: "1", deleted: "false" };
    expect(await landed("cases")).toEqual({
      1: { ...plain, patient_id: "1", primary_doctor_id: "10", office_id: "1", case_number: "CASE-AB-1" },
      2: { ...plain, patient_id: "2", case_number: "CASE-2" },
      3: { ...plain, patient_id: "3", primary_doctor_id: "11", case_number: "CASE-3", deleted: "true" },
      4: { ...plain, patient_id: "4", case_number: "CASE-4", status_code: "2", deleted: "true" },
      5: { ...plain, patient_id: "5", office_id: "2", case_number: "CASE-5", status_code: "2" },
      6: { ...plain, patient_id: "6", primary_doctor_id: "10", case_number: "CASE-6", status_code: "4" },
      7: { ...plain, patient_id: "7", case_number: "CASE-7", status_code: null },
      8: { ...plain, patient_id: "8", case_number: "CASE-8", status_code: "4" },
      10: { ...plain, patient_id: "10", case_number: "CASE-10", status_code: "10" },
      11: { ...plain, patient_id: "11", case_number: "CASE-11", status_code: "2" },
    });
    expect(await test.live("cases")).toMatchObject([{ id: 9, state: "waiting", parent: "patients", parentId: 9 }]);
  });

  it("the treatment phase of a patient is the first that matches, and the schemes are JSON or kept whole", async () => {
    const rows = Object.entries(await landed("patients"));
    expect(Object.fromEntries(rows.map(([id, row]) => [id, row["treatment_phase"]]))).toEqual({
      1: "in_treatment",
      2: "in_treatment",
      3: "closed",
      4: "closed",
      5: "paused",
      6: "enrolment",
      7: null,
      8: "in_treatment",
      10: "closed",
      11: "paused",
    });
    const schemes = Object.fromEntries(rows.map(([id, row]) => [id, JSON.parse(row["schemes"] ?? "null") as unknown]));
    expect(schemes).toMatchObject({ 1: { upper: [1, 2] }, 5: { _raw: "[", _unparseable: true }, 6: null });
  });

  it("patients and operations say where they come from", async () => {
    const patients = await landed("patients");
    const legacyData = (id: number) => JSON.parse(patients[id]?.["legacy_data"] ?? "") as unknown;
    const origin = { source_table: "dispatch_patient", sync_source: "isthmus" };
    expect(legacyData(1)).toEqual({ ...origin, legacy_id: 1, original_status_id: 1 });
    expect(legacyData(7)).toEqual({ ...origin, legacy_id: 7, original_status_id: null });
    const operations = await landed("operations");
    const metadata = (id: number) => JSON.parse(operations[id]?.["metadata"] ?? "") as unknown;
    expect(metadata(1)).toEqual({
      ...{ legacy_id: 1, sq_order_id: "order-1", sq_payment_id: "payment-1", sq_refund_id: null },
      ...{ card_brand: 'VISA "gold"', card_last: "4242", office_card: true, payment_id: 5 },
    });
    expect(metadata(2)).toEqual({
      ...{ legacy_id: 2, sq_order_id: null, sq_payment_id: null, sq_refund_id: null },
      ...{ card_brand: null, card_last: "", office_card: null, payment_id: null },
    });
  });

  it("changes nothing in a second run over everything", async () => {
    const { execution } = await test.sync({ capture: "full" });
    const touched = await test.target.admin`
      select e.entity_type from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
       where l.execution_id = ${execution} and (l.inserted > 0 or l.updated > 0 or l.deleted > 0 or l.surplus > 0)`;
    expect([...touched]).toEqual([]);
  });

  it("lands the case and the relations of a patient whose code was corrected", async () => {
    await test.source.admin`update public.dispatch_patient set status = 1 where id = 9`;
    await test.sync();
    expect(await landed("cases")).toMatchObject({ 9: { patient_id: "9", case_number: "CASE-Z-9", status_code: "1" } });
    expect(await landed("patients_doctors_offices")).toMatchObject({ 9: { patient_id: "9", doctor_id: "10" } });
    expect([...(await test.live("cases")), ...(await test.live("patients_doctors_offices"))]).toEqual([]);
  });

  it("finds new technicians by the name of their group, and never takes one back", async () => {
    await test.source.admin`update public.auth_group set name = 'Retired' where id = 33`;
    await test.source.admin`update public.auth_group set name = 'Technician' where id = 35`;
    await test.sync();
    expect(Object.keys(await landed("technicians"))).toEqual(["30", "31", "32", "33"]);
    const { execution } = await test.sync({ entities: ["technicians"], capture: "full" });
    const alerts = await test.target.admin`select from public.sync_alerts where execution_id = ${execution}`;
    expect(alerts).toHaveLength(0);
  });
});

describe("who has landed as a doctor or technician", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline();
    const { seed } = test;
    await seed.group(33, "Technician");
    await seed.group(35, "Sales");
    await seed.group(37, "Billing");
    for (const id of [12, 13, 34, 36]) await seed.user(id);
    await seed.office(1);
    await seed.doctor(10);
    await seed.user(101);
    await seed.row("dispatch_patient", { ...PATIENT, id: 1, user_id: 101, doctor_id: 12 });
    await seed.row("dispatch_office_doctors", { id: 1, office_id: 1, user_id: 13 });
    await seed.membership(1, 34, 33);
    await seed.membership(2, 13, 35);
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());
  const landed = (entity: string) => landedRows(test.target.admin, entity);
  const types = async () =>
    Object.fromEntries(Object.entries(await landed("profiles")).map(([id, row]) => [id, row["profile_type"]]));

  it("remains one when the last trace goes, the profile too, whose later changes still arrive", async () => {
    expect(await types()).toEqual({ 10: "doctor", 12: "doctor", 13: "doctor", 34: "technician", 101: "patient" });
    const [doctors, technicians] = [await landed("doctors"), await landed("technicians")];
    await test.source.admin`update public.dispatch_patient set doctor_id = 10 where id = 1`;
    await test.source.admin`update public.auth_user_groups set group_id = 37 where id = 1`;
    await test.sync();
    await test.source.admin`update public.auth_user set last_name = 'Renamed' where id in (12, 34)`;
    await test.sync();
    expect(await types()).toEqual({ 10: "doctor", 12: "doctor", 13: "doctor", 34: "technician", 101: "patient" });
    expect(await landed("profiles")).toMatchObject({ 12: { last_name: "Renamed" }, 34: { last_name: "Renamed" } });
    expect(await landed("doctors")).toEqual(doctors);
    expect(await landed("technicians")).toEqual(technicians);
  });

  it("becomes what the source says instead, where it says something", async () => {
    await test.source.admin`update public.dispatch_office_doctors set user_id = 10 where id = 1`;
    await test.sync();
    expect(await types()).toMatchObject({ 13: "sales_person" });
    expect(Object.keys(await landed("doctors"))).toContain("13");
    await test.source.admin`update public.auth_user_groups set group_id = 37 where user_id = 13`;
    await test.sync();
    expect(await types()).toMatchObject({ 13: "doctor" });
  });

  it("and nobody else keeps a type: who never was one stays in the queue, as the verifier finds from the source", async () => {
    expect((await test.live("profiles")).map(({ id }) => id)).toEqual([36]);
    const { execution } = await test.sync({ capture: "full" });
    const touched = await test.target.admin`
      select from public.sync_page_log where execution_id = ${execution} and (updated > 0 or surplus > 0)`;
    expect([...touched]).toEqual([]);
    const definition = recomputed.find(({ entity }) => entity === "profiles");
    if (!definition) throw new Error("profiles are not recomputed");
    const differences = async () => {
      const [source, target] = [pinnedSession(test.source.superuserUrl), pinnedSession(test.target.superuserUrl)];
      const found = await verify(source, target, definition);
      await Promise.all([source.end(), target.end()]);
      return found.differences;
    };
    expect(await differences()).toEqual([]);
    await test.target.admin`update public.profiles set profile_type = 'technician' where legacy_user_id = 12`;
    expect(await differences()).toEqual([{ id: "12", columns: ["profile_type"] }]);
  });
});
