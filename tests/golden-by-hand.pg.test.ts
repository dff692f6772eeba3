import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { landedRows } from "./support/landed.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

type Row = Readonly<Record<string, string | number | boolean | null>>;
type Landed = Readonly<Record<string, string | null>>;

/** A row of the source, and what must stand in the target, both written down by hand. */
interface Golden {
  readonly decision: string;
  readonly row: Row;
  readonly landed: Landed;
}

const NOON = "2021-03-04T12:00:00Z";
const OFFICE = { valid: true, emails: true, address: null, apt: null, city: null, state: null, country: null, phone: null };
const USER = { password: "x", is_superuser: false, is_staff: false, is_active: true, date_joined: NOON };
const PATIENT = { suffix: "AB12", status: 1, archived: false, suspended: false, updated_at: NOON };
const ORDER = { patient_id: 1, deleted: false, updated_at: NOON, suffix: "", cbct: false };
const PAYMENT = {
  ...{ total_price: "1000.00", subtotal_price: "900.00", paid_price: "1000.00", additional_price: "0.00", tax_value: "100.00" },
  ...{ tax_rate: "10.2500", used_credit: "0.00", netsuite: false, installments: "" },
};

const OFFICES: readonly Golden[] = [
  {
    decision: "a foreign phone and postcode as written, a tax rate as a percentage",
    row: {
      ...{ ...OFFICE, id: 1, name: "Zahnhaus Süd", address: "Lindenweg 7", apt: "2. OG", city: "München", state: "BY" },
      ...{ zip: "D-80331", country: "Germany", phone: "+49 (0)89 / 1234-0", tax_rate: "19.0000", sq_customer_id: "SQ-OFFICE-1" },
    },
    landed: {
      ...{ name: "Zahnhaus Süd", address: "Lindenweg 7", apartment: "2. OG", city: "München", state: "BY", zip_code: "D-80331" },
      ...{ country: "Germany", phone: "+49 (0)89 / 1234-0", tax_rate: "19.0000", square_customer_id: "SQ-OFFICE-1" },
      ...{ is_active: "true", email_notifications: "true" },
    },
  },
  {
    decision: "leading zeros and letters of a postcode, a tax rate as a fraction, an office that is closed",
    row: { ...OFFICE, id: 2, name: "Orto", zip: "00184 ", tax_rate: "0.1025", sq_customer_id: "", valid: false, emails: false },
    landed: {
      ...{ name: "Orto", zip_code: "00184 ", tax_rate: "0.1025", square_customer_id: "", country: null, phone: null },
      ...{ is_active: "false", email_notifications: "false" },
    },
  },
  {
    decision: "empty texts stay empty, 'null' is a text like any other, no tax rate is none",
    row: { ...OFFICE, id: 3, name: "", city: "null", zip: "SW1A 1AA", phone: "", tax_rate: null, sq_customer_id: null },
    landed: { name: "", city: "null", zip_code: "SW1A 1AA", phone: "", tax_rate: null, square_customer_id: null },
  },
];

const PROFILES: readonly Golden[] = [
  {
    decision: "an empty name and address are none",
    row: { ...USER, id: 31, username: "u31", first_name: "", last_name: "   ", email: "" },
    landed: { first_name: null, last_name: null, email: null, username: "u31", gender: null, profile_type: "technician" },
  },
  {
    decision: "the text 'null' is none, in any case",
    row: { ...USER, id: 32, username: "null", first_name: "null", last_name: "NULL", email: "Null" },
    landed: { first_name: null, last_name: null, email: null, username: "null" },
  },
  {
    decision: "names are neither trimmed nor changed, an invalid address is kept",
    row: { ...USER, id: 33, username: "U33", first_name: " Änne-Marie", last_name: "Nullmann", email: "Front Desk@" },
    landed: { first_name: " Änne-Marie", last_name: "Nullmann", email: "Front Desk@", username: "U33" },
  },
];

