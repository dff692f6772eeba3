import { defineEntity, expression, unknownCode, type Decision, type SourceRow } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    profiles: { source: "auth_user"; target: "profiles" };
  }
}

const inGroup = (name: string) =>
  `exists (select from public.auth_user_groups ug join public.auth_group g on g.id = ug.group_id where ug.user_id = u.id and g.name = '${name}')`;
const isInGroup = (name: string) => expression("boolean", inGroup(name));

type ProfileType = "patient" | "master" | "technician" | "doctor" | "sales_person";

/**
 * Explicit precedence over aggregated groups: a user in several groups is one profile, whatever the order of ids.
 * Technicians and doctors never stop existing: who has landed as one remains one when the source says nothing any
 * more.
 */
function profileType(row: SourceRow, landedAs: ReadonlySet<string>): Decision<ProfileType> {
  if (row["patient_id"] !== null) return { value: "patient" };
  if (row["is_superuser"] === "true" || row["in_master"] === "true") return { value: "master" };
  if (row["in_technician"] === "true") return { value: "technician" };
  if (row["is_doctor"] === "true") return { value: "doctor" };
  if (row["in_sales"] === "true") return { value: "sales_person" };
  if (landedAs.has("technicians")) return { value: "technician" };
  if (landedAs.has("doctors")) return { value: "doctor" };
  return unknownCode("profiles", "profile_type", row["in_admin"] === "true" ? "group Admin" : "no group");
}

/** The sex of a patient; nobody else has one here. */
function gender(row: SourceRow): Decision<"other" | "male" | "female" | "unknown"> {
  if (row["patient_id"] === null) return { value: null };
  switch (row["sex"]) {
    case null:
      return { value: "unknown" };
    case "0":
      return { value: "other" };
    case "1":
      return { value: "male" };
    case "2":
      return { value: "female" };
    default:
      return unknownCode("profiles", "sex", row["sex"] ?? null);
  }
}

export const profiles = defineEntity({
  name: "profiles",
  target: { table: "profiles", legacyKey: "legacy_user_id" },
  onDelete: { soft: { is_active: false } },
  source: {
    table: "auth_user",
    key: "id",
    alias: "u",
    joins: { p: { table: "dispatch_patient", on: { user_id: "u.id" } } },
    // Groups count by name, so that another name changes their members.
    watches: {
      ug: { table: "auth_user_groups", on: { user_id: "u.id" } },
      g: { table: "auth_group", on: { id: "ug.group_id" } },
      d: { table: "dispatch_doctorsetting", on: { user_id: "u.id" } },
      s: { table: "dispatch_usersetting", on: { user_id: "u.id" } },
      od: { table: "dispatch_office_doctors", on: { user_id: "u.id" } },
      dp: { table: "dispatch_patient", on: { doctor_id: "u.id" } },
      dm: { table: "dispatch_payment", on: { doctor_id: "u.id" } },
      o: { table: "dispatch_offer", on: { doctor_id: "u.id" } },
      n: { table: "dispatch_note", on: { doctor_id: "u.id" } },
    },
    columns: {
      username: "u.username",
      first_name: "u.first_name",
      last_name: "u.last_name",
      email: "u.email",
      is_active: "u.is_active",
      is_superuser: "u.is_superuser",
      date_joined: "u.date_joined",
      last_login: "u.last_login",
      patient_id: "p.id",
      sex: "p.sex",
      birthdate: "p.birthdate",
      suffix: "p.suffix",
      archived: expression("boolean", "coalesce(p.archived, false)"),
      suspended: expression("boolean", "coalesce(p.suspended, false)"),
      in_master: isInGroup("Master"),
      in_technician: isInGroup("Technician"),
      in_sales: isInGroup("Sales"),
      in_admin: isInGroup("Admin"),
      is_doctor: expression(
        "boolean",
        `(${inGroup("Doctor")}
        or exists (select from public.dispatch_doctorsetting d where d.user_id = u.id)
        or exists (select from public.dispatch_usersetting s where s.user_id = u.id)
        or exists (select from public.dispatch_office_doctors od where od.user_id = u.id)
        or exists (select from public.dispatch_patient dp where dp.doctor_id = u.id)
        or exists (select from public.dispatch_payment dm where dm.doctor_id = u.id)
        or exists (select from public.dispatch_offer o where o.doctor_id = u.id)
        or exists (select from public.dispatch_note n where n.doctor_id = u.id))`,
      ),
    },
    ignored: {
      password: "secret: never leaves the source",
      is_staff: "says nothing about the kind of profile; the groups do",
    },
  },
  fields: (f) => ({
    legacy_patient_id: f.copy("patient_id"),
    profile_type: f.decide(
      ["patient_id", "is_superuser", "in_master", "in_technician", "in_sales", "in_admin", "is_doctor"],
      profileType,
      {
        members: { patient: true, master: true, technician: true, doctor: true, sales_person: true },
        landedAs: ["technicians", "doctors"],
      },
    ),
    first_name: f.blankIsNone("first_name", { sensitive: true }),
    last_name: f.blankIsNone("last_name", { sensitive: true }),
    email: f.blankIsNone("email", { sensitive: true }),
    username: f.copy("username", { sensitive: true }),
    gender: f.decide(["patient_id", "sex"], gender, {
      members: { other: true, male: true, female: true, unknown: true },
    }),
    date_of_birth: f.copy("birthdate", { sensitive: true }),
    patient_suffix: f.calculate(["suffix"], (row) => (row["suffix"] === "" ? null : (row["suffix"] ?? null)), { keepRaw: true }),
    is_active: f.copy("is_active"),
    archived: f.copy("archived"),
    suspended: f.copy("suspended"),
    joined_at: f.copy("date_joined"),
    last_login_at: f.copy("last_login"),
  }),
});
