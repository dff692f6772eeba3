import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compile } from "./support/compile.ts";

const GOOD = `
import { defineEntity, idsOf, type Decision } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    sample: { source: "dispatch_instruction"; target: "orders" };
  }
}

export const sample = defineEntity({
  name: "sample",
  target: { table: "orders", legacyKey: "legacy_instruction_id" },
  source: {
    table: "dispatch_instruction",
    key: "id",
    alias: "i",
    joins: { p: { table: "dispatch_patient", on: { id: "i.patient_id" }, required: true } },
    watches: {
      m: { table: "dispatch_payment", on: { instruction_id: "i.id" } },
      o: { table: "dispatch_operation", key: "id", on: { payment_id: "m.id" } },
    },
    columns: {
      id: "i.id",
      patient_id: idsOf("dispatch_patient", "i.patient_id"),
      office_id: "p.office_id",
      status: "i.status",
      deleted: "i.deleted",
      updated_at: "i.updated_at",
      price: "i.price",
    },
    ignored: { order: "a position in a list" },
  },
  fields: (f) => ({
    patient_id: f.lookup("patients", "patient_id", { required: true }),
    office_id: f.lookup("offices", "office_id"),
    order_number: f.copy("id"),
    status: f.mapEnum("status", { "1": "submitted", "4": "shipped" }),
    amount: f.money("price"),
    deleted: f.copy("deleted"),
    source_updated_at: f.copy("updated_at"),
  }),
  rules: [
    {
      id: "has_amount",
      version: 1,
      severity: "warn",
      fields: ["amount"],
      remedy: "Set the price.",
      holds: (order) => order.amount !== null,
    },
  ],
});
`;

