import type { ContentTypes } from "../content-types.ts";
import type { Clinic } from "../rows.ts";
import type { Role } from "../small-rows.ts";
import type { Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;

/** Teams, roles and what these may do. */
export function judgeAccess(ledger: Ledger, clinic: Clinic, types: ContentTypes): void {
  const technicianGroup = clinic.groups.find(({ name }) => name === "Technician")?.id;
  const resource = new Map(clinic.permissions.map((row) => [row.id, types.nameOf(row.contentType)]));
  const resourceOf = (permission: number | null) => (permission === null ? null : (resource.get(permission) ?? null));
  ledger.judgeAll("teams", clinic.groups, { id, golden: [[({ name }) => name === "Technician", ({ name }) => ({ name })]] });
  ledger.judgeAll<Role>("roles", clinic.roles, {
    id,
    parents: [
      ["profile_id", "profiles", (role) => role.user],
      ["team_id", "teams", (role) => role.group],
    ],
    golden: [
      [(role) => role.user === null && role.group === null, () => ({ profile_id: null, team_id: null })],
      [(role) => role.abbrev === "", () => ({ abbreviation: "", type_code: null, display_order: null })],
      [(role) => role.abbrev === null, () => ({ abbreviation: null })],
      [(role) => role.type === 3, () => ({ type_code: "3" })],
    ],
  });
  ledger.judgeAll("role_permissions", clinic.rolePermissions, {
    id,
    trouble: ({ from, to }) => {
      if (from === null) return ["role_id", "reference_missing"];
      return to === null ? ["permission", "value_missing"] : null;
    },
    parents: [["role_id", "roles", ({ from }) => from]],
    golden: [
      [({ to }) => resourceOf(to) === null, ({ to }) => ({ resource: null, permission: `Can do ${to}`, codename: `do_${to}` })],
      [({ to }) => resourceOf(to) !== null, ({ to }) => ({ resource: resourceOf(to), permission: `Can do ${to}` })],
      [({ to }) => resourceOf(to) === "retired_app.vanished", () => ({ resource: "retired_app.vanished" })],
    ],
  });
  ledger.judgeAll<Role>("technician_roles", clinic.roles, {
    id,
    predicate: { rule: "technician_group@1", holds: ({ group }) => group === technicianGroup },
    parents: [["technician_id", "technicians", (role) => role.user]],
    golden: [[(role) => role.user === null, (role) => ({ technician_id: null, role_name: role.name })]],
  });
}
