import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { makeClinic as makeClinicOf } from "../clinic/dataset/clinic.ts";
import { makeContentTypes } from "../clinic/dataset/content-types.ts";
import { copyText } from "../clinic/dataset/copy.ts";
import { spreader } from "../clinic/dataset/dirt.ts";
import { generateLegacy, type GenerateOptions } from "../clinic/dataset/generate.ts";
import { IdSet } from "../clinic/dataset/id-set.ts";
import { largeCounts } from "../clinic/dataset/large-tables.ts";
import type { Exception } from "../clinic/dataset/manifest.ts";
import { doctorUsers } from "../clinic/dataset/membership.ts";
import { sendable } from "../clinic/dataset/notifications.ts";
import { Random } from "../clinic/dataset/random.ts";
import { spoiler } from "../clinic/dataset/spoil.ts";
import { money, timestamp } from "../clinic/dataset/values.ts";

function makeClinic(seed: number, scale: number) {
  return makeClinicOf(seed, scale, makeContentTypes(seed));
}

/** The bytes that COPY would send, by table. */
function digests(options: GenerateOptions): Record<string, string> {
  const { tables } = generateLegacy(options);
  return Object.fromEntries(
    tables.map(({ table, columns, rows }) => {
      const hash = createHash("sha256").update(columns.join());
      for (const chunk of copyText(rows)) hash.update(chunk);
      return [table, hash.digest("hex")];
    }),
  );
}

const GROWING = ["action", "bracket", "comment", "file", "notification", "plan", "project", "record", "record_roles", "task"].map(
  (name) => `dispatch_${name}`,
);

function exceptionsOf(options: GenerateOptions): Exception[] {
  return Object.values(generateLegacy(options).entities()).flatMap(({ exceptions }) => exceptions);
}

describe("the generated legacy data", () => {
  const options = { seed: 3, scale: 0.02, logScale: 0.002 };

  it("is the same, byte for byte and manifest included, for the same seed and scales", () => {
    expect(digests(options)).toEqual(digests(options));
    expect(generateLegacy(options).entities()).toEqual(generateLegacy(options).entities());
  });

  it("differs in every table with made-up values for another seed", () => {
    const [one, other] = [digests(options), digests({ ...options, seed: 4 })];
    for (const table of ["auth_user", "dispatch_office", "dispatch_patient", "dispatch_operation", "dispatch_notification"]) {
      expect(one[table], table).not.toBe(other[table]);
    }
    // Content types have other ids in every installation.
    expect(one["django_content_type"]).not.toBe(other["django_content_type"]);
  });

  it("keeps everything else as it is when only the scale of the large tables changes", () => {
    const [small, large] = [digests(options), digests({ ...options, logScale: 0.004 })];
    const changed = Object.keys(small).filter((table) => small[table] !== large[table]);
    expect(changed.sort()).toEqual(GROWING);
  });

  it("survives its manifest's way through JSON", () => {
    const entities = generateLegacy(options).entities();
    expect(JSON.parse(JSON.stringify(entities))).toEqual(entities);
  });

  it("has ids with gaps, and later ids are not later in time", () => {
    const { users, instructions, payments } = makeClinic(1, 0.05);
    for (const rows of [users, instructions, payments]) {
      const last = rows.at(-1)?.id ?? 0;
      expect(last).toBeGreaterThan(rows.length * 1.05);
      expect(new Set(rows.map((row) => row.id)).size).toBe(rows.length);
    }
    const times = instructions.map((row) => row.updated);
    expect(times).not.toEqual([...times].sort());
    expect(new Set(times).size).toBeLessThan(times.length);
  });

  it("names nobody: every address is at an example domain or no address at all", () => {
    const addresses = makeClinic(1, 0.2).users.map((user) => user.email);
    expect(addresses.filter((email) => !/@example\.(com|org|test)$|^$|^null$|^not an address$/.test(email))).toEqual([]);
  });
});

