import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    comments: { source: "dispatch_comment"; target: "comments" };
  }
}

export const comments = defineEntity({
  name: "comments",
  target: { table: "comments", legacyKey: "legacy_comment_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_comment",
    key: "id",
    alias: "c",
    dated: "created_at",
    filters: ["author_id", "plan_id"],
    columns: { author_id: "c.author_id", text: "c.text", created_at: "c.created_at" },
    ignored: { plan_id: "belongs to the treatment discussions" },
  },
  fields: (f) => ({
    author_id: f.lookup("profiles", "author_id"),
    content: f.copy("text", { sensitive: true }),
    commented_at: f.copy("created_at"),
  }),
});
