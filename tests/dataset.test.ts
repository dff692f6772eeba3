import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { makeClinic } from "../local/dataset/clinic.ts";
import { copyText } from "../local/dataset/copy.ts";
import { generateLegacy, type GenerateOptions } from "../local/dataset/generate.ts";
import type { Exception } from "../local/dataset/manifest.ts";
import { doctorUsers } from "../local/dataset/membership.ts";
import { Random } from "../local/dataset/random.ts";
import { spoiler } from "../local/dataset/spoil.ts";
import { money, timestamp } from "../local/dataset/values.ts";

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
  return Object.values(generateLegacy(options).entities).flatMap(({ exceptions }) => exceptions);
}

describe("the generated legacy data", () => {
  const options = { seed: 3, scale: 0.02, logScale: 0.002 };

  it("is the same, byte for byte and manifest included, for the same seed and scales", () => {
    expect(digests(options)).toEqual(digests(options));
    expect(generateLegacy(options).entities).toEqual(generateLegacy(options).entities);
  });

  it("differs in every table with made-up values for another seed", () => {
    const [one, other] = [digests(options), digests({ ...options, seed: 4 })];
    for (const table of ["auth_user", "dispatch_office", "dispatch_patient", "dispatch_operation", "dispatch_notification"]) {
      expect(one[table], table).not.toBe(other[table]);
    }
    // Content types have other ids in every installation.
    expect(one["django_content_type"]).not.toBe(other["django_content_type"]);
  });

  it("keeps the seven entities as they are when only the scale of the large tables changes", () => {
    const [small, large] = [digests(options), digests({ ...options, logScale: 0.004 })];
    const changed = Object.keys(small).filter((table) => small[table] !== large[table]);
    expect(changed.sort()).toEqual(GROWING);
  });

  it("survives its manifest's way through JSON", () => {
    const { entities } = generateLegacy(options);
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
  const { entities } = generateLegacy({ scale: 1, logScale: 0 });

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
  ] as const)("%s: %i", (table, count) => {
    expect(clinic[table]).toHaveLength(count);
  });

  it("has over ten million rows with the tables that grow by the day", () => {
    const growing = generateLegacy({ scale: 0.05, logScale: 0.01 }).tables.filter(({ table }) => GROWING.includes(table));
    const rows = growing.reduce((sum, table) => sum + [...table.rows].length, 0);
    expect(rows * 100).toBeGreaterThan(10_000_000);
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
      const { entities } = generateLegacy({ seed, scale: 0.05, logScale: 0.001 });
      const missing = new Set(Object.values(entities).flatMap((of) => of.exceptions.map((e) => `${e.entity}/${e.legacyId}`)));
      for (const [entity, { eligible, landed, exceptions, golden }] of Object.entries(entities)) {
        expect(landed + exceptions.length, entity).toBe(eligible);
        expect(new Set(exceptions.map((exception) => exception.legacyId)).size, entity).toBe(exceptions.length);
        for (const exception of exceptions) {
          if (exception.outcome === "waiting") expect(missing).toContain(`${exception.parent}/${exception.parentId}`);
        }
        for (const legacyId of Object.keys(golden)) expect(missing).not.toContain(`${entity}/${legacyId}`);
      }
      expect(Object.values(entities).flatMap(({ golden }) => Object.keys(golden)).length).toBeGreaterThan(30);
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
    const { entities } = generateLegacy({ seed, scale: 0.05, logScale: 0.001 });
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

describe("the helpers", () => {
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
