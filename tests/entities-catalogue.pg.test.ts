import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { landedRows } from "./support/landed.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Doctor 10 and technicians 30 and 31; everything that hangs on course 50 lacks it at first. */
async function seedCatalogue({ seed }: Pipeline): Promise<void> {
  await seed.group(3, "Sales");
  await seed.group(21, "Technician");
  await seed.doctor(10);
  await seed.user(30);
  await seed.user(31);
  await seed.membership(1, 30, 21);
  await seedRoles(seed);
  await seedProducts(seed);
  await seedTemplates(seed);
}

async function seedRoles(seed: Pipeline["seed"]): Promise<void> {
  const role = { abbrev: null, type: null, order: null, user_id: null, group_id: null };
  await seed.row("dispatch_role", {
    ...role,
    id: 1,
    name: "Aligner",
    abbrev: "AL",
    type: 2,
    order: 7,
    user_id: 30,
    group_id: 21,
  });
  await seed.row("dispatch_role", { ...role, id: 2, name: "", user_id: 10, group_id: 3 });
  await seed.row("dispatch_role", { ...role, id: 3, name: "Nobody's", abbrev: "", group_id: 21 });
  await seed.row("dispatch_role", { ...role, id: 4, name: "Free" });
  await seed.row("dispatch_role", { ...role, id: 5, name: "Soon", user_id: 31, group_id: 21 });
  await seed.row("django_content_type", { id: 77, app_label: "dispatch", model: "patient" });
  await seed.row("auth_permission", { id: 1, name: "Can view patient", codename: "view_patient", content_type_id: 77 });
  await seed.row("auth_permission", { id: 2, name: "Can wait", codename: "wait", content_type_id: null });
  await seed.row("dispatch_role_permissions", { id: 1, role_id: 1, permission_id: 1 });
  await seed.row("dispatch_role_permissions", { id: 2, role_id: 2, permission_id: 2 });
  await seed.row("dispatch_role_permissions", { id: 3, role_id: null, permission_id: 1 });
  await seed.row("dispatch_role_permissions", { id: 4, role_id: 1, permission_id: null });
}

async function seedProducts(seed: Pipeline["seed"]): Promise<void> {
  await seed.row("dispatch_course", { id: 1, name: "Main", type: 9, customization: '{"colours": ["red"]}' });
  await seed.row("dispatch_course", { id: 2, name: "", type: null, customization: "" });
  const product = { description: null, free: false, substitute: false, deleted: false, customization: null, type: null };
  await seed.row("dispatch_product", { ...product, id: 1, name: "Tray", description: " two ", type: 3, course_id: 1 });
  await seed.row("dispatch_product", {
    ...product,
    id: 2,
    name: "Old",
    free: true,
    substitute: true,
    deleted: true,
    course_id: 2,
  });
  await seed.row("dispatch_product", { ...product, id: 3, name: "Odd", customization: "{'a': 1}", course_id: 1 });
  await seed.orphan("dispatch_product", { ...product, id: 4, name: "Later", course_id: 50 });
  await seed.row("dispatch_offer", {
    id: 1,
    price_both: "1200.10",
    price_upper: "0",
    price_lower: null,
    doctor_id: 10,
    product_id: 1,
  });
  await seed.row("dispatch_offer", { id: 2, price_both: null, price_upper: "99999999.99", price_lower: "0.01" });
  await seed.row("dispatch_offer", { id: 3, doctor_id: 30, product_id: 1 });
  await seed.row("dispatch_offer", { id: 4, price_both: "5.00", doctor_id: 10, product_id: 4 });
  const discount = { reason: null, count: null, start: null, finish: null, total: false, used: null };
  await seed.row("dispatch_discount", {
    ...{ id: 1, percent: 15, reason: "Spring", count: 3, start: "2024-01-01", finish: "2024-12-31", total: true, used: 2 },
    offer_id: 1,
  });
  await seed.row("dispatch_discount", { ...discount, id: 2, percent: 130, offer_id: 1 });
  await seed.row("dispatch_discount", { ...discount, id: 3, percent: 100, offer_id: 4 });
  await seed.row("dispatch_order", { id: 900 });
  await seed.row("dispatch_purchase", { id: 1, quantity: 2, price: "12345678.90", order_id: 900, product_id: 1 });
  await seed.row("dispatch_purchase", { id: 2, quantity: 0, price: "0.00", order_id: 900, product_id: 4 });
  await seed.row("dispatch_ware", { id: 7 });
  await seed.row("dispatch_ware", { id: 8 });
  await seed.row("dispatch_storage", { id: 1 });
}

