import { defineEntity, expression, idsOf } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    system_messages: { source: "dispatch_notification"; target: "system_messages" };
  }
}

const itemIs = (model: string) => `c.app_label = 'dispatch' and c.model = '${model}'`;

/** Only what was sent. What a message is about is a generic reference: its model is known by name, never by number. */
export const systemMessages = defineEntity({
  name: "system_messages",
  target: { table: "system_messages", legacyKey: "legacy_notification_id" },
  history: "hashes",
  onDelete: "hard",
  source: {
    table: "dispatch_notification",
    key: "id",
    alias: "n",
    dated: "created_at",
    filters: ["recipient_id"],
    joins: { c: { table: "django_content_type", on: { id: "n.item_type_id" } } },
    predicate: {
      name: "sendable",
      version: 1,
      where: "n.sent and n.send",
      reason: "What was never sent, or must not be, is no message.",
      onLeave: "delete",
    },
    columns: {
      recipient_id: "n.recipient_id",
      instruction_id: idsOf("dispatch_instruction", `case when ${itemIs("instruction")} then n.item_id end`),
      patient_id: idsOf("dispatch_patient", `case when ${itemIs("patient")} then n.item_id end`),
      item_type: expression("text", "c.app_label || '.' || c.model"),
      item_id: "n.item_id",
      sender: "n.sender",
      template_name: "n.template_name",
      template_context: "n.template_context",
      read: "n.read",
      created_at: "n.created_at",
    },
    ignored: {},
  },
  fields: (f) => ({
    recipient_id: f.lookup("profiles", "recipient_id"),
    order_id: f.lookup("orders", "instruction_id"),
    patient_id: f.lookup("patients", "patient_id"),
    item_type: f.copy("item_type"),
    legacy_item_id: f.copy("item_id"),
    sender: f.copy("sender", { sensitive: true }),
    message_code: f.copy("template_name"),
    message_data: f.json("template_context", { sensitive: true }),
    is_read: f.copy("read"),
    notified_at: f.copy("created_at"),
  }),
});