describe("the real numbers at scale 1", () => {
  const clinic = makeClinic(1, 1);
  const entities = generateLegacy({ scale: 1, logScale: 0 }).entities();

  it.each([
    ["offices", 897],
    ["users", 9_839],
    ["patients", 8_488],
    ["instructions", 25_012],
    ["payments", 17_235],
    ["operations", 3_720],
    ["jaws", 43_458],
    ["doctorSettings", 1_213],
    ["userSettings", 1_181],
    ["officeDoctors", 472],
    ["groups", 10],
    ["courses", 8],
    ["categories", 44],
    ["products", 14],
    ["offers", 788],
    ["discounts", 151],
    ["purchases", 3_701],
    ["wares", 16_552],
    ["storages", 1],
    ["roles", 48],
    ["rolePermissions", 1_346],
    ["templates", 169],
    ["editRoles", 659],
    ["viewRoles", 1_111],
    ["viewGroups", 199],
    ["templateProducts", 183],
    ["predecessors", 191],
    ["states", 5_547],
    ["notes", 963],
  ] as const)("%s: %i", (table, count) => {
    expect(clinic[table]).toHaveLength(count);
  });

  it("has over ten million rows with the tables that grow by the day", () => {
    const growing = generateLegacy({ scale: 0.05, logScale: 0.01 }).tables.filter(({ table }) => GROWING.includes(table));
    const rows = growing.reduce((sum, table) => sum + [...table.rows].length, 0);
    expect(rows * 100).toBeGreaterThan(10_000_000);
  });

  it("streams the tables that grow by the day, of whose notifications exactly 2,039,588 are sendable", () => {
    expect(largeCounts(1)).toEqual({
      projects: 72_155,
      brackets: 1_720,
      plans: 209_241,
      records: 70_742,
      files: 327_771,
      comments: 16_312,
      notifications: 5_700_000,
      tasks: 969_000,
      actions: 3_130_000,
    });
    expect(sendable(5_700_000)).toBe(2_039_588);
    const small = generateLegacy({ scale: 0.005, logScale: 0.01 }).entities()["system_messages"];
    expect(small?.eligible).toBe(sendable(57_000));
    expect(small?.waived).toEqual({ rule: "sendable@1", count: 57_000 - sendable(57_000) });
  });

  it("has 1,339 users with a trace of being a doctor, some of whom are patients, technicians or masters", () => {
    const doctors = doctorUsers(clinic);
    expect(doctors.size).toBe(1_339);
    expect(clinic.patients.filter((patient) => doctors.has(patient.user)).length).toBe(113);
  });

  it("has the offices of the real countries, and none outside the USA is valid", () => {
    const counts: Record<string, number> = {};
    for (const { country } of clinic.offices) counts[String(country)] = (counts[String(country)] ?? 0) + 1;
    expect(counts).toMatchObject({ India: 155, Japan: 110, Thailand: 64, Vietnam: 3, Australia: 3, France: 1, null: 4 });
    expect(clinic.offices.filter((office) => office.valid).map((office) => office.country)).toEqual(
      Array<string>(clinic.offices.filter((office) => office.valid).length).fill("USA"),
    );
    expect(clinic.offices.filter((office) => office.valid).length).toBe(546);
  });

  it("shares 7 addresses among doctors, the most used by 11 accounts", () => {
    const accounts = new Map<string, number>();
    for (const { email } of clinic.users.filter((user) => user.email.startsWith("front.desk")))
      accounts.set(email, (accounts.get(email) ?? 0) + 1);
    expect(accounts.size).toBe(7);
    expect(Math.max(...accounts.values())).toBe(11);
    expect([...accounts.values()].reduce((sum, count) => sum + count - 1, 0)).toBe(62);
  });

  it("has more than 122 users whose name is another's as well", () => {
    const names = clinic.users.map((user) => `${user.first} ${user.last}`);
    expect(names.length - new Set(names).size).toBeGreaterThanOrEqual(122);
  });

  it("is skewed: a tenth of the doctors has more than a third of the patients", () => {
    const patients = new Map<number, number>();
    for (const { doctor } of clinic.patients) if (doctor !== null) patients.set(doctor, (patients.get(doctor) ?? 0) + 1);
    const most = [...patients.values()].sort((a, b) => b - a);
    const tenth = most.slice(0, Math.ceil(most.length / 10)).reduce((sum, count) => sum + count, 0);
    expect(tenth / clinic.patients.length).toBeGreaterThan(0.33);
  });

  it("keeps exceptional records under one in a hundred", () => {
    const all = Object.values(entities);
    const exceptions = all.reduce((sum, { exceptions: list }) => sum + list.length, 0);
    expect(exceptions / all.reduce((sum, { eligible }) => sum + eligible, 0)).toBeLessThan(0.01);
  });
});

