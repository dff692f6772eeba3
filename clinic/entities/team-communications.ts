import { defineEntity, idsOf } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    team_communications: { source: "dispatch_record"; target: "team_communications" };
  }
}

/** What was addressed to a group, in addition to the message that the same row is. */
export const teamCommunications = defineEntity({
  name: "team_communications",
  target: { table: "team_communications", legacyKey: "legacy_record_id" },
  source: {
    table: "dispatch_record",
    key: "id",
    alias: "r",
    predicate: {
      name: "team_addressed",
      version: 1,
      where: "r.group_id is not null",
      reason: "A record that names no group was said to no team.",
      onLeave: "delete",
    },
    columns: {
      group_id: idsOf("auth_group", "r.group_id"),
      author_id: "r.author_id",
      type: "r.type",
      text: "r.text",
      public: "r.public",
      created_at: "r.created_at",
    },
    ignored: { target_type_id: "on the message", target_id: "on the message" },
  },
  fields: (f) => ({
    team_id: f.lookup("teams", "group_id", { required: true }),
    author_id: f.lookup("profiles", "author_id"),
    type_code: f.copy("type"),
    body: f.copy("text", { sensitive: true }),
    is_public: f.copy("public"),
    sent_at: f.copy("created_at"),
  }),
});
