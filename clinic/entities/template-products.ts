import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    template_products: { source: "dispatch_template_products"; target: "template_products" };
  }
}

/** For which products a template is used. */
export const templateProducts = defineEntity({
  name: "template_products",
  target: { table: "template_products", legacyKey: "legacy_junction_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_template_products",
    key: "id",
    alias: "l",
    columns: { template_id: "l.template_id", product_id: "l.product_id" },
    ignored: {},
  },
  fields: (f) => ({
    template_id: f.lookup("templates", "template_id"),
    product_id: f.lookup("products", "product_id"),
  }),
});
