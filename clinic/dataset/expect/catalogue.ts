import type { Clinic } from "../rows.ts";
import type { Category, Link, Template } from "../small-rows.ts";
import { NOT_JSON, unparseable } from "./json.ts";
import type { Kind, Ledger, Parent } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;

/** What is sold, and how work is described. */
export function judgeCatalogue(ledger: Ledger, clinic: Clinic): void {
  ledger.judgeAll<Category>("categories", parentsFirst(clinic.categories), {
    id,
    parents: [["parent_id", "categories", ({ parent }) => parent]],
    golden: [[({ parent }) => parent === null, ({ name }) => ({ parent_id: null, name })]],
  });
  ledger.judgeAll("courses", clinic.courses, {
    id,
    golden: [
      [(row) => row.id === 5, () => ({ type_code: "6" })],
      [(row) => row.id === 9, () => ({ type_code: null })],
      [(row) => row.customization === "", () => ({ customization: null })],
      [(row) => row.customization === NOT_JSON.object, () => ({ customization: unparseable(NOT_JSON.object) })],
      [(row) => row.customization === NOT_JSON.nul, () => ({ customization: unparseable(NOT_JSON.nul) })],
    ],
  });
  ledger.judgeAll("products", clinic.products, {
    id,
    parents: [["course_id", "courses", ({ course }) => course]],
    golden: [
      [({ deleted }) => deleted, () => ({ deleted: "true" })],
      [({ type }) => type === null, () => ({ type_code: null })],
      [({ description }) => description === "", () => ({ description: "" })],
      [({ customization }) => customization === "", () => ({ customization: null })],
      [({ customization }) => customization === "[]", () => ({ customization: "[]" })],
      [({ customization }) => customization === NOT_JSON.word, () => ({ customization: unparseable(NOT_JSON.word) })],
      [({ customization }) => customization === NOT_JSON.nul, () => ({ customization: unparseable(NOT_JSON.nul) })],
    ],
  });
  judgePrices(ledger, clinic);
  judgeTemplates(ledger, clinic);
  ledger.judgeAll("wares", clinic.wares, { id });
  ledger.judgeAll("storages", clinic.storages, { id });
}

/** So that a category is judged after the one above it. */
function parentsFirst(categories: readonly Category[]): Category[] {
  const byId = new Map(categories.map((category) => [category.id, category]));
  const depth = ({ parent }: Category): number => {
    const above = parent === null ? undefined : byId.get(parent);
    return above ? depth(above) + 1 : 0;
  };
  return [...categories].sort((a, b) => depth(a) - depth(b));
}

function judgePrices(ledger: Ledger, clinic: Clinic): void {
  ledger.judgeAll("offers", clinic.offers, {
    id,
    parents: [
      ["doctor_id", "doctors", (offer) => offer.doctor],
      ["product_id", "products", (offer) => offer.product],
    ],
    amounts: {
      price_both: (offer) => offer.both,
      price_upper: (offer) => offer.upper,
      price_lower: (offer) => offer.lower,
    },
    golden: [
      [(offer) => offer.doctor === null, () => ({ doctor_id: null })],
      [(offer) => offer.product === null, () => ({ product_id: null })],
      [(offer) => offer.both === null, () => ({ price_both: null, price_upper: null, price_lower: null })],
      [(offer) => offer.both === "99999999.99", () => ({ price_both: "99999999.99" })],
      [(offer) => offer.upper === "0.01", () => ({ price_upper: "0.01" })],
      [(offer) => offer.lower === "-5.00", () => ({ price_lower: "-5.00" })],
    ],
  });
  ledger.judgeAll("discounts", clinic.discounts, {
    id,
    parents: [["offer_id", "offers", (row) => row.offer]],
    check: (row) => row.percent >= 0 && row.percent <= 100,
    golden: [
      [(row) => row.percent === 0, () => ({ percentage: "0" })],
      [(row) => row.percent === 100, () => ({ percentage: "100" })],
      [
        (row) => row.start === "2025-12-31" && row.finish === "2024-01-01",
        () => ({ valid_from: "2025-12-31", valid_until: "2024-01-01" }),
      ],
      [(row) => row.reason === "", () => ({ reason: "" })],
      [(row) => row.count === null, () => ({ max_uses: null })],
      [(row) => row.used === null, () => ({ current_uses: null })],
      [(row) => row.total, () => ({ applies_to_total: "true" })],
    ],
  });
  ledger.judgeAll("purchases", clinic.purchases, {
    id,
    parents: [["product_id", "products", (row) => row.product]],
    amounts: { unit_price: (row) => row.price },
    golden: [
      [(row) => row.price === "0.01", (row) => ({ unit_price: "0.01", legacy_order_id: String(row.order) })],
      [(row) => row.price === "99999999.99", () => ({ unit_price: "99999999.99" })],
      [(row) => row.quantity === 0, () => ({ quantity: "0" })],
    ],
  });
}

const TEMPLATE_KINDS: readonly Kind<Template>[] = [
  [
    (row) => row.taskName === "" && row.textName !== "",
    (row) => ({ name: row.textName, task_name: "", text_name: row.textName }),
  ],
  [(row) => row.taskName === null && row.textName !== null, (row) => ({ name: row.textName, task_name: null })],
  [(row) => row.taskName === "" && row.textName === "", () => ({ name: null, task_name: "", text_name: "" })],
  [(row) => row.taskName === null && row.textName === null, () => ({ name: null, text_name: null })],
  [(row) => row.taskName === "  ", () => ({ name: "  " })],
  [(row) => row.taskName?.includes("\\") === true, (row) => ({ name: row.taskName, task_name: row.taskName })],
  [(row) => row.status === null, () => ({ is_active: null, status_code: null })],
  [(row) => row.status === 7, () => ({ is_active: "false", status_code: "7" })],
  [(row) => row.status === 1, () => ({ is_active: "true", status_code: "1" })],
  [(row) => row.category === null, () => ({ category_id: null })],
  [(row) => row.function !== null, (row) => ({ function_name: row.function })],
  [(row) => row.predefined === null, () => ({ predefined: null, read_only: null, separate: null })],
  [(row) => row.alerts !== null, (row) => ({ alerts: row.alerts })],
];

function judgeTemplates(ledger: Ledger, clinic: Clinic): void {
  ledger.judgeAll<Template>("templates", clinic.templates, {
    id,
    parents: [["category_id", "categories", (row) => row.category]],
    golden: TEMPLATE_KINDS,
  });
  const links = (entity: string, rows: readonly Link[], field: string, parent: string) => {
    const parents: readonly Parent<Link>[] = [
      ["template_id", "templates", ({ from }) => from],
      [field, parent, ({ to }) => to],
    ];
    const golden: readonly Kind<Link>[] = [
      [({ from, to }) => from === null && to !== null, () => ({ template_id: null })],
      [({ from, to }) => from !== null && to === null, () => ({ [field]: null })],
      [({ from, to }) => from === null && to === null, () => ({ template_id: null, [field]: null })],
    ];
    ledger.judgeAll(entity, rows, { id, parents, golden });
  };
  links("template_edit_roles", clinic.editRoles, "role_id", "roles");
  links("template_view_roles", clinic.viewRoles, "role_id", "roles");
  links("template_view_groups", clinic.viewGroups, "team_id", "teams");
  links("template_products", clinic.templateProducts, "product_id", "products");
  links("template_predecessors", clinic.predecessors, "predecessor_id", "templates");
}
