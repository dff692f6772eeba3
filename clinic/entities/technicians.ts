import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    technicians: { source: "auth_user"; target: "technicians" };
  }
}

/** A technician is a user in the group of that name. Like a doctor, a technician never stops existing. */
export const technicians = defineEntity({
  name: "technicians",
  target: { table: "technicians", legacyKey: "legacy_user_id" },
  onDelete: "ignore",
  source: {
    table: "auth_user",
    key: "id",
    alias: "u",
    where: `exists (select from public.auth_user_groups ug join public.auth_group g on g.id = ug.group_id where ug.user_id = u.id and g.name = 'Technician')`,
    // Groups count by name, so that another name changes their members.
    watches: {
      ug: { table: "auth_user_groups", on: { user_id: "u.id" } },
      g: { table: "auth_group", on: { id: "ug.group_id" } },
    },
    columns: {
      id: "u.id",
      username: "u.username",
      is_active: "u.is_active",
      date_joined: "u.date_joined",
    },
    ignored: {
      first_name: "on the profile",
      last_name: "on the profile",
      email: "on the profile",
      password: "secret: never leaves the source",
      is_superuser: "on the profile",
      is_staff: "on the profile",
      last_login: "on the profile",
    },
  },
  fields: (f) => ({
    profile_id: f.lookup("profiles", "id", { required: true }),
    employee_id: f.copy("username", { sensitive: true }),
    status: f.mapEnum("is_active", { true: "active", false: "inactive" }),
    hired_at: f.copy("date_joined"),
  }),
});