/** What is written instead of what, and what the compiler's message must name. */
const MISTAKES: readonly (readonly [title: string, instead: string, of: string, named: RegExp])[] = [
  ["a misspelled column", '"i.statsu"', '"i.status"', /"i\.statsu"/],
  ["a misspelled column of a joined table", '"p.ofice_id"', '"p.office_id"', /"p\.ofice_id"/],
  ["an alias that nothing has, with a column of the driving table", '"x.status"', '"i.status"', /"x\.status"/],
  ["an alias that nothing has", '"x.office_id"', '"p.office_id"', /"x\.office_id"/],
  ["a join on a column that does not exist", '{ idd: "i.patient_id" }', '{ id: "i.patient_id" }', /never/],
  ["a join to a column that does not exist", '{ id: "i.patients" }', '{ id: "i.patient_id" }', /never/],
  [
    "a value that a decision can yield, missing among its members",
    'status: f.decide(["status"], () => ({ value: "shipped" }) as Decision<"submitted" | "shipped">, { members: { shipped: true } })',
    'status: f.mapEnum("status", { "1": "submitted", "4": "shipped" })',
    /submitted/,
  ],
  ["a watch on a column that does not exist", "{ instruction: ", "{ instruction_id: ", /never/],
  ["a watch reached by a column that does not exist", '"m.idd"', '"m.id"', /never/],
  ["a watch reached through nothing", '"mm.id"', '"m.id"', /never/],
  ["a key of a joined table that does not exist", 'key: "pk", on: { payment_id:', 'key: "id", on: { payment_id:', /never/],
  ["a table that does not exist", 'table: "dispatch_pacient"', 'table: "dispatch_patient"', /dispatch_pacient/],
  ["another driving table than the entity's", 'table: "dispatch_order"', 'table: "dispatch_instruction"', /dispatch_order/],
  ["a key that does not exist", 'key: "pk"', 'key: "id"', /"pk"/],
  ["another target table than the entity's", 'table: "offices", legacyKey', 'table: "orders", legacyKey', /"offices"/],
  [
    "a legacy key that does not exist",
    '"legacy_order_id"',
    '"legacy_instruction_id"',
    /Property 'legacy_instruction_id' is missing/,
  ],
  ["an ignored column that does not exist", "{ ordr:", "{ order:", /ordr/],
  ["a column that nobody declared", 'f.copy("delete")', 'f.copy("deleted")', /"delete"/],
  ["ids of another table", 'f.lookup("offices", "patient_id")', 'f.lookup("offices", "office_id")', /"patient_id"/],
  ["a column that holds no ids", 'f.lookup("offices", "price")', 'f.lookup("offices", "office_id")', /"price"/],
  ["ids that are said to be of another table", 'idsOf("auth_user",', 'idsOf("dispatch_patient",', /"patient_id"/],
  ["a parent that is no entity", 'f.lookup("ofices",', 'f.lookup("offices",', /"ofices"/],
  [
    "a parent that the target column does not refer to",
    'office_id: f.lookup("patients", "patient_id")',
    'office_id: f.lookup("offices", "office_id")',
    /office_id|Uuid/,
  ],
  ["an enum member that the target does not have", '"4": "sent"', '"4": "shipped"', /"sent"/],
  [
    "a raw code in an enum column",
    'status: f.copy("status")',
    'status: f.mapEnum("status", { "1": "submitted", "4": "shipped" })',
    /status|Computed/,
  ],
  ["a missing field that the target needs", "", 'source_updated_at: f.copy("updated_at"),', /source_updated_at/],
  ["a target column that does not exist", "amont:", "amount:", /amont is not a column/],
  ["the target's id", 'id: f.copy("id"), deleted: f.copy("deleted")', 'deleted: f.copy("deleted")', /id is not a column/],
  ["a column of another type", 'deleted: f.copy("updated_at")', 'deleted: f.copy("deleted")', /"timestamp"|deleted/],
  ["a rule about a field that does not exist", 'fields: ["amont"]', 'fields: ["amount"]', /"amont"/],
  ["a rule that looks at no field", "order.amont", "order.amount", /amont/],
  ["a severity that does not exist", '"ignore"', '"warn"', /"ignore"/],
  ["money in a text column", 'order_number: f.money("price")', 'order_number: f.copy("id")', /money of numeric|order_number/],
  ["money that is no number", 'f.money("deleted")', 'f.money("price")', /"deleted"/],
];

const SECRETS = `
import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    sample: { source: "auth_user"; target: "offices" };
  }
}

export const sample = defineEntity({
  name: "sample",
  target: { table: "offices", legacyKey: "legacy_office_id" },
  source: {
    table: "auth_user",
    key: "id",
    alias: "u",
    columns: { name: "u.password", valid: "u.is_active" },
    ignored: {},
  },
  fields: (f) => ({ name: f.copy("name"), is_active: f.copy("valid"), email_notifications: f.copy("valid") }),
});
`;

/** An operation with its card's BIN among its metadata. */
const CARD = `
import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    sample: { source: "dispatch_operation"; target: "operations" };
  }
}

export const sample = defineEntity({
  name: "sample",
  target: { table: "operations", legacyKey: "legacy_operation_id" },
  source: { table: "dispatch_operation", key: "id", alias: "c", columns: { type: "c.type", bin: "c.card_bin" }, ignored: {} },
  fields: (f) => ({
    operation_type: f.mapEnum("type", { "1": "payment", "2": "refund" }),
    metadata: f.object({ card_bin: { text: "bin" } }, { sensitive: true }),
  }),
});
`;

/** What reads amounts, each into a column of its own kind. */
const AMOUNTS = `
import { defineEntity } from "./define-entity.ts";

declare module "../schema/target-tables.gen.ts" {
  interface TargetTables {
    amounts: {
      id: { type: "uuid"; required: false };
      legacy_id: { type: "integer"; required: true };
      exact: { type: "numeric"; required: true };
      whole: { type: "integer"; required: true };
      rough: { type: "float"; required: false };
    };
  }
}
declare module "./define-entity.ts" {
  interface Entities {
    amounts: { source: "dispatch_instruction"; target: "amounts" };
  }
}

export const amounts = defineEntity({
  name: "amounts",
  target: { table: "amounts", legacyKey: "legacy_id" },
  source: {
    table: "dispatch_instruction",
    key: "id",
    alias: "i",
    columns: { price: "i.price", status: "i.status" },
    ignored: {},
  },
  fields: (f) => ({ exact: f.money("price"), whole: f.money("status") }),
});
`;

