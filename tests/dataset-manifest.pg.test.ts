import type { Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadLegacy } from "../local/dataset/load.ts";
import type { Manifest } from "../local/dataset/manifest.ts";
import { createTestSource, type TestDatabase } from "./support/databases.ts";

describe.each([1, 2])("the manifest (seed %i)", (seed) => {
  let source: TestDatabase;
  let manifest: Manifest;
  let found: Record<string, Outcomes>;

  beforeAll(async () => {
    source = await createTestSource();
    manifest = await loadLegacy({ url: source.superuserUrl, seed, scale: 0.05, logScale: 0.0002 });
    found = await expectedOutcomes(source.admin);
  });
  afterAll(() => source[Symbol.asyncDispose]());

  it("names exactly the records that plain SQL over the rows finds, each for the same reason", () => {
    for (const [entity, expected] of Object.entries(manifest.entities)) {
      const outcomes = found[entity];
      expect(outcomes?.eligible, entity).toBe(expected.eligible);
      const named = expected.exceptions.map((exception) => ({
        id: exception.legacyId,
        field: exception.field,
        parent: exception.outcome === "waiting" ? exception.parent : null,
        parent_id: exception.outcome === "waiting" ? exception.parentId : null,
      }));
      expect(outcomes?.exceptions, entity).toEqual(named.sort((a, b) => a.id - b.id));
    }
  });

  it("adds up the money of the records that land as plain SQL does", async () => {
    const sums: Record<string, Record<string, string>> = {};
    for (const [entity, { money }] of Object.entries(manifest.entities)) {
      sums[entity] = {};
      for (const column of Object.keys(money)) sums[entity][column] = await landedSum(source.admin, entity, column);
    }
    expect(sums).toEqual(Object.fromEntries(Object.entries(manifest.entities).map(([entity, { money }]) => [entity, money])));
    expect(Object.values(sums).flatMap((of) => Object.keys(of))).toHaveLength(10);
  });
});

interface Outcomes {
  readonly eligible: number;
  readonly exceptions: readonly { id: number; field: string | null; parent: string | null; parent_id: number | null }[];
}

const inGroup = (name: string) =>
  `u.id in (select m.user_id from auth_user_groups m join auth_group g on g.id = m.group_id where g.name = '${name}')`;

const DOCTORS = `
  select user_id from auth_user_groups m join auth_group g on g.id = m.group_id where g.name = 'Doctor'
  union select user_id from dispatch_doctorsetting union select user_id from dispatch_usersetting
  union select user_id from dispatch_office_doctors
  union select doctor_id from dispatch_patient where doctor_id is not null
  union select doctor_id from dispatch_payment where doctor_id is not null`;

/** The records of an entity: their own unknown code, whether the target's check takes them, and their references in order. */
const RECORDS: readonly (readonly [entity: string, query: string, parents: readonly (readonly [string, string])[]])[] = [
  ["offices", "select id, null as field, true as passes, '{}'::int[] as refs from dispatch_office", []],
  [
    "profiles",
    `select u.id, true as passes, '{}'::int[] as refs,
            case when p.id is null and not (u.is_superuser or ${inGroup("Master")} or ${inGroup("Technician")} or ${inGroup("Sales")}
                                            or u.id in (${DOCTORS})) then 'profile_type'
                 when p.sex not in (0, 1, 2) then 'gender' end as field
       from auth_user u left join dispatch_patient p on p.user_id = u.id`,
    [],
  ],
  [
    "doctors",
    `select user_id as id, null as field, true as passes, array[user_id] as refs from (${DOCTORS}) d`,
    [["profile_id", "profiles"]],
  ],
  [
    "patients",
    `select id, case when sex not in (0, 1, 2) then 'sex' when status not in (1, 2, 4, 10) then 'status' end as field,
            coalesce(birthdate >= '1900-01-01', true) as passes, array[user_id, doctor_id, office_id] as refs from dispatch_patient`,
    [
      ["profile_id", "profiles"],
      ["primary_doctor_id", "doctors"],
      ["assigned_office_id", "offices"],
    ],
  ],
  [
    "orders",
    `select i.id, case when i.course_id not in (1, 2, 3, 4, 7, 8) then 'course_type' when i.status not in (0, 1, 2, 4) then 'status' end as field,
            true as passes, array[i.patient_id, p.doctor_id, p.office_id] as refs, i.price as amount
       from dispatch_instruction i join dispatch_patient p on p.id = i.patient_id`,
    [
      ["patient_id", "patients"],
      ["doctor_id", "doctors"],
      ["office_id", "offices"],
    ],
  ],
  [
    "payments",
    `select id, null as field, true as passes, array[instruction_id, doctor_id, office_id] as refs from dispatch_payment`,
    [
      ["order_id", "orders"],
      ["doctor_id", "doctors"],
      ["office_id", "offices"],
    ],
  ],
  [
    "operations",
    `select id, case when type in (1, 2) then null else 'operation_type' end as field, coalesce(price >= 0, true) as passes,
            array[payment_id] as refs from dispatch_operation`,
    [["payment_id", "payments"]],
  ],
];

