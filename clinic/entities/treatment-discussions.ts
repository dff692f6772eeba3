import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    treatment_discussions: { source: "dispatch_comment"; target: "treatment_discussions" };
  }
}

/** The comment in its plan. */
export const treatmentDiscussions = defineEntity({
  name: "treatment_discussions",
  target: { table: "treatment_discussions", legacyKey: "legacy_comment_id" },
  source: {
    table: "dispatch_comment",
    key: "id",
    alias: "c",
    dated: "created_at",
    filters: ["author_id", "plan_id"],
    columns: { comment_id: "c.id", plan_id: "c.plan_id" },
    ignored: { author_id: "on the comment", text: "on the comment", created_at: "on the comment" },
  },
  fields: (f) => ({
    comment_id: f.lookup("comments", "comment_id", { required: true }),
    treatment_plan_id: f.lookup("treatment_plans", "plan_id", { required: true }),
  }),
});