/** Fields instead of those of AMOUNTS, and what the compiler's message must say. */
const INEXACT = [
  [
    "money in a float column",
    'rough: f.money("price"), exact: f.money("price"), whole: f.money("status")',
    /Field<"money of numeric">' is not assignable/,
  ],
  [
    "a number in a float column",
    'rough: f.copy("price"), exact: f.money("price"), whole: f.money("status")',
    /Field<"numeric">' is not assignable/,
  ],
  [
    "money of numeric in a column of integers",
    'exact: f.money("price"), whole: f.money("price")',
    /Field<"money of numeric">' is not assignable/,
  ],
] as const;

const fileOf = (index: number) => `entities/mistake-${index}.ts`;

describe("an entity file", () => {
  let errors: Readonly<Record<string, string[]>>;
  beforeAll(() => {
    errors = compile(
      {
        "entities/sample.ts": GOOD,
        "entities/secrets.ts": SECRETS.replaceAll("sample", "secrets"),
        "entities/card.ts": CARD.replaceAll("sample", "card"),
        "entities/amounts.ts": AMOUNTS,
        ...Object.fromEntries(
          INEXACT.map(([, fields], index) => [
            `entities/inexact-${index}.ts`,
            AMOUNTS.replace('exact: f.money("price"), whole: f.money("status")', fields).replaceAll(
              "amounts",
              `amounts_${index}`,
            ),
          ]),
        ),
        ...Object.fromEntries(
          MISTAKES.map(([, instead, of], index) => {
            if (!GOOD.includes(of)) throw new Error(`the sample has no ${of}`);
            // Every file adds a name of its own to the entities.
            return [fileOf(index), GOOD.replace(of, instead).replaceAll("sample", `sample_${index}`)];
          }),
        ),
      },
      ["entities/registry.gen.ts"],
    );
  }, 60_000);

  it("compiles when all is right", () => {
    expect(errors["entities/sample.ts"]).toEqual([]);
  });

  it.each(MISTAKES.map(([title, , , named], index) => ({ title, named, file: fileOf(index) })))(
    "with $title does not compile",
    ({ file, named }) => {
      expect(errors[file]?.join("\n")).toMatch(named);
    },
  );

  it("compiles with money in exact columns", () => {
    expect(errors["entities/amounts.ts"]).toEqual([]);
  });

  it.each(INEXACT.map(([title, , named], index) => ({ title, named, file: `entities/inexact-${index}.ts` })))(
    "with $title does not compile",
    ({ file, named }) => {
      expect(errors[file]?.join("\n")).toMatch(named);
    },
  );

  it("that reads a secret does not compile", () => {
    expect(errors["entities/secrets.ts"]?.join("\n")).toMatch(/"u\.password"/);
  });

  it("that reads the BIN of a card compiles only where the types of the source have it", () => {
    expect(errors["entities/card.ts"]?.join("\n")).toMatch(/"c\.card_bin"/);
    const types = readFileSync(resolve(import.meta.dirname, "../clinic/schema/source-tables.gen.ts"), "utf8");
    const opened = types.replace("    card_brand:", '    card_bin: { type: "text" };\n    card_brand:');
    const compiled = compile({ "entities/card.ts": CARD, "schema/source-tables.gen.ts": opened }, ["entities/registry.gen.ts"]);
    expect(compiled["entities/card.ts"]).toEqual([]);
  }, 60_000);
});
