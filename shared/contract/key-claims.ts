// What entities take for granted of the keys of source tables, and which of it the source itself does not keep true.
import { ident } from "../db/ident.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { SourceCatalog, SourceCatalogTable } from "../source/catalog.ts";
import { findingsOn, type Finding } from "./finding.ts";

/** A question that only the rows of a table answer: whether a column is null somewhere, or rows share these columns' values. */
export interface KeyQuestion {
  readonly entity: string;
  readonly table: string;
  readonly columns: readonly string[];
  readonly asks: "null" | "repeated";
  /** key: it identifies the table's rows. join: by these columns a record finds its row of the table. */
  readonly use: "key" | "join";
}

const INTEGERS = ["smallint", "integer", "bigint"];

interface Claim {
  readonly table: string;
  readonly columns: readonly string[];
  readonly use: "key" | "join";
}

/** Keys of other types: they do not fit into the legacy ids of the target. */
export function keyTypes(entity: Entity, catalog: SourceCatalog): Finding[] {
  return claimsOf(entity).flatMap(({ table, columns: [column = ""], use }) => {
    const type = catalog.tables[table]?.columns[column]?.type;
    // That a column is missing is told by its name.
    if (type === undefined || INTEGERS.includes(type) || use === "join") return [];
    return [
      findingsOn(entity.name, table)("source_key_type", {
        column,
        message: `${table}.${column} of the source is ${type}, and identifies rows of ${entity.name}: such a key has to be smallint, integer or bigint.`,
        remedy:
          type === "numeric"
            ? `On the source: alter table public.${ident(table)} alter column ${ident(column)} type bigint; (or name another unique column as the key).`
            : `Name another unique column as the key. Where there is none, on the source: alter table public.${ident(table)} add column sync_id bigint generated always as identity unique;`,
      }),
    ];
  });
}

/** Of what the entities claim, that which the catalog does not vouch for. */
export function keyQuestions(entities: readonly Entity[], catalog: SourceCatalog): KeyQuestion[] {
  return entities.flatMap((entity) =>
    claimsOf(entity).flatMap((claim) => {
      const table = catalog.tables[claim.table];
      if (!table || !claim.columns.every((column) => table.columns[column]?.readable === true)) return [];
      const question = { entity: entity.name, ...claim };
      return [
        ...(claim.use === "join" || isPresent(table, claim) ? [] : [{ ...question, asks: "null" as const }]),
        ...(isUnique(table, claim) ? [] : [{ ...question, asks: "repeated" as const }]),
      ];
    }),
  );
}

/** What the answer `yes` to a question means; undefined: it took too long. */
export function answered(question: KeyQuestion, yes: boolean | undefined): Finding[] {
  const { entity, table, columns, asks, use } = question;
  const find = findingsOn(entity, table);
  const column = columns.length === 1 ? (columns[0] ?? null) : null;
  const names = columns.map((name) => `${table}.${name}`).join(", ");
  const unique = `create unique index concurrently on public.${ident(table)} (${columns.map(ident).join(", ")});`;
  if (yes === undefined) {
    return [
      find("source_key_unproven", {
        column,
        message: `Nothing of the source keeps ${names} ${asks === "null" ? "from being null" : "unique"}, and asking its rows took too long.`,
        remedy: `On the source, where it is a table: ${asks === "null" ? `alter table public.${ident(table)} alter column ${columns.map(ident).join()} set not null;` : unique}`,
      }),
    ];
  }
  if (!yes) return [];
  if (asks === "null") {
    return [
      find("source_key_null", {
        column,
        message: `${names} of the source is null in some row, and identifies rows of ${entity}: such a row could not be found.`,
        remedy: `Correct these rows (select * from public.${ident(table)} where ${columns.map(ident).join()} is null), or name another column as the key.`,
      }),
    ];
  }
  const list = columns.map(ident).join(", ");
  const having = `select ${list} from public.${ident(table)} group by ${list} having count(*) > 1`;
  return [
    find("source_key_repeated", {
      column,
      message:
        use === "join"
          ? `Several rows of ${table} have the same ${columns.join(", ")}, by which ${entity} joins one row: a record would be read several times.`
          : `Several rows of ${table} have the same ${columns.join(", ")}, which identifies rows of ${entity}.`,
      remedy: `Correct these rows (${having}) and keep them so (${unique}), or ${use === "join" ? "join by other columns" : `name a unique column as the key (where there is none: alter table public.${ident(table)} add column sync_id bigint generated always as identity unique)`}.`,
    }),
  ];
}

/** Keys of the driving, joined and watched tables; and columns by which a joined table has at most one row per record. */
function claimsOf({ source: { table, key, joins, watches } }: Entity): Claim[] {
  const claims: Claim[] = [
    { table, columns: [key], use: "key" },
    ...Object.values({ ...joins, ...watches }).map((step): Claim => ({
      table: step.table,
      columns: [step.key ?? "id"],
      use: "key",
    })),
    ...Object.values(joins).map((join): Claim => ({ table: join.table, columns: Object.keys(join.on).sort(), use: "join" })),
  ];
  // What a table is joined by may be its key as well: then it has to be all that a key is.
  return [...new Map(claims.toReversed().map((claim) => [JSON.stringify([claim.table, claim.columns]), claim])).values()];
}

function isPresent({ kept }: SourceCatalogTable, { columns }: Claim): boolean {
  return columns.every((column) => kept.notNull.includes(column));
}

/** Columns that contain unique ones are unique. */
function isUnique({ kept }: SourceCatalogTable, { columns }: Claim): boolean {
  return kept.unique.some((unique) => unique.every((column) => columns.includes(column)));
}
