import { defineEntity, expression, idsOf } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    messages: { source: "dispatch_record"; target: "messages" };
  }
}

const PATIENT = "dispatch.patient";
const USER = "auth.user";
const RECIPIENT_TYPE = "c.app_label || '.' || c.model";
const recipientIf = (model: string) => `case when ${RECIPIENT_TYPE} = '${model}' then r.target_id end`;

/** The recipient is a generic reference: its model is known by name, never by number, and says whose id it is. */
export const messages = defineEntity({
  name: "messages",
  target: { table: "messages", legacyKey: "legacy_record_id" },
  source: {
    table: "dispatch_record",
    key: "id",
    alias: "r",
    dated: "created_at",
    filters: ["author_id", "group_id", "type"],
    joins: { c: { table: "django_content_type", on: { id: "r.target_type_id" } } },
    columns: {
      author_id: "r.author_id",
      recipient_type: expression("text", RECIPIENT_TYPE),
      patient_id: idsOf("dispatch_patient", recipientIf(PATIENT)),
      user_id: idsOf("auth_user", recipientIf(USER)),
      group_id: idsOf("auth_group", "r.group_id"),
      type: "r.type",
      text: "r.text",
      public: "r.public",
      created_at: "r.created_at",
    },
    ignored: {},
  },
  fields: (f) => ({
    sender_id: f.lookup("profiles", "author_id"),
    recipient_type: f.mapEnum("recipient_type", { [PATIENT]: "patient", [USER]: "profile" }),
    recipient_patient_id: f.lookup("patients", "patient_id"),
    recipient_profile_id: f.lookup("profiles", "user_id"),
    team_id: f.lookup("teams", "group_id"),
    type_code: f.copy("type"),
    content: f.copy("text", { sensitive: true }),
    is_public: f.copy("public"),
    sent_at: f.copy("created_at"),
  }),
});