const PATIENTS: readonly Golden[] = [
  { decision: "sex 1 is male", row: { ...PATIENT, id: 1, user_id: 101, sex: 1 }, landed: { sex: "male", suffix: "AB12" } },
  {
    decision: "sex 2 is female",
    row: { ...PATIENT, id: 2, user_id: 102, sex: 2, suffix: "" },
    landed: { sex: "female", suffix: null },
  },
  { decision: "sex 0 is other", row: { ...PATIENT, id: 3, user_id: 103, sex: 0 }, landed: { sex: "other" } },
  { decision: "no sex is unknown", row: { ...PATIENT, id: 4, user_id: 104, sex: null }, landed: { sex: "unknown" } },
];

const status = (id: number, code: number, name: string): Golden => ({
  decision: `status ${code} is ${name}`,
  row: { ...ORDER, id, status: code, course_id: null },
  landed: { status: name, course_type: null },
});
const course = (id: number, code: number, name: string): Golden => ({
  decision: `course ${code} is ${name}`,
  row: { ...ORDER, id, status: 1, course_id: code },
  landed: { course_type: name, status: "submitted" },
});
const ORDERS: readonly Golden[] = [
  status(10, 0, "no_product"),
  status(11, 1, "submitted"),
  status(12, 2, "approved"),
  status(13, 4, "shipped"),
  course(21, 1, "main"),
  course(22, 2, "refinement"),
  course(23, 3, "replacement"),
  course(24, 4, "any"),
  course(27, 7, "invoice"),
  course(28, 8, "merchandise"),
  {
    decision: "codes without agreed meaning, flags and conditions are in the metadata",
    row: {
      ...{ ...ORDER, id: 30, status: 1, model: 2, scanner: 5, scanner_notes: 'say "ah"', cbct: true, comprehensive: false },
      ...{ accept_extraction: null, conditions: '{"bite": [1.50, null]}', notes: "", exports: "{}" },
    },
    landed: {
      metadata:
        '{"cbct": true, "model": 2, "scanner": 5, "conditions": {"bite": [1.50, null]}, "comprehensive": false, ' +
        '"scanner_notes": "say \\"ah\\"", "accept_extraction": null}',
      ...{ notes: "", exports: "{}", order_number: "AB12-30" },
    },
  },
  {
    decision: "conditions that are no JSON are kept whole, and empty ones are none",
    row: { ...ORDER, id: 31, status: 1, conditions: "crowding", scanner_notes: "" },
    landed: {
      metadata:
        '{"cbct": false, "model": null, "scanner": null, "conditions": {"_raw": "crowding", "_unparseable": true}, ' +
        '"comprehensive": null, "scanner_notes": "", "accept_extraction": null}',
    },
  },
  {
    decision: "empty conditions are none",
    row: { ...ORDER, id: 32, status: 1, conditions: "" },
    landed: {
      metadata:
        '{"cbct": false, "model": null, "scanner": null, "conditions": null, "comprehensive": null, "scanner_notes": null, ' +
        '"accept_extraction": null}',
    },
  },
];

const payment = (id: number, [canceled, paid, free]: readonly [boolean, boolean, boolean], name: string): Golden => ({
  decision: `canceled ${canceled}, paid ${paid}, free ${free}: ${name}`,
  row: { ...PAYMENT, id, canceled, paid, free },
  landed: { payment_status: name, amount: "1000.00", subtotal_amount: "900.00", tax_rate: "10.2500", tax_amount: "100.00" },
});
const PAYMENTS: readonly Golden[] = [
  payment(1, [false, false, false], "pending"),
  payment(2, [false, true, false], "completed"),
  payment(3, [false, false, true], "completed"),
  payment(4, [false, true, true], "completed"),
  payment(5, [true, false, false], "cancelled"),
  payment(6, [true, true, false], "cancelled"),
  payment(7, [true, false, true], "cancelled"),
  payment(8, [true, true, true], "cancelled"),
  {
    decision: "a tax rate as a fraction stays one, whatever the amounts say",
    row: { ...PAYMENT, id: 9, canceled: false, paid: false, free: false, tax_rate: "0.1025" },
    landed: { tax_rate: "0.1025", payment_status: "pending" },
  },
];

