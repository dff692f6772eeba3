import { json, modelOf, records, type Projection } from "./projection.ts";

/** A table of links of templates. */
function link(entity: string, from: string, to: string, field: string, parent: string): Projection {
  return {
    entity,
    records: records({ from: `dispatch_${entity}`, refs: [from, to] }),
    parents: [
      ["template_id", "templates"],
      [field, parent],
    ],
  };
}

export const ACCESS: readonly Projection[] = [
  { entity: "teams", records: records({ from: "auth_group", v: "name" }), parents: [] },
  {
    entity: "roles",
    records: records({ from: "dispatch_role", refs: ["user_id", "group_id"], v: `name, abbrev, type, "order"` }),
    parents: [
      ["profile_id", "profiles"],
      ["team_id", "teams"],
    ],
  },
  {
    entity: "role_permissions",
    records: records({
      from: "dispatch_role_permissions r left join auth_permission p on p.id = r.permission_id",
      id: "r.id",
      field: "case when r.role_id is null then 'role_id' when p.id is null then 'permission' end",
      refs: ["r.role_id"],
      v: `p.name, p.codename, ${modelOf("p.content_type_id")}`,
    }),
    parents: [["role_id", "roles"]],
  },
  {
    entity: "technician_roles",
    records: records({
      from: "dispatch_role r join auth_group g on g.id = r.group_id",
      id: "r.id",
      refs: ["r.user_id"],
      v: "r.name, r.abbrev",
      where: "g.name = 'Technician'",
    }),
    parents: [["technician_id", "technicians"]],
    waived: {
      rule: "technician_group@1",
      rows: "dispatch_role r where not exists (select from auth_group g where g.id = r.group_id and g.name = 'Technician')",
    },
  },
];

export const CATALOGUE: readonly Projection[] = [
  {
    // No category has trouble of its own, so that one could wait only in a circle: `passes` is whether a root is
    // above it.
    entity: "categories",
    records: `with recursive rooted as (
        select id from dispatch_category where parent_id is null
        union all select c.id from dispatch_category c join rooted r on c.parent_id = r.id)
      select id, null::text as field, id in (select id from rooted) as passes, '{}'::bigint[] as refs, row(name, parent_id)::text as v
        from dispatch_category`,
    parents: [],
  },
  {
    entity: "courses",
    records: records({ from: "dispatch_course", v: `name, type, ${json("customization")}` }),
    parents: [],
  },
  {
    entity: "products",
    records: records({
      from: "dispatch_product",
      refs: ["course_id"],
      v: `name, description, type, free, substitute, deleted, ${json("customization")}`,
    }),
    parents: [["course_id", "courses"]],
  },
  {
    entity: "offers",
    records: records({
      from: "dispatch_offer",
      refs: ["doctor_id", "product_id"],
      v: "price_both, price_upper, price_lower",
    }),
    parents: [
      ["doctor_id", "doctors"],
      ["product_id", "products"],
    ],
    money: {
      table: "dispatch_offer",
      key: "id",
      columns: { price_both: "price_both", price_upper: "price_upper", price_lower: "price_lower" },
    },
  },
  {
    entity: "discounts",
    records: records({
      from: "dispatch_discount",
      passes: "percent between 0 and 100",
      refs: ["offer_id"],
      v: `percent, reason, "count", used, start, finish, total`,
    }),
    parents: [["offer_id", "offers"]],
  },
  {
    entity: "purchases",
    records: records({ from: "dispatch_purchase", refs: ["product_id"], v: "order_id, quantity, price" }),
    parents: [["product_id", "products"]],
    money: { table: "dispatch_purchase", key: "id", columns: { unit_price: "price" } },
  },
  {
    entity: "templates",
    records: records({
      from: "dispatch_template",
      refs: ["category_id"],
      v: `task_name, action_name, text_name, "function", status, duration, predefined, read_only, separate, extensions, alerts`,
    }),
    parents: [["category_id", "categories"]],
  },
  link("template_edit_roles", "template_id", "role_id", "role_id", "roles"),
  link("template_view_roles", "template_id", "role_id", "role_id", "roles"),
  link("template_view_groups", "template_id", "group_id", "team_id", "teams"),
  link("template_products", "template_id", "product_id", "product_id", "products"),
  link("template_predecessors", "from_template_id", "to_template_id", "predecessor_id", "templates"),
  { entity: "wares", records: records({ from: "dispatch_ware" }), parents: [] },
  { entity: "storages", records: records({ from: "dispatch_storage" }), parents: [] },
];
