import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    case_messages: { source: "dispatch_comment"; target: "case_messages" };
  }
}

/** The comment in the case of its plan's instruction's patient, whose id is the case's. */
export const caseMessages = defineEntity({
  name: "case_messages",
  target: { table: "case_messages", legacyKey: "legacy_comment_id" },
  source: {
    table: "dispatch_comment",
    key: "id",
    alias: "c",
    dated: "created_at",
    filters: ["author_id", "plan_id"],
    joins: {
      p: { table: "dispatch_plan", on: { id: "c.plan_id" }, required: true },
      i: { table: "dispatch_instruction", on: { id: "p.instruction_id" }, required: true },
    },
    columns: {
      patient_id: "i.patient_id",
      author_id: "c.author_id",
      text: "c.text",
      created_at: "c.created_at",
    },
    ignored: {},
  },
  fields: (f) => ({
    case_id: f.lookup("cases", "patient_id", { required: true }),
    sender_id: f.lookup("profiles", "author_id"),
    content: f.copy("text", { sensitive: true }),
    sent_at: f.copy("created_at"),
  }),
});
