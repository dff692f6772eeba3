import { catalogueTables } from "./catalogue-tables.ts";
import { makeClinic } from "./clinic.ts";
import { clinicTables } from "./clinic-tables.ts";
import { makeContentTypes } from "./content-types.ts";
import { logTables } from "./log-tables.ts";
import { expectations, type EntityExpectation } from "./manifest.ts";
import type { TableRows } from "./table.ts";

export interface GenerateOptions {
  readonly seed?: number | undefined;
  /** 1: the real numbers of rows. */
  readonly scale?: number | undefined;
  /** Scale of the large tables that no entity here reads: notifications, actions, tasks, files, records, plans, projects. */
  readonly logScale?: number | undefined;
}

export interface LegacyData {
  readonly seed: number;
  readonly scale: number;
  readonly logScale: number;
  /** Every table that has rows. */
  readonly tables: readonly TableRows[];
  readonly entities: Readonly<Record<string, EntityExpectation>>;
}

/**
 * Makes the legacy database: every dispatch_* table, realistic volumes and skew, every known kind of dirt, and what a
 * correct sync must make of it. The same seed and scales give the same rows, byte for byte.
 */
export function generateLegacy({ seed = 1, scale = 1, logScale = scale }: GenerateOptions): LegacyData {
  const clinic = makeClinic(seed, scale);
  const types = makeContentTypes(seed);
  const tables = [
    types.rows,
    ...clinicTables(clinic),
    ...catalogueTables(seed, scale, clinic, types),
    ...logTables(seed, logScale, clinic, types),
  ];
  return { seed, scale, logScale, tables, entities: expectations(clinic) };
}