describe("what the manifest says", () => {
  it.each([1, 2, 3, 4, 5])(
    "is consistent (seed %i): each record lands or is named once, and waits for one that has not landed",
    (seed) => {
      const entities = generateLegacy({ seed, scale: 0.05, logScale: 0.001 }).entities();
      const missing = new Set(Object.values(entities).flatMap((of) => of.exceptions.map((e) => `${e.entity}/${e.legacyId}`)));
      const dangling = new Set<string>();
      for (const [entity, { eligible, landed, exceptions, golden }] of Object.entries(entities)) {
        expect(landed + exceptions.length, entity).toBe(eligible);
        expect(new Set(exceptions.map((exception) => exception.legacyId)).size, entity).toBe(exceptions.length);
        for (const exception of exceptions) {
          if (exception.outcome !== "waiting" || missing.has(`${exception.parent}/${exception.parentId}`)) continue;
          dangling.add(`${entity}.${exception.field} → ${exception.parent}`);
        }
        for (const legacyId of Object.keys(golden)) expect(missing).not.toContain(`${entity}/${legacyId}`);
      }
      // Those wait for a record that does not exist: no foreign key holds them, or nobody made the user what is
      // referred to.
      expect([...dangling].sort()).toEqual([
        "messages.recipient_patient_id → patients",
        "messages.recipient_profile_id → profiles",
        "messages.team_id → teams",
        "system_messages.order_id → orders",
        "system_messages.patient_id → patients",
        "team_communications.team_id → teams",
        "technician_roles.technician_id → technicians",
      ]);
      expect(Object.values(entities).flatMap(({ golden }) => Object.keys(golden)).length).toBeGreaterThan(200);
    },
  );

  it.each([0.025, 0.05, 0.2])("has each way to the queue and each link of the longest chain of waiting at scale %d", (scale) => {
    const ways = new Set(
      exceptionsOf({ scale, logScale: 0.001 }).map((e) => `${e.entity} ${e.outcome} ${e.reason} ${e.field ?? "-"}`),
    );
    for (const way of [
      "profiles open unknown_code profile_type",
      "profiles open unknown_code gender",
      "doctors waiting parent_missing profile_id",
      "patients open unknown_code sex",
      "patients open unknown_code status",
      "patients open check -",
      "patients waiting parent_missing primary_doctor_id",
      "orders open unknown_code course_type",
      "orders open unknown_code status",
      "orders waiting parent_missing patient_id",
      "payments waiting parent_missing order_id",
      "operations open unknown_code operation_type",
      "operations open check -",
      "operations waiting parent_missing payment_id",
    ])
      expect(ways).toContain(way);
  });

  it.each([1, 2, 3])("has payments that wait for an order that waits itself (seed %i)", (seed) => {
    const entities = generateLegacy({ seed, scale: 0.05, logScale: 0.001 }).entities();
    const waiting = (entity: string) => entities[entity]?.exceptions.filter((exception) => exception.outcome === "waiting") ?? [];
    const orders = new Set(waiting("orders").map((exception) => exception.legacyId));
    expect(waiting("payments").filter(({ parent, parentId }) => parent === "orders" && orders.has(parentId))).not.toEqual([]);
  });

  it.each([0.005, 0.01, 0.02])("has most of them even at scale %d", (scale) => {
    const exceptions = exceptionsOf({ scale, logScale: 0.0002 });
    for (const entity of ["profiles", "patients", "orders", "operations"])
      expect(
        exceptions.filter((exception) => exception.entity === entity && exception.outcome === "open"),
        entity,
      ).not.toEqual([]);
    for (const entity of ["orders", "payments", "operations"])
      expect(
        exceptions.filter((exception) => exception.entity === entity && exception.outcome === "waiting"),
        entity,
      ).not.toEqual([]);
  });
});