async function seedTemplates(seed: Pipeline["seed"]): Promise<void> {
  await seed.row("dispatch_category", { id: 1, name: "Work", parent_id: null });
  const template = { task_name: null, action_name: null, text_name: null, status: null, category_id: null };
  await seed.row("dispatch_template", {
    ...{
      id: 1,
      task_name: "Scan",
      action_name: "Scanned",
      text_name: "Please scan",
      function: "scan()",
      status: 1,
      duration: 30,
    },
    ...{ category_id: 1, predefined: true, read_only: false, separate: true, extensions: "stl, ply", alerts: "[]" },
  });
  await seed.row("dispatch_template", { ...template, id: 2, task_name: "", text_name: "Text", status: 0 });
  await seed.row("dispatch_template", { ...template, id: 3, task_name: "", text_name: "" });
  await seed.row("dispatch_template", { ...template, id: 4, action_name: "Only an action", status: 2 });
  for (const [table, other] of [
    ["edit_roles", "role_id"],
    ["view_roles", "role_id"],
    ["view_groups", "group_id"],
    ["products", "product_id"],
  ] as const) {
    const parent = { role_id: 1, group_id: 3, product_id: 4 }[other];
    await seed.row(`dispatch_template_${table}`, { id: 1, template_id: 1, [other]: parent });
    await seed.row(`dispatch_template_${table}`, { id: 2, template_id: null, [other]: parent });
    await seed.row(`dispatch_template_${table}`, { id: 3, template_id: 2, [other]: null });
  }
  await seed.row("dispatch_template_predecessors", { id: 1, from_template_id: 1, to_template_id: 2 });
  await seed.row("dispatch_template_predecessors", { id: 2, from_template_id: 3, to_template_id: null });
  await seed.row("dispatch_template_predecessors", { id: 3, from_template_id: null, to_template_id: null });
}

