import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    products: { source: "dispatch_product"; target: "products" };
  }
}

export const products = defineEntity({
  name: "products",
  target: { table: "products", legacyKey: "legacy_product_id" },
  onDelete: { soft: { deleted: true } },
  source: {
    table: "dispatch_product",
    key: "id",
    alias: "p",
    columns: {
      course_id: "p.course_id",
      name: "p.name",
      description: "p.description",
      type: "p.type",
      free: "p.free",
      substitute: "p.substitute",
      deleted: "p.deleted",
      customization: "p.customization",
    },
    ignored: {},
  },
  fields: (f) => ({
    course_id: f.lookup("courses", "course_id", { required: true }),
    name: f.copy("name"),
    description: f.copy("description"),
    type_code: f.copy("type"),
    is_free: f.copy("free"),
    is_substitute: f.copy("substitute"),
    deleted: f.copy("deleted"),
    customization: f.json("customization"),
  }),
});
