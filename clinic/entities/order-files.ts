import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    order_files: { source: "dispatch_file"; target: "order_files" };
  }
}

export const orderFiles = defineEntity({
  name: "order_files",
  target: { table: "order_files", legacyKey: "legacy_file_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_file",
    key: "id",
    alias: "f",
    dated: "created_at",
    filters: ["instruction_id"],
    predicate: {
      name: "ordered",
      version: 1,
      where: "f.instruction_id is not null",
      reason: "A file without an order is legal, and has no place here.",
      onLeave: "delete",
    },
    columns: { instruction_id: "f.instruction_id", file_id: "f.id" },
    ignored: {
      record_id: "belongs to the message attachments",
      uid: "on the file",
      name: "on the file",
      ext: "on the file",
      size: "on the file",
      type: "on the file",
      status: "on the file",
      product_id: "on the file",
      description: "on the file",
      parameters: "on the file",
      created_at: "on the file",
    },
  },
  fields: (f) => ({
    order_id: f.lookup("orders", "instruction_id", { required: true }),
    file_id: f.lookup("files", "file_id", { required: true }),
  }),
});