describe("roles, products and templates", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline();
    await seedCatalogue(test);
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());
  const landed = (entity: string) => landedRows(test.target.admin, entity);

  it("teams and roles", async () => {
    expect(await landed("teams")).toEqual({ 3: { name: "Sales" }, 21: { name: "Technician" } });
    const role = { abbreviation: null, type_code: null, display_order: null, profile_id: null, team_id: null };
    const aligner = { name: "Aligner", abbreviation: "AL", type_code: "2", display_order: "7", profile_id: "30", team_id: "21" };
    expect(await landed("roles")).toEqual({
      1: aligner,
      2: { ...role, name: "", profile_id: "10", team_id: "3" },
      3: { ...role, name: "Nobody's", abbreviation: "", team_id: "21" },
      4: { ...role, name: "Free" },
    });
  });

  it("a role of a user without a type waits for the profile", async () => {
    // User 31 is in no group: what they are is not known.
    expect(await test.live("roles")).toMatchObject([{ id: 5, state: "waiting", parent: "profiles", parentId: 31 }]);
  });

  it("role_permissions are names; without a role or a permission they go to the queue", async () => {
    expect(await landed("role_permissions")).toEqual({
      1: { role_id: "1", permission: "Can view patient", codename: "view_patient", resource: "dispatch.patient" },
      2: { role_id: "2", permission: "Can wait", codename: "wait", resource: null },
    });
    expect(await test.live("role_permissions")).toMatchObject([
      { id: 3, state: "open", type: "foreign_key_violation", rule: "role_permissions.role_id.required@1" },
      { id: 4, state: "open", type: "business_rule_violation", rule: "role_permissions.permission.required@1" },
    ]);
  });

  it("technician_roles are the roles of the group of that name; one of nobody stays so, another waits for the technician", async () => {
    expect(await landed("technician_roles")).toEqual({
      1: { technician_id: "30", role_name: "Aligner", abbreviation: "AL" },
      3: { technician_id: null, role_name: "Nobody's", abbreviation: "" },
    });
    expect(await test.live("technician_roles")).toMatchObject([{ id: 5, state: "waiting", parent: "technicians", parentId: 31 }]);
  });

  it("courses and products keep their codes, their flags and their JSON", async () => {
    expect(await landed("courses")).toEqual({
      1: { name: "Main", type_code: "9", customization: '{"colours": ["red"]}' },
      2: { name: "", type_code: null, customization: null },
    });
    const product = { description: null, type_code: null, is_free: "false", is_substitute: "false", deleted: "false" };
    expect(await landed("products")).toEqual({
      1: { ...product, course_id: "1", name: "Tray", description: " two ", type_code: "3", customization: null },
      2: {
        ...product,
        course_id: "2",
        name: "Old",
        is_free: "true",
        is_substitute: "true",
        deleted: "true",
        customization: null,
      },
      3: { ...product, course_id: "1", name: "Odd", customization: `{"_raw": "{'a': 1}", "_unparseable": true}` },
    });
  });

  it("offers, discounts and purchases carry their money as it is", async () => {
    expect(await landed("offers")).toEqual({
      1: { doctor_id: "10", product_id: "1", price_both: "1200.10", price_upper: "0.00", price_lower: null },
      2: { doctor_id: null, product_id: null, price_both: null, price_upper: "99999999.99", price_lower: "0.01" },
      3: { doctor_id: "30", product_id: "1", price_both: null, price_upper: null, price_lower: null },
    });
    expect(await landed("discounts")).toEqual({
      1: {
        ...{ offer_id: "1", percentage: "15", reason: "Spring", max_uses: "3", current_uses: "2" },
        ...{ valid_from: "2024-01-01", valid_until: "2024-12-31", applies_to_total: "true" },
      },
    });
    expect(await landed("purchases")).toEqual({
      1: { product_id: "1", legacy_order_id: "900", quantity: "2", unit_price: "12345678.90" },
    });
  });

  it("an offer to somebody who otherwise is no doctor makes them one", async () => {
    expect(await landed("doctors")).toMatchObject({ 30: { profile_id: "30", doctor_number: "DOC-000030" } });
    // Who is a technician as well remains one.
    expect(await landed("profiles")).toMatchObject({ 30: { profile_type: "technician" } });
  });

  it("what hangs on a missing course waits; an impossible discount goes to the queue", async () => {
    expect(await test.live("offers")).toMatchObject([{ id: 4, state: "waiting", parent: "products", parentId: 4 }]);
    expect(await test.live("products")).toMatchObject([{ id: 4, state: "waiting", parent: "courses", parentId: 50 }]);
    expect(await test.live("purchases")).toMatchObject([{ id: 2, state: "waiting", parent: "products", parentId: 4 }]);
    expect(await test.live("discounts")).toMatchObject([
      { id: 2, state: "open", type: "business_rule_violation", rule: "discounts_percentage_check" },
      { id: 3, state: "waiting", parent: "offers", parentId: 4 },
    ]);
  });

  it("wares and storages are their ids", async () => {
    expect(await landed("wares")).toEqual({ 7: {}, 8: {} });
    expect(await landed("storages")).toEqual({ 1: {} });
  });

  it("templates are called by their task, else by their text, and keep all three names", async () => {
    const plain = {
      ...{ category_id: null, name: null, task_name: null, action_name: null, text_name: null, function_name: null },
      ...{ status_code: null, is_active: null, duration: null, predefined: null, read_only: null, separate: null },
      ...{ extensions: null, alerts: null },
    };
    expect(await landed("templates")).toEqual({
      1: {
        ...{ category_id: "1", name: "Scan", task_name: "Scan", action_name: "Scanned", text_name: "Please scan" },
        ...{ function_name: "scan()", status_code: "1", is_active: "true", duration: "30", predefined: "true" },
        ...{ read_only: "false", separate: "true", extensions: "stl, ply", alerts: "[]" },
      },
      2: { ...plain, name: "Text", task_name: "", text_name: "Text", status_code: "0", is_active: "false" },
      3: { ...plain, task_name: "", text_name: "" },
      4: { ...plain, action_name: "Only an action", status_code: "2", is_active: "false" },
    });
  });

  it.each([
    ["template_edit_roles", "role_id", "1"],
    ["template_view_roles", "role_id", "1"],
    ["template_view_groups", "team_id", "3"],
  ])("%s are one to one, an end that is not set stays so", async (entity, column, parent) => {
    expect(await landed(entity)).toEqual({
      1: { template_id: "1", [column]: parent },
      2: { template_id: null, [column]: parent },
      3: { template_id: "2", [column]: null },
    });
  });

  it("template_products wait for their product, template_predecessors lead from the template to its predecessor", async () => {
    expect(await landed("template_products")).toEqual({ 3: { template_id: "2", product_id: null } });
    expect(await test.live("template_products")).toMatchObject([
      { id: 1, state: "waiting", parent: "products", parentId: 4 },
      { id: 2, state: "waiting", parent: "products", parentId: 4 },
    ]);
    expect(await landed("template_predecessors")).toEqual({
      1: { template_id: "1", predecessor_id: "2" },
      2: { template_id: "3", predecessor_id: null },
      3: { template_id: null, predecessor_id: null },
    });
  });

  it("change nothing in a second run over everything", async () => {
    const { execution } = await test.sync({ capture: "full" });
    const touched = await test.target.admin`
      select e.entity_type from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
       where l.execution_id = ${execution} and (l.inserted > 0 or l.updated > 0 or l.deleted > 0 or l.surplus > 0)`;
    expect([...touched]).toEqual([]);
  });

  it("land as soon as what they waited for does", async () => {
    await test.seed.row("dispatch_course", { id: 50, name: "Found again" });
    await test.seed.membership(2, 31, 21);
    await test.sync();
    expect(await landed("offers")).toMatchObject({ 4: { doctor_id: "10", product_id: "4", price_both: "5.00" } });
    expect(await landed("discounts")).toMatchObject({ 3: { offer_id: "4", percentage: "100" } });
    expect(await landed("purchases")).toMatchObject({ 2: { product_id: "4", quantity: "0", unit_price: "0.00" } });
    expect(await landed("template_products")).toMatchObject({
      1: { product_id: "4" },
      2: { template_id: null, product_id: "4" },
    });
    expect(await landed("roles")).toMatchObject({ 5: { name: "Soon", profile_id: "31" } });
    expect(await landed("technician_roles")).toMatchObject({ 5: { technician_id: "31", role_name: "Soon" } });
    const waiting = await test.target.admin`select entity_type as entity from public.sync_conflicts where state = 'waiting'`;
    expect([...waiting]).toEqual([]);
  });

  it("finds a doctor by an offer, and another when the offer changes hands; the first remains one", async () => {
    for (const id of [32, 33]) await test.seed.user(id);
    await test.seed.row("dispatch_offer", { id: 5, doctor_id: 32, product_id: 1 });
    await test.sync();
    expect(await landed("offers")).toMatchObject({ 5: { doctor_id: "32" } });
    expect(await landed("profiles")).toMatchObject({ 32: { profile_type: "doctor" } });
    await test.source.admin`update public.dispatch_offer set doctor_id = 33 where id = 5`;
    await test.sync();
    expect(await landed("offers")).toMatchObject({ 5: { doctor_id: "33" } });
    expect(await landed("profiles")).toMatchObject({ 32: { profile_type: "doctor" }, 33: { profile_type: "doctor" } });
    expect(await test.live("profiles")).toEqual([]);
  });
});
