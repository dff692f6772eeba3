import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { operations } from "../clinic/entities/operations.ts";
import { orders } from "../clinic/entities/orders.ts";
import { patients } from "../clinic/entities/patients.ts";
import { payments } from "../clinic/entities/payments.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { compareDecimals, length, member, pattern, range, uuidFormat, type ValueRule } from "../shared/entity/rules.ts";

const decimal = fc.tuple(fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), fc.nat({ max: 12 })).map(([value, scale]) => {
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, "0");
  const text = scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
  return { text: `${value < 0n ? "-" : ""}${text}`, exact: value * 10n ** BigInt(12 - scale) };
});

describe("numbers as text", () => {
  it("compare as the exact numbers do, however many digits they have", () => {
    fc.assert(
      fc.property(decimal, decimal, (a, b) => {
        expect(Math.sign(compareDecimals(a.text, b.text))).toBe(a.exact < b.exact ? -1 : a.exact > b.exact ? 1 : 0);
      }),
    );
  });

  it("sort infinities and NaN where PostgreSQL does", () => {
    const sorted = ["-Infinity", "-1", "0", "99999999999999999999.1", "Infinity", "NaN"];
    for (const [i, a] of sorted.entries())
      for (const [j, b] of sorted.entries()) expect(Math.sign(compareDecimals(a, b))).toBe(Math.sign(i - j));
  });

  it("that are none are refused", () => {
    for (const text of ["", "1e5", " 1", "1.", ".5", "abc"]) expect(() => compareDecimals(text, "1")).toThrow(RangeError);
  });
});

describe("rules of values", () => {
  it.each<[string, ValueRule, string[], string[]]>([
    [
      "range",
      range({ min: "0", max: "0.10" }),
      ["0", "-0", "0.1", "0.1000"],
      ["-0.0001", "0.10001", "NaN", "Infinity", "1e-3", "x"],
    ],
    ["range without end", range({ min: "-5" }), ["-5", "99999999999999999999"], ["-5.1"]],
    ["length", length({ min: 1, max: 3 }), ["a", "äöü", "👩🏽a"], ["", "abcd"]],
    ["pattern, from first to last character", pattern("code", 1, /a|b+/g, "a or bs"), ["a", "bb"], ["ab", "a\n", "xa", ""]],
    ["member", member("one", "two"), ["one", "two"], ["One", "", "toString"]],
    ["uuid", uuidFormat(), ["6f1f7e1c-2f0b-4c0d-9d52-0a1b2c3d4e5f"], ["6f1f7e1c2f0b4c0d9d520a1b2c3d4e5f", "none"]],
  ])("%s", (_, rule, good, bad) => {
    expect(good.filter((value) => !rule.holds(value))).toEqual([]);
    expect(bad.filter((value) => rule.holds(value))).toEqual([]);
    // Asked again, a rule says the same.
    expect(good.filter((value) => !rule.holds(value))).toEqual([]);
    expect(rule.remedy).toMatch(/correct it in the source/);
  });
});

describe("rules of records", () => {
  const judge = (entity: Entity, id: string, record: Record<string, string | null>) => {
    const rule = entity.rules.find((one) => one.id === id);
    if (!rule) throw new Error(`no rule ${id}`);
    return rule.holds(record);
  };
  it.each<[Entity, string, Record<string, string | null>, boolean]>([
    [patients, "patient_number_format", { patient_number: "PAT-000042" }, true],
    [patients, "patient_number_format", { patient_number: "PAT-1234567" }, true],
    [patients, "patient_number_format", { patient_number: "PAT-42" }, false],
    [patients, "patient_number_format", { patient_number: null }, false],
    [patients, "born_before_enrolment", { date_of_birth: "2001-02-03", enrolled_at: "2001-02-03 10:00:00+00" }, true],
    [patients, "born_before_enrolment", { date_of_birth: "2001-02-04", enrolled_at: "2001-02-03 10:00:00+00" }, false],
    [patients, "born_before_enrolment", { date_of_birth: null, enrolled_at: "2001-02-03 10:00:00+00" }, true],
    [patients, "born_before_enrolment", { date_of_birth: "2001-02-04", enrolled_at: "-infinity" }, true],
    [patients, "born_before_enrolment", { date_of_birth: "0044-03-15 BC", enrolled_at: "2001-02-03 10:00:00+00" }, true],
    [payments, "paid_within_total", { paid_amount: "100.00", amount: "100.0" }, true],
    [payments, "paid_within_total", { paid_amount: "100.01", amount: "100.00" }, false],
    [payments, "paid_within_total", { paid_amount: "9.00", amount: "10.00" }, true],
    [orders, "shipped_was_submitted", { status: "shipped", submitted_at: null }, false],
    [orders, "shipped_was_submitted", { status: "approved", submitted_at: null }, true],
    [operations, "refund_names_payment", { operation_type: "refund", payment_id: null }, false],
    [operations, "refund_names_payment", { operation_type: "payment", payment_id: null }, true],
  ])("%#: %s of %j is %s", (entity, id, record, expected) => {
    expect(judge(entity, id, record)).toBe(expected);
  });
});
