import { json, modelOf, type Recomputed } from "./recompute.ts";

export const catalogue: readonly Recomputed[] = [
  {
    entity: "teams",
    source: { from: "auth_group g", id: "g.id" },
    target: { from: "teams t", id: "t.legacy_group_id" },
    columns: { name: ["g.name"] },
  },
  {
    entity: "roles",
    source: { from: "dispatch_role r", id: "r.id" },
    target: {
      from: "roles t left join profiles p on p.id = t.profile_id left join teams g on g.id = t.team_id",
      id: "t.legacy_role_id",
    },
    columns: {
      name: ["r.name"],
      abbreviation: ["r.abbrev"],
      type_code: ["r.type"],
      display_order: ['r."order"'],
      profile_id: ["r.user_id", "p.legacy_user_id"],
      team_id: ["r.group_id", "g.legacy_group_id"],
    },
  },
  {
    entity: "role_permissions",
    source: { from: "dispatch_role_permissions m left join auth_permission a on a.id = m.permission_id", id: "m.id" },
    target: { from: "role_permissions t left join roles r on r.id = t.role_id", id: "t.legacy_role_permission_id" },
    columns: {
      role_id: ["m.role_id", "r.legacy_role_id"],
      permission: ["a.name"],
      codename: ["a.codename"],
      resource: [modelOf("a.content_type_id")],
    },
  },
  {
    entity: "technician_roles",
    source: { from: "dispatch_role r join auth_group g on g.id = r.group_id", id: "r.id", where: "g.name = 'Technician'" },
    target: { from: "technician_roles t left join technicians x on x.id = t.technician_id", id: "t.legacy_role_id" },
    columns: {
      technician_id: ["r.user_id", "x.legacy_user_id"],
      role_name: ["r.name"],
      abbreviation: ["r.abbrev"],
    },
  },
  {
    entity: "categories",
    source: { from: "dispatch_category c", id: "c.id" },
    target: { from: "categories t left join categories p on p.id = t.parent_id", id: "t.legacy_category_id" },
    columns: { name: ["c.name"], parent_id: ["c.parent_id", "p.legacy_category_id"] },
  },
  {
    entity: "courses",
    source: { from: "dispatch_course c", id: "c.id" },
    target: { from: "courses t", id: "t.legacy_course_id" },
    columns: { name: ["c.name"], type_code: ["c.type"], customization: [json("c.customization")] },
  },
  {
    entity: "products",
    source: { from: "dispatch_product p", id: "p.id" },
    target: { from: "products t left join courses c on c.id = t.course_id", id: "t.legacy_product_id" },
    columns: {
      course_id: ["p.course_id", "c.legacy_course_id"],
      name: ["p.name"],
      description: ["p.description"],
      type_code: ["p.type"],
      is_free: ["p.free"],
      is_substitute: ["p.substitute"],
      deleted: ["p.deleted"],
      customization: [json("p.customization")],
    },
    application: ["sku"],
  },
  {
    entity: "offers",
    source: { from: "dispatch_offer o", id: "o.id" },
    target: {
      from: "offers t left join doctors d on d.id = t.doctor_id left join products p on p.id = t.product_id",
      id: "t.legacy_offer_id",
    },
    columns: {
      doctor_id: ["o.doctor_id", "d.legacy_user_id"],
      product_id: ["o.product_id", "p.legacy_product_id"],
      price_both: ["o.price_both"],
      price_upper: ["o.price_upper"],
      price_lower: ["o.price_lower"],
    },
  },
  {
    entity: "discounts",
    source: { from: "dispatch_discount d", id: "d.id" },
    target: { from: "discounts t left join offers o on o.id = t.offer_id", id: "t.legacy_discount_id" },
    columns: {
      offer_id: ["d.offer_id", "o.legacy_offer_id"],
      percentage: ["d.percent"],
      reason: ["d.reason"],
      max_uses: ['d."count"'],
      current_uses: ["d.used"],
      valid_from: ["d.start"],
      valid_until: ["d.finish"],
      applies_to_total: ["d.total"],
    },
  },
  {
    entity: "templates",
    source: { from: "dispatch_template d", id: "d.id" },
    target: { from: "templates t left join categories c on c.id = t.category_id", id: "t.legacy_template_id" },
    columns: {
      category_id: ["d.category_id", "c.legacy_category_id"],
      name: ["coalesce(nullif(d.task_name, ''), nullif(d.text_name, ''))"],
      task_name: ["d.task_name"],
      action_name: ["d.action_name"],
      text_name: ["d.text_name"],
      function_name: ['d."function"'],
      status_code: ["d.status"],
      is_active: ["d.status = 1"],
      duration: ["d.duration"],
      predefined: ["d.predefined"],
      read_only: ["d.read_only"],
      separate: ["d.separate"],
      extensions: ["d.extensions"],
      alerts: ["d.alerts"],
    },
  },
  link("template_edit_roles", "template_id", ["role_id", "role_id", "roles", "legacy_role_id"]),
  link("template_view_roles", "template_id", ["role_id", "role_id", "roles", "legacy_role_id"]),
  link("template_view_groups", "template_id", ["team_id", "group_id", "teams", "legacy_group_id"]),
  link("template_products", "template_id", ["product_id", "product_id", "products", "legacy_product_id"]),
  link("template_predecessors", "from_template_id", ["predecessor_id", "to_template_id", "templates", "legacy_template_id"]),
  {
    entity: "wares",
    source: { from: "dispatch_ware w", id: "w.id" },
    target: { from: "wares t", id: "t.legacy_ware_id" },
    columns: {},
  },
  {
    entity: "storages",
    source: { from: "dispatch_storage s", id: "s.id" },
    target: { from: "storages t", id: "t.legacy_storage_id" },
    columns: {},
  },
];

/** A table that links a template with something else. */
function link(
  entity: string,
  template: string,
  [column, sourceColumn, parent, parentKey]: readonly [string, string, string, string],
): Recomputed {
  return {
    entity,
    source: { from: `dispatch_${entity} m`, id: "m.id" },
    target: {
      from: `${entity} t left join templates d on d.id = t.template_id left join ${parent} o on o.id = t.${column}`,
      id: "t.legacy_junction_id",
    },
    columns: { template_id: [`m.${template}`, "d.legacy_template_id"], [column]: [`m.${sourceColumn}`, `o.${parentKey}`] },
  };
}
