import { describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { unknownCode } from "../shared/entity/fields.ts";
import { denied } from "../clinic/denied.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { exposedColumns, MASK, sensitiveColumns } from "../shared/entity/sensitive.ts";
import { validateRegistry } from "../shared/entity/validate-registry.ts";
import { transform } from "../shared/page/transform.ts";
import { sourceKinds } from "../clinic/schema/column-kinds.gen.ts";
import { compiledKind } from "../shared/entity/kinds.ts";

/** What the clinic sells and how it works: nothing there is about a person. */
const NOT_ABOUT_PEOPLE = [
  ...["brackets", "categories", "courses", "products", "offices", "role_permissions", "roles", "teams", "technician_roles"],
  "templates",
];
/** Texts and dates about people that tell nothing about them, and why. */
const HARMLESS: Readonly<Record<string, string>> = {
  "cases.case_number": "a number",
  "discounts.valid_from": "a date of the price list",
  "discounts.valid_until": "a date of the price list",
  "doctors.square_customer_id": "an id in the payment system",
  "doctors.tier_type": "a code of the price list",
  "doctors.tier_finish": "a code of the price list",
  "files.file_uid": "an id",
  "files.extension": "a file type",
  "files.parameters": "settings of the printer",
  "jaws.bond_teeth": "sixteen digits, one per tooth",
  "jaws.extract_teeth": "sixteen digits, one per tooth",
  "jaws.jaw_type": "a name of ours",
  "messages.recipient_type": "a name of ours",
  "operations.card_brand": "says who issues millions of cards",
  "operations.square_order_id": "an id in the payment system",
  "operations.square_payment_id": "an id in the payment system",
  "operations.square_refund_id": "an id in the payment system",
  "orders.exports": "names of export formats",
  "orders.order_number": "a number",
  "orders.suffix": "part of a number",
  "patients.suffix": "part of a number",
  "payments.installments": "amounts and days",
  "profiles.patient_suffix": "part of a number",
  "projects.file_uid": "an id",
  "system_messages.item_type": "app_label.model",
  "system_messages.message_code": "a name of a template",
  "user_actions.action": "a name of an action",
  "user_actions.item_type": "app_label.model",
  "user_actions.owner_type": "app_label.model",
};

/** Kinds of the source columns behind a field, as the catalog of the source has them. */
function kindsOf({ source }: Entity, columns: readonly string[]): (string | undefined)[] {
  const tables = {
    [source.alias]: source.table,
    ...Object.fromEntries(Object.entries(source.joins).map(([alias, { table }]) => [alias, table])),
  };
  return columns.map((column) => {
    const origin = source.columns[column];
    if (typeof origin !== "string") return origin?.type;
    const [alias = "", name = ""] = origin.split(".");
    return compiledKind(sourceKinds, tables[alias] ?? "", name);
  });
}

/** Every field that shows a text or a date of the source. */
const shown = registry.flatMap((entity) =>
  Object.entries(entity.fields)
    .filter(([, { sensitive, parent }]) => !sensitive && parent === undefined)
    .filter(([, { columns }]) => kindsOf(entity, columns).some((kind) => kind === "text" || kind === "date"))
    .map(([name]) => ({ entity: entity.name, field: `${entity.name}.${name}` })),
);
const named = (name: string): Entity => {
  const entity = registry.find((one) => one.name === name);
  if (!entity) throw new Error(`no entity ${name}`);
  return entity;
};

describe("what entities show", () => {
  it("is no text and no date about a person, unless it is said why it is harmless", () => {
    const unexplained = shown.filter(
      ({ entity, field }) => !NOT_ABOUT_PEOPLE.includes(entity) && !Object.hasOwn(HARMLESS, field),
    );
    expect(unexplained.map(({ field }) => field)).toEqual([]);
  });
  it("is explained nowhere without need", () => {
    const fields = new Set(shown.map(({ field }) => field));
    expect(Object.keys(HARMLESS).filter((field) => !fields.has(field))).toEqual([]);
    expect(NOT_ABOUT_PEOPLE.filter((entity) => !shown.some((one) => one.entity === entity))).toEqual([]);
  });
  it("knows the kind of every column that it reads", () => {
    for (const entity of registry)
      for (const [name, { columns }] of Object.entries(entity.fields))
        expect(
          kindsOf(
            entity,
            columns.filter((column) => column !== "_key"),
          ),
          `${entity.name}.${name}`,
        ).not.toContain(undefined);
  });
});

describe("a source column that is sensitive in one field", () => {
  const showing = (name: string, field: string): Entity => {
    const entity = named(name);
    const { [field]: hidden, ...others } = entity.fields;
    if (!hidden) throw new Error(`no field ${field}`);
    return { ...entity, fields: { ...others, [field]: { ...hidden, sensitive: false } } };
  };
  it("is sensitive in every field of every entity", () => {
    expect(exposedColumns(registry)).toEqual([]);
    const others = registry.filter((entity) => entity.name !== "technicians");
    expect(validateRegistry([...others, showing("technicians", "employee_id")], denied)).toEqual([
      "technicians: field employee_id reads auth_user.username, which is sensitive in profiles (username): mark it sensitive too.",
    ]);
  });
  it("is seen behind an expression", () => {
    const orders = named("orders");
    const { complaint } = orders.fields;
    if (!complaint) throw new Error("no complaint");
    const columns = { ...orders.source.columns, shout: { sql: "upper(i.complaint)", type: "text" } };
    const fields = { ...orders.fields, suffix: { ...complaint, columns: ["shout"], sensitive: false } };
    expect(exposedColumns([{ ...orders, source: { ...orders.source, columns }, fields }])).toEqual([
      "orders: field suffix reads dispatch_instruction.complaint, which is sensitive in orders (complaint): mark it sensitive too.",
    ]);
  });
  it("does not make its neighbours in an object sensitive", () => {
    expect(sensitiveColumns(named("operations"))).toEqual(new Set(["card_last"]));
  });
});

describe("the evidence of a problem", () => {
  const entity = named("comments");
  const { content } = entity.fields;
  if (!content) throw new Error("no content");
  const judge = (column: string, evidence?: Record<string, string | null>) => {
    const decide = (row: Readonly<Record<string, string | null>>) => {
      const decision = unknownCode("comments", column, row[column] ?? null);
      return evidence && "problem" in decision ? { problem: { ...decision.problem, evidence } } : decision;
    };
    const fields = { ...entity.fields, content: { ...content, decide } };
    const row = { _key: "1", text: "private", author_id: null, created_at: "2020-01-01" };
    return transform({ ...entity, fields }, [row], new Map(), new Map()).issues[0]?.data;
  };
  it("masks the value of a sensitive column", () => {
    expect(judge("text")).toEqual({ column: "text", raw: MASK });
    expect(judge("text", { text: "private", created_at: "2020-01-01" })).toEqual({ text: MASK, created_at: "2020-01-01" });
  });
  it("shows that there is none, and the value of any other column", () => {
    expect(judge("text", { column: "text", raw: null })).toEqual({ column: "text", raw: null });
    expect(judge("created_at")).toEqual({ column: "created_at", raw: "2020-01-01" });
  });
});
