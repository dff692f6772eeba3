import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    message_attachments: { source: "dispatch_file"; target: "message_attachments" };
  }
}

export const messageAttachments = defineEntity({
  name: "message_attachments",
  target: { table: "message_attachments", legacyKey: "legacy_file_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_file",
    key: "id",
    alias: "f",
    predicate: {
      name: "attached",
      version: 1,
      where: "f.record_id is not null",
      reason: "A file without a record is attached to no message.",
      onLeave: "delete",
    },
    columns: { record_id: "f.record_id", file_id: "f.id" },
    ignored: {
      instruction_id: "belongs to the order files",
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
    message_id: f.lookup("messages", "record_id", { required: true }),
    file_id: f.lookup("files", "file_id", { required: true }),
  }),
});
