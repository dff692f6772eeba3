import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createBuilders, jsonFromText, noneIfBlank, type FieldBuilders, type SourceRow } from "../shared/entity/fields.ts";
import { operations } from "../clinic/entities/operations.ts";
import { orders } from "../clinic/entities/orders.ts";
import { patients } from "../clinic/entities/patients.ts";
import { profiles } from "../clinic/entities/profiles.ts";
import { parentsOf, transform, counterpartsOf } from "../shared/page/transform.ts";

const UUID = "00000000-0000-5000-8000-000000000001";

function row(values: Record<string, string | null>): SourceRow {
  return { _key: "7", ...values };
}

const patient = row({
  id: "7",
  user_id: "70",
  doctor_id: "71",
  office_id: "72",
  birthdate: "1990-02-03",
  sex: "2",
  suffix: "AB12",
  status: "4",
  archived: "false",
  suspended: "false",
  schemes: "{}",
  submitted_at: null,
  updated_at: "2025-01-01 00:00:00.123456+00",
});
const parents = new Map([
  ["profiles:70", UUID],
  ["doctors:71", UUID],
  ["offices:72", UUID],
]);
const own = new Map([["7", UUID]]);

describe("transform", () => {
  it("turns a source row into target columns, keeping raw codes and microseconds", () => {
    expect(transform(patients, [patient], parents, own)).toEqual({
      issues: [],
      warnings: [],
      records: [
        {
          _key: "7",
          _uuid: UUID,
          _digest: null,
          _raw: { sex: "2", status: "4" },
          _values: {
            legacy_patient_id: "7",
            profile_id: UUID,
            primary_doctor_id: UUID,
            assigned_office_id: UUID,
            patient_number: "PAT-000007",
            suffix: "AB12",
            sex: "female",
            date_of_birth: "1990-02-03",
            status: "active",
            treatment_phase: "enrolment",
            legacy_data: '{"legacy_id":7,"source_table":"dispatch_patient","original_status_id":4,"sync_source":"isthmus"}',
            archived: "false",
            suspended: "false",
            schemes: "{}",
            enrolled_at: null,
            source_updated_at: "2025-01-01 00:00:00.123456+00",
          },
        },
      ],
    });
  });

  it("makes a record wait under its first missing parent's key", () => {
    const { records, issues } = transform(patients, [patient], new Map([["profiles:70", UUID]]), own);
    expect(records).toEqual([]);
    expect(issues).toMatchObject([
      { k: "7", state: "waiting", type: "foreign_key_violation", field: "primary_doctor_id", parent: "doctors", parentId: "71" },
    ]);
  });

  it("sends an unknown code to the queue with its raw value, before it asks for parents", () => {
    const { issues } = transform(patients, [{ ...patient, status: "77" }], new Map(), own);
    expect(issues).toMatchObject([
      {
        state: "open",
        type: "business_rule_violation",
        field: "status",
        rule: "patients.status.known_code@1",
        data: { raw: "77" },
      },
    ]);
  });

  it("never takes the name of an Object property for a known code", () => {
    expect(transform(patients, [{ ...patient, status: "constructor" }], parents, own).issues).toHaveLength(1);
  });

  it("queues a record whose required reference is NULL, and lands one whose optional reference is", () => {
    expect(transform(patients, [{ ...patient, user_id: null }], parents, own).issues).toMatchObject([
      { state: "open", rule: "patients.profile_id.required@1" },
    ]);
    expect(transform(patients, [{ ...patient, doctor_id: null }], parents, own).records).toMatchObject([
      { _values: { primary_doctor_id: null } },
    ]);
  });

  it("asks for each parent once, and only for those that are named", () => {
    expect(parentsOf(patients, [patient, { ...patient, office_id: null }])).toEqual([
      { entity: "profiles", legacyId: "70" },
      { entity: "doctors", legacyId: "71" },
      { entity: "offices", legacyId: "72" },
    ]);
  });

  it("reads neither the card's BIN nor a password", () => {
    expect(JSON.stringify([operations.source.columns, profiles.source.columns])).not.toMatch(/card_bin|password/);
  });

  it.each([
    ["ab", "7", "ab-7"],
    ["", "7", "7"],
    [null, "7", "7"],
  ])("numbers an order of a patient with suffix %s as expected", (suffix, id, number) => {
    const value = orders.fields["order_number"]?.decide(row({ patient_suffix: suffix, id }), new Set());
    expect(value).toEqual({ value: number });
  });
});

