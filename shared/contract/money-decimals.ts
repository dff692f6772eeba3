import { ident } from "../db/ident.ts";
import { columnsRead } from "../entity/columns-read.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { SourceCatalog } from "../source/catalog.ts";
import type { TargetCatalog } from "../target/catalog.ts";
import { findingsOn, type Finding } from "./finding.ts";

/** Sessions of ours read and write money under the locale C, in which amounts have two decimals. */
const PINNED_SCALE = 100;

interface Catalogs {
  readonly source: SourceCatalog;
  readonly target: TargetCatalog;
}
type Side = keyof Catalogs;
interface MoneyColumn {
  readonly entity: string;
  readonly table: string;
  readonly column: string;
  /** What stands behind its domains: money, an array of it, or a type that has it within. */
  readonly type: string;
}

/** The columns of a side that hold amounts of the type money, alone or within other values, and of which entities read or fill them. */
export function moneyColumns(entities: readonly Entity[], catalogs: Catalogs, side: Side): MoneyColumn[] {
  return entities.flatMap((entity) => {
    const named =
      side === "source"
        ? [...columnsRead(entity)].map(([table, columns]) => [table, [...columns]] as const)
        : [[entity.target.table, Object.keys(entity.fields)] as const];
    return named.flatMap(([table, columns]) =>
      columns.flatMap((column) => {
        const found = catalogs[side].tables[table]?.columns[column];
        return found?.money === true ? [{ entity: entity.name, table, column, type: found.type }] : [];
      }),
    );
  });
}

/**
 * Columns of money whose amounts mean something else under a locale of the server's own than in our sessions: the
 * type keeps a number of the smallest unit alone. `scales`: each locale, with how many units are 1 under it;
 * undefined where the server has no such locale.
 */
export function moneyFindings(
  columns: readonly MoneyColumn[],
  side: Side,
  scales: ReadonlyMap<string, number | undefined>,
): Finding[] {
  const others = [...scales].filter(([, scale]) => scale !== PINNED_SCALE);
  return columns.flatMap(({ entity, table, column, type }) =>
    others.map(([locale, scale]) => {
      if (scale === undefined) {
        return findingsOn(entity, table)("money_decimals", {
          column,
          message: `${table}.${column} of the ${side} is money, and its server does not have the locale that it names as lc_monetary, ${locale}: how many decimals its amounts have nobody knows.`,
          remedy: `Install the locale on the server; or alter the role or the database that names it: reset lc_monetary.`,
        });
      }
      return findingsOn(entity, table)("money_decimals", {
        column,
        message: `${table}.${column} of the ${side} is money, and lc_monetary = ${locale} of the ${side} gives amounts ${decimals(scale)}, where the sync ${side === "source" ? "reads" : "writes"} two: each would be another amount.`,
        remedy: `${/^money(\[\])*$/.test(type) ? `Have the column hold numeric, converted in a session with lc_monetary = ${locale}: alter table public.${ident(table)} alter column ${ident(column)} type ${type.replace("money", "numeric")}` : `Have the column hold a type with numeric in place of money, converted in a session with lc_monetary = ${locale}`}; or leave the column out of the entity file.`,
      });
    }),
  );
}

/** The same columns, where a setting of the sync's own role hides which lc_monetary of the server the other roles have. */
export function hiddenFindings(columns: readonly MoneyColumn[], side: Side, role: string): Finding[] {
  return columns.map(({ entity, table, column }) =>
    findingsOn(entity, table)("money_locale_hidden", {
      column,
      message: `${table}.${column} of the ${side} holds money, and ${role} has an lc_monetary of its own: which one the server gives to other roles, and how many decimals their amounts have, cannot be told.`,
      remedy: `On the ${side}: alter role ${ident(role)} reset lc_monetary, also in the database (alter role ... in database ... reset lc_monetary). The sync sets its own in each transaction.`,
    }),
  );
}

function decimals(scale: number): string {
  const places = Math.round(Math.log10(scale));
  return places === 0 ? "no decimals" : `${places} decimals`;
}
