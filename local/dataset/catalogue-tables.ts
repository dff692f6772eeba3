import type { ContentTypes } from "./content-types.ts";
import { anyOf, madeTable, maybe, type MakeCells } from "./made-table.ts";
import { inventName, JSON_TEXTS } from "./names.ts";
import { at, Random } from "./random.ts";
import type { Clinic } from "./rows.ts";
import { table, type TableRows } from "./table.ts";
import { moment, money, nthId, sizeAt } from "./values.ts";

export const PRODUCTS = 14;

/** Products, prices, roles, templates and everything else that no entity reads yet and that does not grow by the day. */
export function catalogueTables(seed: number, scale: number, clinic: Clinic, types: ContentTypes): TableRows[] {
  const size = sizeAt(scale);
  const make = (name: string, columns: string, count: number, cells: MakeCells) => madeTable(seed, name, columns, count, cells);
  const users = clinic.users.map((user) => user.id);
  const counts = {
    category: size(44, 6),
    offer: size(788),
    role: size(48, 8),
    permission: size(220, 10),
    template: size(169, 8),
  };
  const anyUser = (random: Random) => random.pick(users);
  const product = (random: Random) => anyOf(random, PRODUCTS);
  const template = (random: Random) => anyOf(random, counts.template);
  const role = (random: Random) => anyOf(random, counts.role);
  return [
    make("auth_permission", "name codename content_type_id", counts.permission, (random, id) => [
      `Can do ${id}`,
      `do_${id}`,
      random.pick(types.ids),
    ]),
    make("dispatch_category", "name parent_id", counts.category, (_, id, position) => [
      `Category ${id}`,
      position > 3 ? nthId((position % 3) + 1) : null,
    ]),
    make("dispatch_product", "name description free deleted customization type substitute course_id", PRODUCTS, (random, id) => [
      `Product ${id}`,
      maybe(random, 0.5, "A product"),
      random.chance(0.1),
      id > 10,
      random.pick([...JSON_TEXTS.valid, ...JSON_TEXTS.broken, ""]),
      maybe(random, 0.8, (id % 6) + 1),
      random.chance(0.2),
      at([1, 2, 3, 4, 7, 8], id % 6),
    ]),
    make("dispatch_product_roles", "product_id role_id", size(20), (random) => [product(random), role(random)]),
    make("dispatch_product_successors", "from_product_id to_product_id", size(8), (random) => [product(random), product(random)]),
    make("dispatch_offer", "price_both price_upper price_lower doctor_id product_id", counts.offer, (random, id) => [
      money(random.between(0, 400_000)),
      money(random.between(0, 200_000)),
      maybe(random, 0.9, money(random.between(0, 200_000))),
      id === 1 ? null : anyUser(random),
      product(random),
    ]),
    make("dispatch_discount", "percent reason count start finish total used offer_id", size(151), (random) => [
      random.between(13, 100),
      maybe(random, 0.7, "Reason"),
      maybe(random, 0.5, random.between(1, 9)),
      maybe(random, 0.5, "2024-01-01"),
      maybe(random, 0.5, "2025-12-31"),
      random.chance(0.3),
      random.between(0, 3),
      anyOf(random, counts.offer),
    ]),
    make("dispatch_purchase", "quantity price order_id product_id", size(3_701), (random) => [
      random.between(1, 5),
      money(random.between(100, 90_000)),
      random.pick(clinic.merchandise).id,
      product(random),
    ]),
    jawTable(seed, clinic),
    make("dispatch_state", "status on changed_at actor_id instruction_id", size(5_547), (random) => [
      random.chance(0.55) ? 11 : 12,
      random.chance(0.5),
      moment(random),
      maybe(random, 0.9, anyUser(random)),
      random.pick(clinic.instructions).id,
    ]),
    make("dispatch_note", "created_at text author_id doctor_id", size(963), (random) => [
      moment(random),
      maybe(random, 0.98, `Note ${inventName(random)}`),
      anyUser(random),
      anyUser(random),
    ]),
    make(
      "dispatch_globalsetting",
      "setting version created_at updated_at sandbox application_id location_id access_token",
      1,
      (random) => ["{}", "1", moment(random), moment(random), true, "fake-application", "fake-location", "fake-access-token"],
    ),
    make("dispatch_role", "name abbrev type order user_id group_id", counts.role, (random, id) => [
      `Role ${id}`,
      maybe(random, 0.8, `R${id}`),
      random.between(1, 4),
      id,
      maybe(random, 0.2, anyUser(random)),
      random.chance(0.65) ? 11 : 5,
    ]),
    make("dispatch_role_permissions", "role_id permission_id", size(1_346), (random) => [
      role(random),
      anyOf(random, counts.permission),
    ]),
    make(
      "dispatch_template",
      "task_name action_name text_name function status duration category_id predefined read_only extensions alerts separate",
      counts.template,
      (random, id) => [
        maybe(random, 0.9, `Task ${id}`),
        maybe(random, 0.5, `Action ${id}`),
        maybe(random, 0.5, `Text ${id}`),
        null,
        random.pick([0, 1, 1]),
        maybe(random, 0.5, random.between(5, 120)),
        anyOf(random, counts.category),
        random.chance(0.5),
        random.chance(0.2),
        null,
        null,
        random.chance(0.1),
      ],
    ),
    make("dispatch_template_edit_roles", "template_id role_id", size(659), (random) => [template(random), role(random)]),
    make("dispatch_template_view_roles", "template_id role_id", size(1_111), (random) => [template(random), role(random)]),
    make("dispatch_template_view_groups", "template_id group_id", size(199), (random) => [
      template(random),
      random.pick(clinic.groups).id,
    ]),
    make("dispatch_template_products", "template_id product_id", size(183), (random) => [template(random), product(random)]),
    make("dispatch_template_predecessors", "from_template_id to_template_id", size(191), (random) => [
      template(random),
      template(random),
    ]),
    ...["client", "client3d", "master", "language", "link", "reading", "event"].map((name) =>
      make(`dispatch_${name}`, "", 3, () => []),
    ),
    make("dispatch_instance", "", size(29), () => []),
    make("dispatch_ware", "", size(16_552), () => []),
    make("dispatch_storage", "", 1, () => []),
    make("dispatch_agent", "user_id", 2, (random) => [anyUser(random)]),
    ...["masters", "sales"].map((name) =>
      make(`dispatch_doctorsetting_${name}`, "doctorsetting_id user_id", size(30), (random) => [
        random.pick(clinic.doctorSettings).id,
        anyUser(random),
      ]),
    ),
  ];
}

/** The ids are known already: orders point to their jaws. */
function jawTable(seed: number, clinic: Clinic): TableRows {
  const random = Random.for(seed, "dispatch_jaw");
  const mask = (bits: number) => bits.toString(2).padStart(16, "0");
  return table("dispatch_jaw", "id bond_teeth extract_teeth reason product_id labial", clinic.jaws, (id) => [
    id,
    mask(random.between(0, 65_535)),
    mask(random.chance(0.9) ? 0 : random.between(0, 65_535)),
    maybe(random, 0.2, random.between(1, 3)),
    maybe(random, 0.95, anyOf(random, PRODUCTS)),
    random.chance(0.3),
  ]);
}
