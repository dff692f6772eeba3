import { describe, expect, it } from "vitest";
import type { Column } from "../scripts/catalog.ts";
import { constantOf } from "../scripts/init/names.ts";
import { pairTables, type Tables } from "../scripts/init/pair-tables.ts";
import { proposeEntity } from "../scripts/init/propose.ts";
import { isSecret } from "../scripts/init/secrets.ts";
import { defineEntity, undecided, type UncheckedSpec } from "../shared/entity/define-entity.ts";
import { validateRegistry } from "../shared/entity/validate-registry.ts";

const NONE = { secrets: [], onRequest: [], optedIn: {} };

type Facts = Partial<Omit<Column, "table" | "column">>;
const KEY: Facts = { type: "integer", not_null: true, primary: true, unique: true };
const LEGACY: Facts = { type: "bigint", not_null: true, unique: true };
const ID: Facts = { type: "uuid", not_null: true, optional: true, primary: true, unique: true };
const leadsTo = (references: string, referenced: string): Facts => ({ references, referenced });

/** Tables as a catalog would have them: columns are nullable texts where nothing else is said. */
function tables(all: Readonly<Record<string, Readonly<Record<string, Facts>>>>): Tables {
  const plain = {
    ...{ type: "text", not_null: false, computed: false, primary: false, unique: false },
    ...{ references: null, referenced: null, members: null },
  };
  return new Map(
    Object.entries(all).map(([table, columns]) => [
      table,
      Object.entries(columns).map(([column, facts]) => ({
        ...plain,
        optional: facts.not_null !== true,
        ...facts,
        table,
        column,
      })),
    ]),
  );
}

/** Tables that are of no interest but for their names. */
const named = (names: readonly string[], columns: Readonly<Record<string, Facts>>) =>
  tables(Object.fromEntries(names.map((name) => [name, columns])));
const pairsOf = (source: Tables, target: Tables, chosen?: ReadonlyMap<string, string | null>) => {
  const { pairs, left } = pairTables(source, target, chosen, isSecret);
  return {
    pairs: pairs.map((pair) => `${pair.source} → ${pair.target}`),
    left: Object.fromEntries(left.map(({ table, reason }) => [table, reason])),
  };
};
function proposed(source: Tables, target: Tables, table: string): string {
  const { pairs } = pairTables(source, target, undefined, isSecret);
  const pair = pairs.find((one) => one.source === table);
  return pair ? proposeEntity(pair, { source, target, pairs, denied: NONE }).replaceAll(/\s+/g, " ") : "";
}

describe("which table takes the records of which", () => {
  const source = (...names: string[]) => named(names, { id: KEY });
  const target = (...names: string[]) => named(names, { id: ID, legacy_id: LEGACY });

  it("is told by the equal name, then by the same words, and by those behind a prefix only where nothing else is left", () => {
    expect(
      pairsOf(
        source("archive_customers", "archive_orders", "Customer", "customers", "OrderLine", "orders"),
        target("customers", "orders", "order_lines"),
      ),
    ).toEqual({
      pairs: ["customers → customers", "OrderLine → order_lines", "orders → orders"],
      left: {
        Customer: expect.stringContaining("customers takes another table's records") as string,
        archive_customers: expect.stringContaining("customers takes another table's records") as string,
        archive_orders: expect.stringContaining("orders takes another table's records") as string,
      },
    });
    expect(pairsOf(source("shop_customer", "shop_order"), target("customers", "orders")).pairs).toEqual([
      "shop_customer → customers",
      "shop_order → orders",
    ]);
  });

  it("is not guessed where two are as good: both are left out, and the reason names them", () => {
    expect(pairsOf(source("Customer", "CUSTOMERS"), target("customers"))).toEqual({
      pairs: [],
      left: {
        Customer: "customers resembles CUSTOMERS and Customer alike: say which one it takes, as --tables 'Customer=customers'",
        CUSTOMERS: "customers resembles CUSTOMERS and Customer alike: say which one it takes, as --tables 'CUSTOMERS=customers'",
      },
    });
    expect(pairsOf(source("order"), target("orders", "Orders"))).toEqual({
      pairs: [],
      left: { order: "it resembles Orders and orders alike: say which one takes it, as --tables 'order=orders'" },
    });
    expect(pairsOf(source("a_customer", "a_x", "b_customer", "b_x"), target("customers")).pairs).toEqual([]);
  });

  it("is not taken away by a table that cannot be an entity", () => {
    const both = new Map([...source("archive_customers", "archive_x"), ...named(["customers"], { id: { ...ID, type: "uuid" } })]);
    expect(pairsOf(both, target("customers")).pairs).toEqual([]);
  });

  it("is said by a person: a pair stands beside all tables, a name alone restricts them", () => {
    const [there, here] = [source("customers", "it's old", "orders"), target("customers", "orders", "persons")];
    const pair: [string, string] = ["it's old", "persons"];
    const all = ["it's old → persons", "customers → customers", "orders → orders"];
    expect(pairsOf(there, here, new Map([pair])).pairs).toEqual(all);
    expect(pairsOf(there, here, new Map<string, string | null>([["orders", null], pair])).pairs).toEqual([all[2], all[0]]);
    expect(pairsOf(there, here).left).toEqual({
      "it's old": String.raw`no table of the target has a name like it: say which one takes it, as --tables 'it'\''s old=name'`,
    });
  });
});

