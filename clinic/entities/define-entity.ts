// What the entity files of this folder are written with: the engine's tools, checked against the clinic's two
// catalogs.
import { entityDefiner } from "../../shared/entity/define-entity.ts";
import type { denied } from "../denied.ts";
import type { SourceTables } from "../schema/source-tables.gen.ts";
import type { TargetTables } from "../schema/target-tables.gen.ts";

export * from "../../shared/entity/define-entity.ts";

/** Entity name → its driving table in the source and its table in the target. Every entity file adds its own line. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by declaration merging
export interface Entities {}

export const defineEntity = entityDefiner<{
  source: SourceTables;
  target: TargetTables;
  entities: Entities;
  denied: (typeof denied)["secrets" | "onRequest"][number];
}>();
