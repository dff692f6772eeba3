import { doctorUsers, profileTypes } from "./membership.ts";
import { copies, migratedRows, randomUuid, type MigratedRows } from "./migrated-rows.ts";
import { Random } from "./random.ts";
import type { Clinic } from "./rows.ts";

export interface MigratedPeople {
  readonly tables: readonly MigratedRows[];
  /** Ids of the new rows by legacy id. */
  readonly profiles: ReadonlyMap<number, string>;
  readonly patients: ReadonlyMap<number, string>;
}

export function migratePeople(clinic: Clinic, seed: number): MigratedPeople {
  const random = Random.for(seed, "migrated people");
  const offices = migrateOffices(clinic, random);
  const profiles = migrateProfiles(clinic, random);
  const profileOf = new Map(profiles.ids.map(({ id, legacyId }) => [legacyId ?? 0, id]));
  const patients = migratePatients(clinic, random, profileOf);
  return {
    tables: [offices, profiles, migrateDoctors(clinic, random, profileOf), patients],
    profiles: profileOf,
    patients: new Map(patients.ids.map(({ id, legacyId }) => [legacyId ?? 0, id])),
  };
}

/** Only valid ones, lower-cased, all in one country; copies of some that were later robbed of their legacy id. */
function migrateOffices(clinic: Clinic, random: Random): MigratedRows {
  const kept = copies(
    random,
    clinic.offices.filter((office) => office.valid),
  );
  const orphans = kept.slice(0, 3).map((copy) => ({ ...copy, id: randomUuid(random), legacyId: null }));
  return migratedRows(
    "offices",
    "legacy_office_id name address country is_active email_notifications",
    [...kept, ...orphans],
    ({ row }) => [row.name.toLowerCase().trim(), row.address?.toLowerCase() ?? null, "US", true, true],
  );
}

/** Users with an address that came before are "duplicates" and left out; who has no type becomes a master. */
function migrateProfiles(clinic: Clinic, random: Random): MigratedRows {
  const types = profileTypes(clinic, doctorUsers(clinic));
  const patientOf = new Map(clinic.patients.map((patient) => [patient.user, patient]));
  const seen = new Set<string>();
  const kept = clinic.users.filter(({ email }) => {
    const address = email.toLowerCase();
    if (address === "" || !seen.has(address)) return seen.add(address);
    return false;
  });
  return migratedRows(
    "profiles",
    "legacy_user_id legacy_patient_id profile_type first_name last_name email username gender is_active archived suspended joined_at",
    copies(random, kept),
    ({ row }) => [
      ...[patientOf.get(row.id)?.id ?? null, types.get(row.id) ?? "master", row.first.toLowerCase(), row.last.toLowerCase()],
      ...[
        row.email === "" ? `user${row.id}@example.invalid` : row.email,
        row.username,
        "unknown",
        true,
        false,
        false,
        row.joined,
      ],
    ],
  );
}

/** Those who are active and have a profile. */
function migrateDoctors(clinic: Clinic, random: Random, profiles: ReadonlyMap<number, string>): MigratedRows {
  const doctors = doctorUsers(clinic);
  const kept = clinic.users.filter((user) => doctors.has(user.id) && user.active && profiles.has(user.id));
  return migratedRows(
    "doctors",
    "legacy_user_id profile_id doctor_number status joined_practice_at",
    copies(random, kept),
    ({ row }) => [profiles.get(row.id) ?? null, `DR${row.id}`, "active", row.joined],
  );
}

/** Without doctor, office and suffix, which were read under a wrong key; everybody is active. */
function migratePatients(clinic: Clinic, random: Random, profiles: ReadonlyMap<number, string>): MigratedRows {
  const kept = clinic.patients.filter((patient) => profiles.has(patient.user));
  return migratedRows(
    "patients",
    "legacy_patient_id profile_id patient_number status archived suspended",
    copies(random, kept),
    ({ row }) => [profiles.get(row.user) ?? null, `PAT-${String(row.id).padStart(6, "0")}`, "active", false, false],
  );
}