describe("profile type", () => {
  const none = {
    patient_id: null,
    is_superuser: "false",
    in_master: "false",
    in_technician: "false",
    is_doctor: "false",
    in_sales: "false",
    in_admin: "false",
  };
  it.each([
    [{ patient_id: "1", in_master: "true", is_doctor: "true" }, "patient"],
    [{ is_superuser: "true", in_technician: "true" }, "master"],
    [{ in_master: "true", is_doctor: "true" }, "master"],
    [{ in_technician: "true", is_doctor: "true" }, "technician"],
    [{ is_doctor: "true", in_sales: "true", in_admin: "true" }, "doctor"],
    [{ in_sales: "true", in_admin: "true" }, "sales_person"],
  ])("of %j is %s", (flags, type) => {
    expect(profiles.fields["profile_type"]?.decide(row({ ...none, ...flags }), new Set(["doctors"]))).toEqual({ value: type });
  });
  it.each([{ in_admin: "true" }, {}])("of %j is for a person to decide", (flags) => {
    expect(profiles.fields["profile_type"]?.decide(row({ ...none, ...flags }), new Set())).toHaveProperty("problem");
  });
  it.each([
    [["doctors"], "doctor"],
    [["doctors", "technicians"], "technician"],
  ])("of somebody of whom the source says nothing any more, but who has landed in %j, is %s", (landed, type) => {
    for (const flags of [{}, { in_admin: "true" }])
      expect(profiles.fields["profile_type"]?.decide(row({ ...none, ...flags }), new Set(landed))).toEqual({ value: type });
  });
  it("is asked with those entities in which the record itself has landed", () => {
    expect(counterpartsOf(profiles, [row(none)])).toEqual([
      { entity: "technicians", legacyId: "7" },
      { entity: "doctors", legacyId: "7" },
    ]);
    expect(counterpartsOf(patients, [patient])).toEqual([]);
    const type = (...landed: string[]) =>
      transform(profiles, [row(none)], new Map(landed.map((key) => [key, UUID])), own).records[0]?._values["profile_type"];
    expect([type("doctors:7"), type("technicians:7"), type("doctors:8"), type("patients:7")]).toEqual([
      ...["doctor", "technician", undefined, undefined],
    ]);
  });
});

describe("text that means none", () => {
  it.each(["", "  ", "null", "NULL", " Null "])("%j is NULL", (text) => expect(noneIfBlank(text)).toBeNull());
  it.each(["Nullmann", "0", "none"])("%j stays", (text) => expect(noneIfBlank(text)).toBe(text));
});

describe("JSON kept as text", () => {
  it.each([
    ["", null],
    ["  ", null],
    ["[]", "[]"],
    ['{"a":1}', '{"a":1}'],
    ["null", "null"],
    ['{"smile":"\\ud83d\\ude00"}', '{"smile":"\\ud83d\\ude00"}'],
    ['{"path":"C:\\\\u0000"}', '{"path":"C:\\\\u0000"}'],
  ])("%j lands as %j", (text, stored) => expect(jsonFromText(text)).toBe(stored));

  it.each(["None", "{'a': 1}", '{"a": NaN}', '{"a":"\\u0000"}', '{"a":"\\ud800"}'])("%j is kept whole under _raw", (text) => {
    expect(JSON.parse(jsonFromText(text) ?? "")).toEqual({ _raw: text, _unparseable: true });
  });

  it("loses nothing: what is stored is the text itself or holds it", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const stored = jsonFromText(text);
        if (stored === null) return text.trim() === "";
        return stored === text || (JSON.parse(stored) as { _raw: string })._raw === text;
      }),
    );
  });
});

describe("a JSON object of columns", () => {
  const columns = createBuilders("sample") as unknown as FieldBuilders<{
    id: { type: "integer" };
    price: { type: "numeric" };
    paid: { type: "boolean" };
    name: { type: "text" };
  }>;
  const field = columns.object({
    id: { number: "id" },
    price: { number: "price" },
    paid: { boolean: "paid" },
    'a "name"': { text: "name" },
    source: { always: "here" },
  });
  const valueOf = (values: Record<string, string | null>) => {
    const decision = field.decide(values, new Set());
    return "value" in decision ? decision.value : undefined;
  };
  it("writes numbers digit by digit, however long, and nothing as null", () => {
    expect(valueOf({ id: "9223372036854775807", price: "0.10", paid: "true", name: "x" })).toBe(
      '{"id":9223372036854775807,"price":0.10,"paid":true,"a \\"name\\"":"x","source":"here"}',
    );
    expect(JSON.parse(valueOf({ id: null, price: "NaN", paid: null, name: null }) ?? "")).toEqual({
      ...{ id: null, price: "NaN", paid: null, 'a "name"': null, source: "here" },
    });
  });
  it("is valid JSON whatever a text holds", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('"', "\\", "\n", "\t", "{", "x", "é", "😀") }), (name) => {
        expect(JSON.parse(valueOf({ id: "1", price: null, paid: "false", name }) ?? "")).toMatchObject({ 'a "name"': name });
      }),
    );
  });
});