const OPERATIONS: readonly Golden[] = [
  {
    decision: "a payment has every Square field in a column of its own",
    row: {
      ...{ id: 1, payment_id: 2, type: 1, price: "1000.00", made_at: NOON, attempts: 2, office_card: true },
      ...{
        sq_order_id: "so-1",
        sq_payment_id: "sp-1",
        sq_refund_id: null,
        card_brand: "VISA",
        card_bin: "411111",
        card_last: "0042",
      },
    },
    landed: {
      ...{ payment_id: "2", operation_type: "payment", amount: "1000.00", made_at: "2021-03-04 12:00:00+00", attempts: "2" },
      ...{ square_order_id: "so-1", square_payment_id: "sp-1", square_refund_id: null, card_brand: "VISA", card_last: "0042" },
      office_card: "true",
    },
  },
  {
    decision: "a refund names itself; empty Square fields stay empty, no amount is none",
    row: {
      ...{ id: 2, payment_id: null, type: 2, price: null, sq_order_id: "", sq_payment_id: null, sq_refund_id: "sr-2" },
      ...{ card_brand: "", card_last: "", office_card: false },
    },
    landed: {
      ...{ payment_id: null, operation_type: "refund", amount: null, made_at: null, square_order_id: "", attempts: null },
      ...{ square_payment_id: null, square_refund_id: "sr-2", card_brand: "", card_last: "", office_card: "false" },
    },
  },
];

const GOLDEN = [
  ["offices", "dispatch_office", OFFICES],
  ["profiles", "auth_user", PROFILES],
  ["patients", "dispatch_patient", PATIENTS],
  ["orders", "dispatch_instruction", ORDERS],
  ["payments", "dispatch_payment", PAYMENTS],
  ["operations", "dispatch_operation", OPERATIONS],
] as const;

async function seedAll({ seed, source }: Pipeline): Promise<void> {
  await seed.group(9, "Technician");
  for (const id of [1, 2, 3, 4, 5, 7, 8]) await seed.course(id);
  for (const id of [101, 102, 103, 104]) await seed.user(id);
  for (const id of [41, 42]) await seed.doctor(id);
  await source.admin`update public.dispatch_doctorsetting set sq_customer_id = 'SQ-DOCTOR-41', credit = -150.25 where user_id = 41`;
  for (const [, table, rows] of GOLDEN) for (const { row } of rows) await seed.row(table, row);
  for (const { row } of PROFILES) await seed.membership(Number(row["id"]), Number(row["id"]), 9);
  await seed.row("dispatch_instruction", { ...ORDER, id: 90, status: 3 });
  await seed.row("dispatch_instruction", { ...ORDER, id: 91, status: 1, course_id: 5 });
  await seed.row("dispatch_operation", { id: 90, type: 3, price: "1.00" });
}

describe("records worked out by hand", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline();
    await seedAll(test);
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());

  describe.each(GOLDEN)("of %s", (entity, _, rows) => {
    it.each(rows)("$decision", async ({ row, landed }) => {
      const all = await landedRows(test.target.admin, entity);
      expect(all[String(row["id"])]).toMatchObject(landed);
    });
  });

  it("of doctors: the id in the payment system and the credit are the doctor's own", async () => {
    expect(await landedRows(test.target.admin, "doctors")).toMatchObject({
      41: { square_customer_id: "SQ-DOCTOR-41", credit: "-150.25", doctor_number: "DOC-000041", status: "active" },
      42: { square_customer_id: null, credit: null, doctor_number: "DOC-000042" },
    });
  });

  it("of profiles: the gender is the patient's sex", async () => {
    expect(await landedRows(test.target.admin, "profiles")).toMatchObject({
      101: { gender: "male", profile_type: "patient" },
      102: { gender: "female" },
      103: { gender: "other" },
      104: { gender: "unknown" },
    });
  });

  it("of codes that nobody knows: in the queue, never under another name", async () => {
    expect(await test.live("orders")).toMatchObject([
      { id: 90, state: "open", field: "status", rule: "orders.status.known_code@1" },
      { id: 91, state: "open", field: "course_type", rule: "orders.course_id.known_code@1" },
    ]);
    expect(await test.live("operations")).toMatchObject([
      { id: 90, state: "open", field: "operation_type", rule: "operations.type.known_code@1" },
    ]);
  });
});