/** docs/domain.md once more, as SQL over the loaded rows: what must not land, and why. Leaves a view per entity behind. */
async function expectedOutcomes(source: Sql): Promise<Record<string, Outcomes>> {
  await source.unsafe("drop schema if exists expected cascade; create schema expected").simple();
  const outcomes: Record<string, Outcomes> = {};
  for (const [entity, query, parents] of RECORDS) {
    const missing = parents.map(
      ([field, parent], index) =>
        `when r.refs[${index + 1}] is not null and not exists (select from expected."${parent}" p where p.id = r.refs[${index + 1}] and p.lands)
           then array['${field}', '${parent}', r.refs[${index + 1}]::text]`,
    );
    const waits = missing.length > 0 ? `case when r.field is not null then null ${missing.join(" ")} end` : "null::text[]";
    await source.unsafe(`
      create materialized view expected."${entity}" as
      select id, coalesce(waits[1], field) as field, waits[2] as parent, waits[3]::int as parent_id,
             field is null and waits is null and passes as lands
        from (select r.*, ${waits} as waits from (${query}) r) x`);
    await source.unsafe(`create unique index on expected."${entity}" (id)`);
    const [row] = await source.unsafe<{ n: number }[]>(`select count(*)::int as n from expected."${entity}"`);
    const exceptions = await source.unsafe<Outcomes["exceptions"][number][]>(
      `select id, field, parent, parent_id from expected."${entity}" where not lands order by id`,
    );
    outcomes[entity] = { eligible: row?.n ?? -1, exceptions: [...exceptions] };
  }
  return outcomes;
}

const MONEY: Readonly<Record<string, { table: string; key: string; columns: Readonly<Record<string, string>> }>> = {
  doctors: { table: "dispatch_doctorsetting", key: "user_id", columns: { credit: "credit" } },
  orders: { table: "dispatch_instruction", key: "id", columns: { amount: "price" } },
  payments: {
    table: "dispatch_payment",
    key: "id",
    columns: {
      amount: "total_price",
      subtotal_amount: "subtotal_price",
      paid_amount: "paid_price",
      additional_amount: "additional_price",
      custom_amount: "custom_price",
      tax_amount: "tax_value",
      used_credit: "used_credit",
    },
  },
  operations: { table: "dispatch_operation", key: "id", columns: { amount: "price" } },
};

/** A target column's sum over the records that land, after `expectedOutcomes`. */
async function landedSum(source: Sql, entity: string, column: string): Promise<string> {
  const from = MONEY[entity];
  const amount = from?.columns[column];
  if (!from || amount === undefined) throw new Error(`no source column known for ${entity}.${column}`);
  const [row] = await source.unsafe<{ sum: string }[]>(
    `select coalesce(sum(s."${amount}"), 0)::numeric(20,2)::text as sum
       from public."${from.table}" s join expected."${entity}" e on e.id = s."${from.key}" where e.lands`,
  );
  return row?.sum ?? "missing";
}
