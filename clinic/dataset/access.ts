import type { ContentTypes } from "./content-types.ts";
import { GROUP_IDS } from "./groups.ts";
import type { Held } from "./held.ts";
import { HOSTILE_TEXTS } from "./names.ts";
import { at, Random } from "./random.ts";
import type { Core } from "./rows.ts";
import type { Access, Catalogue, Link, Permission, Role, Template } from "./small-rows.ts";
import { spoiler } from "./spoil.ts";
import { idsWithGaps, sizeAt } from "./values.ts";

export function makeAccess(
  seed: number,
  core: Core,
  { products, categories }: Catalogue,
  types: ContentTypes,
  held: Held,
): Access {
  const { scale, groups } = core;
  const size = sizeAt(scale);
  const random = (table: string) => Random.for(seed, table);
  const ids = (table: string, count: number) => idsWithGaps(Random.for(seed, `ids of ${table}`), count);
  const roles = makeRoles(random("dispatch_role"), ids("roles", size(48, 16)), core, held);
  const permissions = makePermissions(random("auth_permission"), ids("permissions", size(220, 10)), types);
  const templates = makeTemplates(random("dispatch_template"), ids("templates", size(169, 24)), scale, categories);
  /** A table of links, some without their one end, their other, or both. */
  const links = (table: string, atScaleOne: number, from: readonly { id: number }[], to: readonly { id: number }[]): Link[] => {
    const draw = random(`dispatch_${table}`);
    const rows = ids(table, size(atScaleOne, 16)).map((id) => ({ id, from: draw.pick(from).id, to: draw.pick(to).id }));
    spoilLinks(draw, rows, scale);
    return rows;
  };
  const access = {
    roles,
    permissions,
    rolePermissions: links("role_permissions", 1_346, roles, permissions),
    templates,
    editRoles: links("template_edit_roles", 659, templates, roles),
    viewRoles: links("template_view_roles", 1_111, templates, roles),
    viewGroups: links("template_view_groups", 199, templates, groups),
    templateProducts: links("template_products", 183, templates, products),
    predecessors: links("template_predecessors", 191, templates, templates),
  };
  linkHeldRole(access, held);
  return access;
}

function spoilLinks(random: Random, rows: readonly Link[], scale: number): void {
  const spoil = spoiler(random, rows, scale);
  spoil(3, (row) => (row.from = null));
  spoil(3, (row) => (row.to = null));
  spoil(1, (row) => Object.assign(row, { from: null, to: null }));
}

/** At any scale some links wait for a role that waits for its user. */
function linkHeldRole({ roles, rolePermissions, editRoles, viewRoles }: Access, held: Held): void {
  const role = roles.find(({ user }) => user !== null && held.users.includes(user));
  const whole = (row: Link) => row.from !== null && row.to !== null;
  for (const [links, end] of [
    [rolePermissions, "from"],
    [editRoles, "to"],
    [viewRoles, "to"],
  ] as const) {
    const link = links.find(whole);
    if (role && link) link[end] = role.id;
  }
}

/** At scale 1, 31 of 48 roles are of technicians. */
function makeRoles(random: Random, ids: readonly number[], core: Core, held: Held): Role[] {
  const members = core.userGroups.filter(({ group }) => group === GROUP_IDS.Technician).map(({ user }) => user);
  const technicians = members.filter((user) => !held.users.includes(user));
  const rows = ids.map((id, index): Role => {
    const technician = index % 48 < 31;
    return {
      id,
      name: `Role ${id}`,
      abbrev: random.chance(0.8) ? `R${id}` : null,
      type: random.between(1, 4),
      order: index,
      user: random.chance(0.5) ? random.pick(technicians) : null,
      group: technician ? GROUP_IDS.Technician : GROUP_IDS.Master,
    };
  });
  const ofTechnicians = rows.filter(({ group }) => group === GROUP_IDS.Technician);
  const spoil = spoiler(random, ofTechnicians, core.scale);
  spoil(1, (row) => Object.assign(row, { user: null, group: null }));
  spoil(1, (row) => (row.group = null));
  spoil(1, (row) => (row.user = null));
  // The role lands, but no such technician exists: nobody has put the user into the group.
  spoil(
    1,
    (row) =>
      (row.user = at(
        held.noDoctors.filter((user) => !members.includes(user)),
        0,
      )),
  );
  spoil(1, (row) => (row.user = at(held.users, 0)));
  spoil(1, (row) => Object.assign(row, { abbrev: "", type: null, order: null }));
  return rows;
}

function makePermissions(random: Random, ids: readonly number[], types: ContentTypes): Permission[] {
  return ids.map((id, index) => ({
    id,
    name: `Can do ${id}`,
    codename: `do_${id}`,
    contentType: index === 0 ? null : index === 1 ? types.of("retired_app.vanished") : random.pick(types.ids),
  }));
}

function makeTemplates(random: Random, ids: readonly number[], scale: number, categories: readonly { id: number }[]): Template[] {
  const rows = ids.map((id): Template => ({
    id,
    taskName: `Task ${id}`,
    actionName: random.chance(0.5) ? `Action ${id}` : null,
    textName: random.chance(0.5) ? `Text ${id}` : null,
    function: random.chance(0.1) ? "send_reminder" : null,
    status: random.pick([0, 1, 1]),
    duration: random.chance(0.5) ? random.between(5, 120) : null,
    category: random.pick(categories).id,
    predefined: random.chance(0.5),
    readOnly: random.chance(0.2),
    extensions: random.chance(0.1) ? ".stl,.ply" : null,
    alerts: random.chance(0.1) ? "[1, 2" : null,
    separate: random.chance(0.1),
  }));
  const spoil = spoiler(random, rows, scale);
  spoil(4, (row) => Object.assign(row, { taskName: "", textName: `Text ${row.id}` }));
  spoil(4, (row) => Object.assign(row, { taskName: null, textName: `Text ${row.id}` }));
  spoil(2, (row) => Object.assign(row, { taskName: "", textName: "" }));
  spoil(2, (row) => Object.assign(row, { taskName: null, textName: null }));
  spoil(2, (row) => (row.taskName = "  "));
  spoil(2, (row) => (row.taskName = at(HOSTILE_TEXTS, 2)));
  spoil(2, (row) => (row.status = null));
  spoil(2, (row) => (row.status = 7));
  spoil(2, (row) => (row.category = null));
  spoil(2, (row) => Object.assign(row, { predefined: null, readOnly: null, separate: null }));
  return rows;
}
