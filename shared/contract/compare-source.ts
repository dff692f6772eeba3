import { ident } from "../db/ident.ts";
import { columnsRead } from "../entity/columns-read.ts";
import type { Entity } from "../entity/define-entity.ts";
import { everDenied, type Denied } from "../entity/denied.ts";
import type { CompiledColumns } from "../entity/installation.ts";
import { compiledKind, kindOf, namesIn, type ColumnKinds } from "../entity/kinds.ts";
import type { SourceCatalog, SourceCatalogTable } from "../source/catalog.ts";
import { findingsOn, missingTable, type Finding } from "./finding.ts";
import { keyTypes } from "./key-claims.ts";
import { withoutXmin } from "./without-xmin.ts";

/** PostgreSQL 12: the oldest that tests run against (`materialized`, which statements use, came with it). */
export const OLDEST_SOURCE_VERSION = 120_000;

/** What was known of the source when the entities were compiled. */
export interface KnownSource {
  readonly columns: Pick<CompiledColumns, "source" | "beside">;
  readonly denied: Denied;
}

/** In what the source does not fit the entities. */
export function compareSource(entities: readonly Entity[], catalog: SourceCatalog, known: KnownSource): Finding[] {
  return [
    ...checkVersion(catalog),
    ...entities.flatMap((entity) => compareEntity(entity, catalog, known.columns.source)),
    ...newColumnsBeside(entities, catalog, known),
  ];
}

function checkVersion({ serverVersion }: SourceCatalog): Finding[] {
  if (serverVersion >= OLDEST_SOURCE_VERSION) return [];
  const version = Math.floor(serverVersion / 10_000);
  return [
    findingsOn(null, null)("source_version", {
      message: `The source is PostgreSQL ${version}; the sync needs ${OLDEST_SOURCE_VERSION / 10_000} or later.`,
      remedy: "Upgrade the source, or read from a replica that runs a later version.",
    }),
  ];
}

function compareEntity(entity: Entity, catalog: SourceCatalog, kinds: ColumnKinds): Finding[] {
  const types = keyTypes(entity, catalog);
  const tables = [...columnsRead(entity)].flatMap(([name, columns]) => {
    const find = findingsOn(entity.name, name);
    const table = catalog.tables[name];
    if (!table) {
      return [find("source_table_missing", missingTable("source", name, catalog.elsewhere?.[name]))];
    }
    const named = new Set([...columns].filter((column) => column !== "xmin"));
    const rights = checkRights(find, name, named, table, catalog.role);
    return [
      ...checkColumns(find, name, named, table, kinds),
      ...rights,
      // What is not readable at all is told once.
      ...(rights.some(({ code }) => code === "source_not_readable") ? [] : checkCapture(find, name, table, catalog.role)),
      ...(name === entity.source.table ? [...checkStamps(find, entity, table), ...newColumns(find, entity, columns, table)] : []),
    ];
  });
  return [...types, ...tables];
}

type Find = ReturnType<typeof findingsOn>;

function checkColumns(
  find: Find,
  table: string,
  columns: ReadonlySet<string>,
  { columns: present }: SourceCatalogTable,
  kinds: ColumnKinds,
): Finding[] {
  return [...columns].flatMap((column) => {
    const found = present[column];
    if (!found) {
      return [
        find("source_column_missing", {
          column,
          message: `The source table ${table} has no column ${column}.`,
          remedy: "Restore the column, or correct the entity file and run npm run schema:types.",
        }),
      ];
    }
    const compiled = compiledKind(kinds, table, column);
    if (compiled === undefined || compiled === kindOf(found.type, found.enum)) return [];
    return [
      find("source_column_type", {
        column,
        message: `${table}.${column} of the source is ${found.type} now; the entity file was compiled for a column of kind ${compiled}.`,
        remedy: "Run npm run schema:types, correct what no longer compiles, npm run generate, and deploy.",
      }),
    ];
  });
}

const STAMP = "timestamp with time zone";

/** Both kinds of time stamp are one kind of value; but only one of them is a moment. */
function checkStamps(
  find: Find,
  { source: { table, modified, dated } }: Entity,
  { columns: present }: SourceCatalogTable,
): Finding[] {
  return [...new Set([modified, dated])].flatMap((column) => {
    const type = column === undefined ? undefined : present[column]?.type;
    if (column === undefined || type === undefined || type === STAMP) return [];
    return [
      find("source_stamp_type", {
        column,
        message: `${table}.${column} of the source is ${type}: changed rows are found by a ${STAMP} alone.`,
        remedy: "Remove modified or dated from the entity file, or alter the column's type.",
      }),
    ];
  });
}

function checkRights(
  find: Find,
  table: string,
  columns: ReadonlySet<string>,
  { columns: present, hidden }: SourceCatalogTable,
  role: string,
): Finding[] {
  const denied = [...columns].filter((column) => present[column]?.readable === false);
  const needed = [...(present["xmin"] ? ["xmin", "ctid"] : []), ...denied].map(ident);
  return [
    ...(denied.length === 0
      ? []
      : [
          find("source_not_readable", {
            message: `${role} may not read ${denied.join(", ")} of the source table ${table}.`,
            remedy: `On the source: grant usage on schema public to ${ident(role)}; grant select (${needed.join(", ")}) on public.${ident(table)} to ${ident(role)};`,
          }),
        ]),
    ...(hidden
      ? [
          find("source_rows_hidden", {
            message: `Row level security of the source table ${table} applies to ${role}: rows would be missing without an error.`,
            remedy: `On the source, as a superuser: alter role ${ident(role)} bypassrls;`,
          }),
        ]
      : []),
  ];
}

/** Captures that need no xmin run in spite of it: leaveOutUnfit knows which is asked for. */
function checkCapture(find: Find, name: string, table: SourceCatalogTable, role: string): Finding[] {
  const without = withoutXmin(name, table, role);
  if (!without) return [];
  return [
    find("capture_impossible", {
      message: `Which rows of public.${name} of the source were written cannot be told, so a run of what changed would miss them: ${without.why}.`,
      remedy: without.remedy,
    }),
  ];
}

function newColumns(find: Find, entity: Entity, read: ReadonlySet<string>, table: SourceCatalogTable): Finding[] {
  return Object.keys(table.columns)
    .filter((column) => column !== "xmin" && !read.has(column) && !Object.hasOwn(entity.source.ignored, column))
    .map((column) =>
      find("source_column_new", {
        column,
        message: `${entity.source.table}.${column} of the source is neither read nor ignored.`,
        remedy: `Read it in the entity file, or name it in ignored with a reason.`,
      }),
    );
}

/** New columns of tables that are only joined or watched: each once, for the first entity that reads its table. */
function newColumnsBeside(entities: readonly Entity[], catalog: SourceCatalog, { columns: all, denied }: KnownSource): Finding[] {
  return Object.entries(all.beside).flatMap(([name, columns]) => {
    const reader = entities.find((entity) => columnsRead(entity).has(name));
    if (!reader) return [];
    const known = new Set<string>(["xmin", ...namesIn(columns), ...everDenied(denied)]);
    return Object.keys(catalog.tables[name]?.columns ?? {})
      .filter((column) => !known.has(column))
      .map((column) =>
        findingsOn(reader.name, name)("source_column_new", {
          column,
          message: `${name}.${column} of the source is new, in a table that entities read beside their own.`,
          remedy: "Read it in an entity file if it belongs to a record; then npm run schema:types, npm run generate, and deploy.",
        }),
      );
  });
}
