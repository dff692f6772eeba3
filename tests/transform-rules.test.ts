import { describe, expect, it } from "vitest";
import type { Entity, Field } from "../shared/entity/define-entity.ts";
import { directCopy } from "../shared/entity/fields.ts";
import { payments } from "../clinic/entities/payments.ts";
import { range, type RecordRule } from "../shared/entity/rules.ts";
import { transform } from "../shared/page/transform.ts";

const UUID = "00000000-0000-5000-8000-000000000001";

/** Payments with nothing but a few copied fields. */
function entity(fields: Readonly<Record<string, Field>>, rules: readonly RecordRule[] = []): Entity {
  return { ...payments, fields, rules };
}
const run = (of: Entity, row: Record<string, string | null>, severities: Record<string, "park" | "warn"> = {}) =>
  transform(of, [{ _key: "7", ...row }], new Map(), new Map([["7", UUID]]), severities);

const never: RecordRule = {
  id: "never",
  version: 3,
  severity: "warn",
  fields: ["amount", "note"],
  remedy: "There is none.",
  holds: () => false,
};

describe("rules in a transformation", () => {
  it("send a record without a needed value to the queue", () => {
    const { records, issues } = run(entity({ amount: directCopy("amount", { required: true }) }), { amount: null });
    expect(records).toEqual([]);
    expect(issues).toMatchObject([
      { k: "7", state: "open", type: "business_rule_violation", rule: "payments.amount.required@1" },
    ]);
  });

  it("send a value that breaks its rule to the queue, without the value, and let NULL pass", () => {
    const priced = entity({ amount: directCopy("amount", { rules: [range({ min: "0" })] }) });
    const { issues } = run(priced, { amount: "-12.34" });
    expect(issues).toMatchObject([{ k: "7", state: "open", field: "amount", rule: "payments.amount.range@1" }]);
    expect(JSON.stringify(issues)).not.toContain("12.34");
    expect(run(priced, { amount: null }).records).toHaveLength(1);
    expect(run(priced, { amount: "0" }).records).toHaveLength(1);
  });

  it("warn and let the record land, or park it, as the rule or an override says", () => {
    const judged = entity({ amount: directCopy("amount") }, [never]);
    const landed = run(judged, { amount: "1" });
    expect(landed.records).toHaveLength(1);
    expect(landed.issues).toEqual([]);
    expect(landed.warnings).toEqual([{ k: "7", rule: "payments.never@3" }]);
    const parked = run(judged, { amount: "1" }, { "payments.never@3": "park" });
    expect(parked.records).toEqual([]);
    expect(parked.warnings).toEqual([]);
    expect(parked.issues).toMatchObject([{ rule: "payments.never@3", field: "amount, note", remedy: "There is none." }]);
    // An override is of one version.
    expect(run(judged, { amount: "1" }, { "payments.never@2": "park" }).records).toHaveLength(1);
    const relaxed = entity({ amount: directCopy("amount") }, [{ ...never, severity: "park" }]);
    expect(run(relaxed, { amount: "1" }).issues).toHaveLength(1);
    expect(run(relaxed, { amount: "1" }, { "payments.never@3": "warn" }).warnings).toHaveLength(1);
  });

  it("say nothing of a record whose own fields are in trouble, and warn of nothing that is parked", () => {
    const troubled = entity({ amount: directCopy("amount", { required: true }) }, [never]);
    expect(run(troubled, { amount: null })).toMatchObject({ warnings: [], issues: [{ rule: "payments.amount.required@1" }] });
    const both = entity({ amount: directCopy("amount") }, [never, { ...never, id: "hard", severity: "park" }]);
    expect(run(both, { amount: "1" })).toMatchObject({ records: [], warnings: [], issues: [{ rule: "payments.hard@3" }] });
  });

  it("that throw count as broken, and the page goes on", () => {
    const thrown = entity({ amount: directCopy("amount") }, [
      {
        ...never,
        holds: () => {
          throw new RangeError("not a number");
        },
      },
    ]);
    expect(run(thrown, { amount: "1" }).warnings).toEqual([{ k: "7", rule: "payments.never@3" }]);
  });

  it("a function that throws sends its record to the queue, and the others land", () => {
    const thrower: Field = {
      ...directCopy("amount"),
      decide: (row) => {
        if (row["amount"] === "boom") throw new RangeError("Invalid time value of boom");
        return { value: row["amount"] ?? null };
      },
    };
    const rows = [{ _key: "7", amount: "boom" }, { _key: "8", amount: "1" }]; // prettier-ignore
    const { records, issues } = transform(entity({ amount: thrower }), rows, new Map(), new Map([["7", UUID], ["8", UUID]])); // prettier-ignore
    expect(records.map(({ _key }) => _key)).toEqual(["8"]);
    expect(issues).toMatchObject([{ k: "7", state: "open", field: "amount", rule: "payments.amount.computed@1" }]);
    expect(JSON.stringify(issues)).not.toContain("boom");
  });
});
