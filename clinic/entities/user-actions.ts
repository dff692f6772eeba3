import { defineEntity, expression } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    user_actions: { source: "dispatch_action"; target: "user_actions" };
  }
}

/** The audit trail: what an action was done to stays the name of a model and a legacy id, whatever became of it. */
export const userActions = defineEntity({
  name: "user_actions",
  target: { table: "user_actions", legacyKey: "legacy_action_id" },
  history: "hashes",
  onDelete: "hard",
  source: {
    table: "dispatch_action",
    key: "id",
    alias: "a",
    dated: "date",
    filters: ["user_id", "action"],
    joins: {
      item: { table: "django_content_type", on: { id: "a.item_type_id" } },
      owner: { table: "django_content_type", on: { id: "a.owner_type_id" } },
    },
    columns: {
      user_id: "a.user_id",
      action: "a.action",
      date: "a.date",
      item_type: expression("text", "item.app_label || '.' || item.model"),
      item_id: "a.item_id",
      owner_type: expression("text", "owner.app_label || '.' || owner.model"),
      owner_id: "a.owner_id",
      data: "a.data",
    },
    ignored: {},
  },
  fields: (f) => ({
    user_id: f.lookup("profiles", "user_id"),
    action: f.copy("action"),
    acted_at: f.copy("date"),
    item_type: f.copy("item_type"),
    legacy_item_id: f.copy("item_id"),
    owner_type: f.copy("owner_type"),
    legacy_owner_id: f.copy("owner_id"),
    action_data: f.copy("data", { sensitive: true }),
  }),
});