describe("the legacy key", () => {
  it("is a column that is named after the old ids, and no other unique number", () => {
    const source = tables({ invoices: { id: KEY }, orders: { id: KEY }, visits: { visit_no: KEY } });
    const target = tables({
      invoices: { id: ID, invoice_number: LEGACY },
      orders: { id: ID, order_number: LEGACY, legacy_order_id: LEGACY },
      visits: { id: ID, visit_no: LEGACY },
    });
    const { pairs, left } = pairTables(source, target, undefined, isSecret);
    expect(pairs.map(({ legacyKey }) => legacyKey.column)).toEqual(["legacy_order_id", "visit_no"]);
    expect(left).toEqual([{ table: "invoices", reason: expect.stringContaining("add one, as legacy_id bigint") as string }]);
  });
});

describe("names of the proposed files", () => {
  it("give constants that differ from each other and from what the files import", () => {
    const names = ["address_1", "address1", "Registry", "codeHashes", "define entity", "In Zone", "undecided", "class"];
    const { pairs } = pairTables(named(names, { id: KEY }), named(names, { id: ID, legacy_id: LEGACY }), undefined, isSecret);
    const constants = pairs.map(({ name }) => constantOf(name));
    expect(constants).toHaveLength(names.length);
    expect(new Set(constants).size).toBe(names.length);
    for (const taken of ["registry", "codeHashes", "defineEntity", "inZone", "undecided", "class"])
      expect(constants).not.toContain(taken);
  });
});

describe("a reference", () => {
  const customer = { id: KEY, customer_no: { type: "integer", not_null: true, unique: true } };
  const customers = { id: ID, legacy_id: LEGACY };
  const invoices = { id: ID, legacy_id: LEGACY, customer_id: { type: "uuid", ...leadsTo("customers", "id") } };

  it("becomes a lookup where it leads to the key of the parent, and a question where it leads to another column", () => {
    const of = (referenced: string) =>
      proposed(
        tables({ customer, invoice: { id: KEY, customer_id: { type: "integer", ...leadsTo("customer", referenced) } } }),
        tables({ customers, invoices }),
        "invoice",
      );
    expect(of("id")).toContain('"customer_id": f.lookup("customers", "customer_id")');
    expect(of("customer_no")).not.toContain("f.lookup");
    expect(of("customer_no")).toContain("customer_id has customer_no of customer, and not id, by which customers are known");
  });

  it("is a question, too, where the parent's primary key is a UUID and a unique number is taken for its key", () => {
    const source = tables({
      customer: { id: ID, number: { type: "integer", not_null: true, unique: true } },
      invoice: { id: KEY, customer_id: { type: "uuid", ...leadsTo("customer", "id") } },
    });
    expect(proposed(source, tables({ customers, invoices }), "invoice")).not.toContain("f.lookup");
  });

  it("of another name is asked about, though it is the only one that leads to the same records", () => {
    const source = tables({ customer, invoice: { id: KEY, PayerNo: { type: "integer", ...leadsTo("customer", "id") } } });
    const text = proposed(source, tables({ customers, invoices }), "invoice");
    expect(text).toContain(
      '"customer_id": undecided("Is customer_id what PayerNo says? Both lead to customers, and their names differ. If so: f.lookup.", "payer_no")',
    );
  });
});

describe("an enum of equal members", () => {
  it.each([
    [false, false, ", { whenNull: null })"],
    [true, false, ' "a" })'],
    [false, true, ' "a" })'],
  ])("with NOT NULL there %s, here %s: a NULL has its meaning where both sides can have none", (there, here, ends) => {
    const grade = { type: "grade", members: ["a"] };
    const text = proposed(
      tables({ people: { id: KEY, grade: { ...grade, not_null: there } } }),
      tables({ people: { id: ID, legacy_id: LEGACY, grade: { ...grade, not_null: here } } }),
      "people",
    );
    expect(/"grade": f\.mapEnum\("grade", \{ ?"a": "a" ?\}(, \{ whenNull: null \})?\)/.exec(text)?.[1]).toBe(
      ends.startsWith(",") ? ", { whenNull: null }" : undefined,
    );
  });
});