describe("at any scale", () => {
  it.each([0.005, 0.02, 0.3])("every entity but those that cannot fail has records that do not land (scale %d)", (scale) => {
    const entities = generateLegacy({ scale, logScale: 0.0002 }).entities();
    const ways = new Set(
      Object.values(entities).flatMap(({ exceptions }) => exceptions.map((e) => `${e.entity} ${e.reason} ${e.field ?? "-"}`)),
    );
    expect(Object.keys(entities)).toHaveLength(49);
    expect([...WAYS].filter((way) => !ways.has(way))).toEqual([]);
    const whole = Object.keys(entities).filter((entity) => entities[entity]?.exceptions.length === 0);
    expect(whole.filter((entity) => !CANNOT_FAIL.has(entity))).toEqual([]);
  });

  it.each([0.005, 0.02, 0.3])("children wait for parents that wait themselves (scale %d)", (scale) => {
    const all = Object.values(generateLegacy({ scale, logScale: 0.0002 }).entities()).flatMap(({ exceptions }) => exceptions);
    const waiting = new Map(all.flatMap((e) => (e.outcome === "waiting" ? [[`${e.entity}/${e.legacyId}`, e] as const] : [])));
    const chains = new Set(
      [...waiting.values()].filter((e) => waiting.has(`${e.parent}/${e.parentId}`)).map((e) => `${e.entity} → ${e.parent}`),
    );
    for (const chain of [
      "technician_roles → technicians",
      "role_permissions → roles",
      "template_edit_roles → roles",
      "discounts → offers",
      "order_cases → orders",
      "jaws → orders",
      "treatment_plans → projects",
      "brackets → projects",
      "treatment_discussions → treatment_plans",
      "treatment_discussions → comments",
      "tasks → treatment_plans",
      "tasks → files",
      "case_messages → cases",
      "case_files → cases",
      "order_files → orders",
      "message_attachments → messages",
    ])
      expect(chains).toContain(chain);
  });
});

/** Nothing in their rows can be wrong, and they refer to nothing that can. */
const CANNOT_FAIL = new Set([
  ...["offices", "teams", "categories", "courses", "products", "purchases", "templates", "wares", "storages"],
  ...["template_view_groups", "template_products", "template_predecessors"],
  // These wait for doctors who are held; the smallest data sets have none at an office.
  "doctor_offices",
]);

