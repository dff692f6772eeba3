// How the changes of each source table can be found, decided from what its catalog and the role's rights say.
import { ident } from "../db/ident.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { SourceIndex, SourceServerFacts, SourceTableFacts } from "../source/capabilities.ts";
import type { SourceCatalog, SourceCatalogTable } from "../source/catalog.ts";
import { OLDEST_SOURCE_VERSION } from "./compare-source.ts";
import { findingsOn, type Finding } from "./finding.ts";
import { withoutXmin } from "./without-xmin.ts";

/**
 * What one scan reads in a second. Measured on two shared cores, PostgreSQL 17, 1.5 million rows in 510 MiB: 450
 * MiB/s at the first look, 780 MiB/s cached. Less than half of that leaves room for a disk and for an application
 * that works meanwhile.
 */
export const SCAN_BYTES_PER_SECOND = 200 * 1024 * 1024;
/** A scan as short as this is no reason to rely on timestamps. */
const SHORT_SCAN_SECONDS = 1;

/** A source table as the entities use it. */
export interface TableUse {
  readonly table: string;
  readonly entities: readonly string[];
  /** Columns by which its rows are paged and looked up: of a driving table, its key first. */
  readonly keys: readonly string[];
  /** The modification time that an entity which it drives declares. */
  readonly modified: string | undefined;
}
export type TableFacts = SourceCatalogTable & SourceTableFacts;

export interface Recommendation {
  /** null: as it is, no capture would be right. */
  readonly capture: "xmin" | "modified" | "digest" | null;
  /** What finds the changes that the capture cannot: deletes, and what has no new timestamp. */
  readonly backedBy: "xmin" | "digest" | null;
  readonly reason: string;
  readonly cost: string;
  /** Of a look that finds nothing; null: it depends on what changed. */
  readonly seconds: number | null;
}
/** Something that the owner of the source may do to make it cheaper. */
export interface Improvement {
  readonly table: string;
  readonly sql: string;
  readonly reason: string;
}

/** Every table that an entity is driven by, joins or watches, by name. */
export function tablesUsed(entities: readonly Entity[]): TableUse[] {
  const uses = new Map<string, { entities: Set<string>; keys: Set<string>; modified: string | undefined }>();
  const use = (entity: Entity, table: string, key: string) => {
    const known = uses.get(table) ?? { entities: new Set(), keys: new Set(), modified: undefined };
    uses.set(table, known);
    known.entities.add(entity.name);
    known.keys.add(key);
    return known;
  };
  for (const entity of entities) {
    const { table, key, modified } = entity.source;
    use(entity, table, key).modified ??= modified;
  }
  for (const entity of entities) {
    for (const { table, key = "id" } of Object.values({ ...entity.source.joins, ...entity.source.watches }))
      use(entity, table, key);
  }
  return [...uses]
    .map(([table, { entities: names, keys, modified }]) => ({ table, entities: [...names], keys: [...keys], modified }))
    .sort((a, b) => (a.table < b.table ? -1 : 1));
}

/** The capture that finds the changes of a table at the least cost and misses none. */
export function recommend(
  use: TableUse,
  table: TableFacts | undefined,
  { serverVersion, role }: Pick<SourceCatalog, "serverVersion" | "role">,
): Recommendation {
  const impossible = whyImpossible(table, serverVersion);
  if (!table || impossible !== undefined) {
    return { capture: null, backedBy: null, reason: impossible ?? "", cost: "-", seconds: null };
  }
  const without = withoutXmin(use.table, table, role);
  const seconds = table.bytes / SCAN_BYTES_PER_SECOND;
  if (without) {
    const known = table.bytes > 0;
    return {
      capture: "digest",
      backedBy: null,
      reason: `written rows cannot be told: ${without.why}`,
      cost: known
        ? `both sides are summarised: ${scanOf(table.bytes)} and the hashing`
        : "what the query behind it costs, each time",
      seconds: known ? seconds : null,
    };
  }
  const scan = { capture: "xmin", backedBy: "digest", cost: `a scan, ${scanOf(table.bytes)}`, seconds } as const;
  const modified = modifiedOf(use, table);
  if (modified.state === "none") return { ...scan, reason: "needs nothing but the right to read" };
  if (modified.state !== "indexed") return { ...scan, reason: modified.why };
  if (seconds < SHORT_SCAN_SECONDS) {
    return { ...scan, reason: `the scan is short: ${modified.column} would gain nothing and promises less` };
  }
  const missed = table.notNull.includes(modified.column) ? "what it misses" : "what it misses, rows without it among them";
  return {
    capture: "modified",
    backedBy: "xmin",
    reason: `${modified.column} has the index ${modified.index}, and a scan takes ${seconds.toFixed(1)} s; xmin finds ${missed}`,
    cost: "a look into the index per changed row",
    seconds: null,
  };
}

/** What is wrong, or dearer than need be, with one table. What stops an entity, the comparison of the catalogs tells. */
export function tableFindings(use: TableUse, table: TableFacts): Finding[] {
  const find = findingsOn(null, use.table);
  const modified = modifiedOf(use, table);
  return [
    ...keysWithoutIndex(use, table).map((key) =>
      find("source_key_not_indexed", {
        column: key,
        message: `No usable index of ${use.table} leads with ${key}: every page of it reads the whole table.`,
        remedy: `On the source: ${createIndex(use.table, table, [key])}`,
      }),
    ),
    ...(modified.state === "unusable"
      ? [
          find("source_modified_unusable", {
            column: use.modified ?? null,
            message: `${modified.why}: changes are found by xmin alone.`,
            remedy: "Correct source.modified in the entity file, or take it out.",
          }),
        ]
      : []),
    ...(modified.state === "not_indexed"
      ? [
          find("source_modified_not_indexed", {
            column: modified.column,
            message: `${modified.why}: a look for changes reads the whole table.`,
            remedy: `On the source: ${createIndex(use.table, table, modified.wanted)}`,
          }),
        ]
      : []),
  ];
}

