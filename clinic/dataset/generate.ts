import { catalogueTables } from "./catalogue-tables.ts";
import { makeClinic } from "./clinic.ts";
import { clinicTables } from "./clinic-tables.ts";
import { makeContentTypes } from "./content-types.ts";
import { largeCounts, largeTables } from "./large-tables.ts";
import { openManifest, type EntityExpectation } from "./manifest.ts";
import type { TableRows } from "./table.ts";

export interface GenerateOptions {
  readonly seed?: number | undefined;
  /** 1: the real numbers of rows. */
  readonly scale?: number | undefined;
  /** Scale of the large tables: notifications, actions, tasks, files, records, comments, plans, brackets, projects. */
  readonly logScale?: number | undefined;
}

export interface LegacyData {
  readonly seed: number;
  readonly scale: number;
  readonly logScale: number;
  /** Every table that has rows, parents first. The rows are made while they are read, once and in this order. */
  readonly tables: readonly TableRows[];
  /** What a correct sync makes of it; reads the tables that nobody has read. */
  readonly entities: () => Readonly<Record<string, EntityExpectation>>;
}

/**
 * Makes the legacy database: every dispatch_* table, realistic volumes and skew, every known kind of dirt, and what a
 * correct sync must make of it. The same seed and scales give the same rows, byte for byte.
 */
export function generateLegacy({ seed = 1, scale = 1, logScale = scale }: GenerateOptions): LegacyData {
  const types = makeContentTypes(seed);
  const { held, ...clinic } = makeClinic(seed, scale, types);
  const manifest = openManifest({ clinic, types });
  const tables = [
    types.rows,
    ...clinicTables(clinic),
    ...catalogueTables(seed, scale, clinic),
    ...largeTables(seed, { clinic, types, held, counts: largeCounts(logScale) }, manifest.observers),
  ];
  const entities = () => {
    for (const { rows } of tables) for (const _ of rows);
    return manifest.entities();
  };
  return { seed, scale, logScale, tables, entities };
}