/** Entity, reason and field of what does not land. */
const WAYS = [
  "technicians parent_missing profile_id",
  "patients_doctors_offices parent_missing patient_id",
  "cases parent_missing patient_id",
  "roles parent_missing profile_id",
  "role_permissions reference_missing role_id",
  "role_permissions value_missing permission",
  "role_permissions parent_missing role_id",
  "technician_roles parent_missing technician_id",
  "offers parent_missing doctor_id",
  "discounts check -",
  "discounts parent_missing offer_id",
  "template_edit_roles parent_missing role_id",
  "template_view_roles parent_missing role_id",
  "order_cases parent_missing order_id",
  "jaws one_order order_id",
  "jaws parent_missing order_id",
  "order_states parent_missing order_id",
  "order_states parent_missing changed_by",
  "case_states unknown_code current_state",
  "case_states parent_missing case_id",
  "case_states parent_missing changed_by",
  "doctor_notes parent_missing doctor_id",
  "doctor_notes parent_missing author_id",
  "projects unknown_code project_type",
  "projects unknown_code project_status",
  "projects parent_missing creator_id",
  "brackets parent_missing project_id",
  "treatment_plans parent_missing project_id",
  "treatment_plans parent_missing order_id",
  "messages unknown_code recipient_type",
  "messages parent_missing sender_id",
  "messages parent_missing recipient_patient_id",
  "messages parent_missing recipient_profile_id",
  "messages parent_missing team_id",
  "team_communications parent_missing team_id",
  "team_communications parent_missing author_id",
  "comments parent_missing author_id",
  "treatment_discussions parent_missing comment_id",
  "treatment_discussions parent_missing treatment_plan_id",
  "case_messages parent_missing case_id",
  "case_messages parent_missing sender_id",
  "files parent_missing order_id",
  "order_files parent_missing order_id",
  "case_files parent_missing case_id",
  "case_files parent_missing file_id",
  "message_attachments parent_missing message_id",
  "message_attachments parent_missing file_id",
  "system_messages parent_missing recipient_id",
  "system_messages parent_missing order_id",
  "system_messages parent_missing patient_id",
  "tasks parent_missing order_id",
  "tasks parent_missing plan_id",
  "tasks parent_missing file_id",
  "tasks parent_missing assigned_to",
  "user_actions parent_missing user_id",
];

describe("the helpers", () => {
  it("spreads every kind of dirt over the first rows already, and no row gets two", () => {
    const spread = spreader<{ kinds: string[] }>([
      [5, (row) => row.kinds.push("a")],
      [7, (row) => row.kinds.push("b")],
    ]);
    const rows = Array.from({ length: 35 }, () => ({ kinds: [] as string[] }));
    for (const [index, row] of rows.entries()) spread(row, index + 1);
    expect(rows.slice(0, 2).map(({ kinds }) => kinds)).toEqual([["a"], ["b"]]);
    expect(rows.filter(({ kinds }) => kinds.includes("a"))).toHaveLength(7);
    // Row 16 is of both kinds: the first has it.
    expect(rows.filter(({ kinds }) => kinds.includes("b"))).toHaveLength(4);
    expect(rows.every(({ kinds }) => kinds.length <= 1)).toBe(true);
    expect(() => spreader([[1, () => undefined]])).toThrow(RangeError);
  });

  it("remembers ids as bits, whatever their order", () => {
    const ids = new IdSet();
    for (const id of [1, 8, 100_000, 5_700_000]) ids.add(id);
    expect([1, 8, 100_000, 5_700_000].every((id) => ids.has(id))).toBe(true);
    expect([0, 2, 7, 9, 99_999, 100_001, 5_700_001, 2_000_000_000].some((id) => ids.has(id))).toBe(false);
  });

  it("refuses to leave out a kind of dirt for lack of rows", () => {
    const spoil = spoiler(new Random(1), [{ dirty: false }], 1);
    const soil = (row: { dirty: boolean }) => (row.dirty = true);
    spoil(1, soil);
    expect(() => spoil(1, soil)).toThrow(RangeError);
  });

  it.each([
    [0, "0.00"],
    [5, "0.05"],
    [-1, "-0.01"],
    [123_456, "1234.56"],
    [9_999_999_999n, "99999999.99"],
  ])("writes %s cents as %s", (cents, text) => {
    expect(money(cents)).toBe(text);
  });

  it("writes timestamps as PostgreSQL reads them", () => {
    expect(timestamp(0, 1)).toBe("1970-01-01 00:00:00.000001+00");
    expect(timestamp(Date.UTC(2024, 1, 29, 23, 59, 59) / 1_000, 999_999)).toBe("2024-02-29 23:59:59.999999+00");
  });
});
