import { columnsRead } from "../entity/columns-read.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Context } from "../context.ts";
import { beginSource } from "../target/plan.ts";
import { keepCapabilities } from "../target/capabilities.ts";
import { sourceCapabilities, type SourceServerFacts } from "../source/capabilities.ts";
import { readSourceCatalog, type SourceCatalog } from "../source/catalog.ts";
import {
  improvements,
  recommend,
  serverFindings,
  tableFindings,
  tablesUsed,
  type Improvement,
  type Recommendation,
} from "./capabilities.ts";
import { compareSource } from "./compare-source.ts";
import type { Finding } from "./finding.ts";

export interface InspectedTable extends Recommendation {
  readonly table: string;
  /** pg_class.relkind; null: there is no such table. */
  readonly kind: string | null;
  readonly entities: readonly string[];
  readonly rows: number | null;
  readonly bytes: number;
}
export interface Inspection {
  readonly source: {
    readonly serverVersion: number;
    readonly node: "primary" | "replica";
    readonly role: string;
    /** Capture from the log is not built yet; this is what it would rest on. */
    readonly log: SourceServerFacts["log"];
  };
  readonly tables: readonly InspectedTable[];
  readonly findings: readonly Finding[];
  readonly improvements: readonly Improvement[];
}

/** Looks at the source afresh: how the changes of each table can be found, what that costs, and what would make it cheaper. */
export async function inspectSource(context: Context): Promise<Inspection> {
  const sourceId = await beginSource(context.target, context.config.SOURCE_NAME);
  const entities = [...context.entities.values()];
  const { catalog } = await readSourceCatalog(context.source, sourceTables(entities), "");
  if (catalog === null) throw new TypeError("a fresh reading has a catalog");
  return inspectCatalog(context, sourceId, catalog);
}

/** The same with a catalog that has been read. What it recommends is kept in sync_sources.capabilities. */
export async function inspectCatalog(context: Context, sourceId: number, catalog: SourceCatalog): Promise<Inspection> {
  const entities = [...context.entities.values()];
  const { server, tables: facts } = await sourceCapabilities(context.source, sourceTables(entities));
  const tables = tablesUsed(entities).map((use) => {
    const [columns, more] = [catalog.tables[use.table], facts[use.table]];
    const table = columns && more ? { ...columns, ...more } : undefined;
    return { use, table, choice: recommend(use, table, catalog) };
  });
  const kept = tables.map(
    ({ use, choice: { capture, backedBy, reason } }) => [use.table, { capture, backedBy, reason }] as const,
  );
  await keepCapabilities(context.target, sourceId, Object.fromEntries(kept));
  return {
    source: {
      serverVersion: catalog.serverVersion,
      node: server.replica ? "replica" : "primary",
      role: catalog.role,
      log: server.log,
    },
    tables: tables.map(({ use: { table, entities: names }, table: found, choice }) => ({
      table,
      kind: found?.relkind ?? null,
      entities: names,
      rows: found?.rows ?? null,
      bytes: found?.bytes ?? 0,
      ...choice,
    })),
    findings: [
      ...compareSource(entities, catalog, context),
      ...tables.flatMap(({ use, table }) => (table ? tableFindings(use, table) : [])),
      ...serverFindings(server, catalog.role),
    ],
    improvements: tables.flatMap(({ use, table }) => (table ? improvements(use, table) : [])),
  };
}

/** Every table that an entity reads. */
export function sourceTables(entities: readonly Entity[]): string[] {
  return [...new Set(entities.flatMap((entity) => [...columnsRead(entity).keys()]))].sort();
}
