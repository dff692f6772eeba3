import { madeTable, type MakeCells } from "./made-table.ts";
import type { Random } from "./random.ts";
import type { Clinic } from "./rows.ts";
import type { Link } from "./small-rows.ts";
import { table, type TableRows } from "./table.ts";
import { moment, sizeAt } from "./values.ts";

/** Products, prices, roles, templates, and the tables that no entity reads. */
export function catalogueTables(seed: number, scale: number, clinic: Clinic): TableRows[] {
  return [...soldTables(clinic), ...accessTables(clinic), ...clinicalTables(clinic), ...otherTables(seed, scale, clinic)];
}

function accessTables(clinic: Clinic): TableRows[] {
  const links = (name: string, columns: string, rows: readonly Link[]) =>
    table(name, `id ${columns}`, rows, ({ id, from, to }) => [id, from, to]);
  return [
    table("auth_permission", "id name codename content_type_id", clinic.permissions, (p) => [
      ...[p.id, p.name, p.codename, p.contentType],
    ]),
    table("dispatch_role", "id name abbrev type order user_id group_id", clinic.roles, (r) => [
      ...[r.id, r.name, r.abbrev, r.type, r.order, r.user, r.group],
    ]),
    links("dispatch_role_permissions", "role_id permission_id", clinic.rolePermissions),
    table("dispatch_category", "id name parent_id", clinic.categories, (c) => [c.id, c.name, c.parent]),
    table(
      "dispatch_template",
      "id task_name action_name text_name function status duration category_id predefined read_only extensions alerts separate",
      clinic.templates,
      (t) => [
        ...[t.id, t.taskName, t.actionName, t.textName, t.function, t.status, t.duration, t.category, t.predefined],
        ...[t.readOnly, t.extensions, t.alerts, t.separate],
      ],
    ),
    links("dispatch_template_edit_roles", "template_id role_id", clinic.editRoles),
    links("dispatch_template_view_roles", "template_id role_id", clinic.viewRoles),
    links("dispatch_template_view_groups", "template_id group_id", clinic.viewGroups),
    links("dispatch_template_products", "template_id product_id", clinic.templateProducts),
    links("dispatch_template_predecessors", "from_template_id to_template_id", clinic.predecessors),
  ];
}

function soldTables(clinic: Clinic): TableRows[] {
  return [
    table(
      "dispatch_product",
      "id name description free deleted customization type substitute course_id",
      clinic.products,
      (p) => [p.id, p.name, p.description, p.free, p.deleted, p.customization, p.type, p.substitute, p.course],
    ),
    table("dispatch_offer", "id price_both price_upper price_lower doctor_id product_id", clinic.offers, (o) => [
      ...[o.id, o.both, o.upper, o.lower, o.doctor, o.product],
    ]),
    table("dispatch_discount", "id percent reason count start finish total used offer_id", clinic.discounts, (d) => [
      ...[d.id, d.percent, d.reason, d.count, d.start, d.finish, d.total, d.used, d.offer],
    ]),
    table("dispatch_purchase", "id quantity price order_id product_id", clinic.purchases, (p) => [
      ...[p.id, p.quantity, p.price, p.order, p.product],
    ]),
    table("dispatch_ware", "id", clinic.wares, ({ id }) => [id]),
    table("dispatch_storage", "id", clinic.storages, ({ id }) => [id]),
  ];
}

function clinicalTables(clinic: Clinic): TableRows[] {
  return [
    table("dispatch_jaw", "id bond_teeth extract_teeth reason product_id labial", clinic.jaws, (j) => [
      ...[j.id, j.bond, j.extract, j.reason, j.product, j.labial],
    ]),
    table("dispatch_state", "id status on changed_at actor_id instruction_id", clinic.states, (s) => [
      ...[s.id, s.status, s.on, s.changed, s.actor, s.instruction],
    ]),
    table("dispatch_note", "id created_at text author_id doctor_id", clinic.notes, (n) => [
      ...[n.id, n.created, n.text, n.author, n.doctor],
    ]),
  ];
}

/** Nothing in the target takes these. */
function otherTables(seed: number, scale: number, clinic: Clinic): TableRows[] {
  const size = sizeAt(scale);
  const make = (name: string, columns: string, count: number, cells: MakeCells) =>
    madeTable(seed, `dispatch_${name}`, columns, count, cells);
  const user = (random: Random) => random.pick(clinic.users).id;
  const product = (random: Random) => random.pick(clinic.products).id;
  return [
    make("product_roles", "product_id role_id", size(20), (random) => [product(random), random.pick(clinic.roles).id]),
    make("product_successors", "from_product_id to_product_id", size(8), (random) => [product(random), product(random)]),
    make(
      "globalsetting",
      "setting version created_at updated_at sandbox application_id location_id access_token",
      1,
      (random) => [
        ...["{}", "1", moment(random), moment(random), true, "fake-application", "fake-location", "fake-access-token"],
      ],
    ),
    ...["client", "client3d", "master", "language", "link", "reading", "event"].map((name) => make(name, "", 3, () => [])),
    make("instance", "", size(29), () => []),
    make("agent", "user_id", 2, (random) => [user(random)]),
    ...["masters", "sales"].map((name) =>
      make(`doctorsetting_${name}`, "doctorsetting_id user_id", size(30), (random) => [
        random.pick(clinic.doctorSettings).id,
        user(random),
      ]),
    ),
  ];
}
