import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    projects: { source: "dispatch_project"; target: "projects" };
  }
}

export const projects = defineEntity({
  name: "projects",
  target: { table: "projects", legacyKey: "legacy_project_id" },
  source: {
    table: "dispatch_project",
    key: "id",
    alias: "j",
    dated: "created_at",
    filters: ["creator_id", "status", "type"],
    columns: {
      creator_id: "j.creator_id",
      name: "j.name",
      type: "j.type",
      status: "j.status",
      uid: "j.uid",
      size: "j.size",
      public: "j.public",
      created_at: "j.created_at",
    },
    ignored: {},
  },
  fields: (f) => ({
    creator_id: f.lookup("profiles", "creator_id"),
    name: f.copy("name", { sensitive: true }),
    project_type: f.mapEnum("type", { "0": "stl_upper", "3": "treatment_plan", "10": "simulation", "11": "aligner_design" }),
    project_status: f.mapEnum("status", { "0": "draft", "2": "completed" }),
    file_uid: f.copy("uid"),
    file_size_bytes: f.copy("size"),
    is_public: f.copy("public"),
    source_created_at: f.copy("created_at"),
  }),
});
