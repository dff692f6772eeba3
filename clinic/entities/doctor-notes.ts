import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    doctor_notes: { source: "dispatch_note"; target: "doctor_notes" };
  }
}

/** A user's note about a doctor: both ids are users', of whom one is looked up as a doctor and one as a profile. */
export const doctorNotes = defineEntity({
  name: "doctor_notes",
  target: { table: "doctor_notes", legacyKey: "legacy_note_id" },
  source: {
    table: "dispatch_note",
    key: "id",
    alias: "n",
    columns: { doctor_id: "n.doctor_id", author_id: "n.author_id", text: "n.text", created_at: "n.created_at" },
    ignored: {},
  },
  fields: (f) => ({
    doctor_id: f.lookup("doctors", "doctor_id"),
    author_id: f.lookup("profiles", "author_id"),
    content: f.copy("text", { sensitive: true }),
    noted_at: f.copy("created_at"),
  }),
});