describe("columns whose names say that they are secret", () => {
  it.each(
    `password PassWd user_pass pass_hash pwd userPwd passphrase pin Pin_Code cvv card_cvc otp otp_seed api_key apikey privateKey
     Password_Hash secret client_secrets token accesstoken password_salt salt credentials passcode`.split(/\s+/),
  )("%s", (name) => expect(isSecret(name)).toBe(true));
  it.each("secretary_id secretariat basalt spin pinned opinion passport passenger_id compass option saltwater key".split(" "))(
    "but not %s",
    (name) => expect(isSecret(name)).toBe(false),
  );

  it("leave a table out whose key has such a name", () => {
    const { left } = pairsOf(tables({ people: { pin: KEY } }), tables({ people: { id: ID, legacy_id: LEGACY } }));
    expect(left).toEqual({ people: expect.stringContaining("its key pin has a name that says it is secret") as string });
  });
});

describe("what is undecided", () => {
  const spec: UncheckedSpec = {
    name: "things",
    target: { table: "things", legacyKey: "legacy_id" },
    source: { table: "thing", key: "id", alias: "t", columns: { name: "t.name" }, ignored: {} },
    fields: (f) => ({ name: f.copy("name" as never) }),
  };
  const { source } = spec;
  const mark = undecided("What?") as unknown as string;

  it("is nothing in an entity that is whole", () => expect(validateRegistry([defineEntity(spec)], NONE)).toEqual([]));

  it.each<[string, Partial<UncheckedSpec>]>([
    ["a field", { fields: () => ({ name: mark }) }],
    ["an ignored column", { source: { ...source, ignored: { more: mark } } }],
    ["whenNull", { fields: (f) => ({ name: f.copy("name" as never, { whenNull: mark }) }) }],
    ["all options of a field", { fields: (f) => ({ name: f.copy("name" as never, mark as never) }) }],
    ["a map", { fields: (f) => ({ name: f.mapEnum("name", { a: mark }) }) }],
    ["a part of a lookup", { fields: (f) => ({ name: f.lookup("things", "name" as never, { unless: mark as never }) }) }],
    ["a function", { fields: (f) => ({ name: f.calculate(["name"], () => undecided("What?")) }) }],
    ["onDelete", { onDelete: mark as never }],
    ["a soft mark", { onDelete: { soft: { name: mark } } }],
    ["all conflicts", { conflicts: mark as never }],
    ["a strategy", { conflicts: { fields: { name: mark as never } } }],
    ["all rules", { rules: mark as never }],
    ["a condition", { source: { ...source, where: mark } }],
    ["a part of a condition", { source: { ...source, where: `t.name = '${mark}'` } }],
    ["how records are found", { source: { ...source, modified: mark } }],
    [
      "a rule",
      { rules: [{ id: "a", version: 1, severity: "warn", fields: ["name"], remedy: "b", holds: () => undecided("What?") }] },
    ],
  ])("is told wherever it stands: %s", (_, changed) => {
    const problems = validateRegistry([defineEntity({ ...spec, ...changed })], NONE);
    expect(problems.filter((problem) => problem.includes("undecided"))).toEqual([
      expect.stringMatching(/^things: .*undecided: .*What\?/) as string,
    ]);
  });
});

describe("a column that is called __proto__", () => {
  const spec = (fields: UncheckedSpec["fields"]): UncheckedSpec => ({
    name: "things",
    target: { table: "things", legacyKey: "legacy_id" },
    source: { table: "things", key: "id", alias: "t", columns: { value: "t.value" }, ignored: {} },
    fields,
  });

  it("is a field where its name is computed, and refused where a literal takes it for the prototype", () => {
    const field = { columns: ["value"], rules: [], decide: () => ({ value: null }) };
    expect(Object.keys(defineEntity(spec(() => ({ ["__proto__"]: field }))).fields)).toEqual(["legacy_id", "__proto__"]);
    expect(() => defineEntity(spec(() => ({ __proto__: field })))).toThrow(
      'things: "__proto__" in a literal is no field. Write ["__proto__"] instead.',
    );
    expect(() => defineEntity(spec(() => Object.create(null) as object))).not.toThrow();
  });

  it("is proposed under a computed name, on either side", () => {
    const text = proposed(
      named(["things"], { id: KEY, ["__proto__"]: {} }),
      named(["things"], { id: ID, legacy_id: LEGACY, ["__proto__"]: {} }),
      "things",
    );
    expect(text).toContain('["__proto__"]: f.');
    expect(text).not.toMatch(/[{,] "__proto__":/);
    const left = proposed(
      named(["things"], { id: KEY, ["__proto__"]: {} }),
      named(["things"], { id: ID, legacy_id: LEGACY }),
      "things",
    );
    expect(left).toContain('ignored: {["__proto__"]:');
  });
});