/** Indexes that would make a table cheaper to read. */
export function improvements(use: TableUse, table: TableFacts): Improvement[] {
  const modified = modifiedOf(use, table);
  const index = (columns: readonly string[], reason: string): Improvement => ({
    table: use.table,
    sql: createIndex(use.table, table, columns),
    reason,
  });
  return [
    ...keysWithoutIndex(use, table).map((key) => index([key], "pages by key without reading the whole table")),
    ...(modified.state === "not_indexed" ? [index(modified.wanted, "finds changed rows without a scan")] : []),
  ];
}

/** Least privilege, and what a replica does to long queries. */
export function serverFindings(server: SourceServerFacts, role: string): Finding[] {
  const find = findingsOn(null, null);
  const excess = (message: string, remedy: string) => find("source_role_excess", { message, remedy: `On the source: ${remedy}` });
  const name = ident(role);
  if (server.superuser) {
    return [
      excess(
        `${role} is a superuser of the source.`,
        "make a role that can only read: npm run sync -- setup-source prints the SQL.",
      ),
    ];
  }
  const attributes = [server.createsRoles ? "createrole" : [], server.createsDatabases ? "createdb" : []].flat();
  return [
    ...(attributes.length > 0
      ? [
          excess(
            `${role} has ${attributes.join(" and ")}, which a reader does not need.`,
            `alter role ${name} ${attributes.map((attribute) => `no${attribute}`).join(" ")};`,
          ),
        ]
      : []),
    ...(server.writable.length > 0
      ? [
          excess(
            `${role} may write ${server.writable.join(", ")} of the source.`,
            `revoke insert, update, delete, truncate on all tables in schema public from ${name}; and of roles it is a member of.`,
          ),
        ]
      : []),
    ...(server.createsTables
      ? [
          excess(
            `${role} may create tables in the schema public of the source.`,
            `revoke create on schema public from public, ${name};`,
          ),
        ]
      : []),
    ...(server.readOnlyByDefault
      ? []
      : [excess(`Transactions of ${role} are not read only.`, `alter role ${name} set default_transaction_read_only = on;`)]),
    ...(server.replica && server.hotStandbyFeedback === "off"
      ? [
          find("source_replica_cancels", {
            message: `The source is a replica that cancels queries in the way of its replay after ${server.maxStandbyStreamingDelay ?? "its delay"}: pages are tried again, and big tables may need many tries.`,
            remedy: "On the replica: hot_standby_feedback = on, or a larger max_standby_streaming_delay.",
          }),
        ]
      : []),
  ];
}

function whyImpossible(table: SourceCatalogTable | undefined, serverVersion: number): string | undefined {
  if (serverVersion < OLDEST_SOURCE_VERSION) return "the server is too old";
  if (!table) return "there is no such table";
  if (table.hidden) return "row level security hides rows from the role";
  const read = Object.entries(table.columns).filter(([name]) => name !== "xmin");
  return read.every(([, { readable }]) => !readable) ? "the role may not read it" : undefined;
}

type Modified =
  | { readonly state: "none" }
  | { readonly state: "unusable"; readonly why: string }
  | { readonly state: "not_indexed"; readonly why: string; readonly column: string; readonly wanted: readonly string[] }
  | { readonly state: "indexed"; readonly column: string; readonly index: string };

function modifiedOf({ table: name, modified, keys: [key = ""] }: TableUse, table: TableFacts): Modified {
  if (modified === undefined) return { state: "none" };
  const column = table.columns[modified];
  if (!column) return { state: "unusable", why: `${name} has no column ${modified}` };
  if (!column.readable) return { state: "unusable", why: `the role may not read ${name}.${modified}` };
  if (!column.type.startsWith("timestamp"))
    return { state: "unusable", why: `${name}.${modified} is ${column.type}, no timestamp` };
  const wanted = [modified, key];
  const index = leadingWith(table.indexes, wanted);
  if (index) return { state: "indexed", column: modified, index: index.name };
  return { state: "not_indexed", why: `no usable index of ${name} leads with (${wanted.join(", ")})`, column: modified, wanted };
}

/** Views have no indexes, and what a foreign table has is not ours to see. */
function keysWithoutIndex({ keys }: TableUse, { relkind, indexes }: TableFacts): string[] {
  if (!["r", "p", "m"].includes(relkind)) return [];
  return keys.filter((key) => !leadingWith(indexes, [key]));
}

function leadingWith(indexes: readonly SourceIndex[], columns: readonly string[]): SourceIndex | undefined {
  return indexes.find(({ usable, columns: has }) => usable && columns.every((column, position) => has[position] === column));
}

/** PostgreSQL cannot build an index of a partitioned table concurrently. What a build that failed left behind goes first. */
function createIndex(table: string, { relkind, indexes }: TableFacts, columns: readonly string[]): string {
  const name = `isthmus_${table}_${columns.join("_")}`.slice(0, 63);
  const how = relkind === "p" ? "" : " concurrently";
  const failed = indexes.some((index) => index.name === name) ? `drop index${how} public.${ident(name)}; ` : "";
  return `${failed}create index${how} ${ident(name)} on public.${ident(table)} (${columns.map(ident).join(", ")});`;
}

function scanOf(bytes: number): string {
  const megabytes = bytes / 1024 / 1024;
  return `about ${(bytes / SCAN_BYTES_PER_SECOND).toFixed(1)} s (${megabytes < 10 ? megabytes.toFixed(1) : Math.round(megabytes)} MiB)`;
}
