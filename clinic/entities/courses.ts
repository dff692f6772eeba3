import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    courses: { source: "dispatch_course"; target: "courses" };
  }
}

/** `type` is another code than the course id, which says what an order is. */
export const courses = defineEntity({
  name: "courses",
  target: { table: "courses", legacyKey: "legacy_course_id" },
  source: {
    table: "dispatch_course",
    key: "id",
    alias: "c",
    columns: { name: "c.name", type: "c.type", customization: "c.customization" },
    ignored: {},
  },
  fields: (f) => ({
    name: f.copy("name"),
    type_code: f.copy("type"),
    customization: f.json("customization"),
  }),
});
