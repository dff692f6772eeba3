import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    files: { source: "dispatch_file"; target: "files" };
  }
}

/** A file without order and record is legal: half of them have neither. */
export const files = defineEntity({
  name: "files",
  target: { table: "files", legacyKey: "legacy_file_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_file",
    key: "id",
    alias: "f",
    dated: "created_at",
    filters: ["instruction_id", "product_id", "status", "type"],
    columns: {
      instruction_id: "f.instruction_id",
      product_id: "f.product_id",
      uid: "f.uid",
      name: "f.name",
      ext: "f.ext",
      size: "f.size",
      type: "f.type",
      status: "f.status",
      description: "f.description",
      parameters: "f.parameters",
      created_at: "f.created_at",
    },
    ignored: { record_id: "belongs to the message attachments" },
  },
  fields: (f) => ({
    order_id: f.lookup("orders", "instruction_id"),
    product_id: f.lookup("products", "product_id"),
    file_uid: f.copy("uid"),
    filename: f.copy("name", { sensitive: true }),
    extension: f.copy("ext"),
    file_size_bytes: f.copy("size"),
    type_code: f.copy("type"),
    status_code: f.copy("status"),
    description: f.copy("description", { sensitive: true }),
    parameters: f.json("parameters"),
    uploaded_at: f.copy("created_at"),
  }),
});
