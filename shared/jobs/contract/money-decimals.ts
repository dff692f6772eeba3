import { ident } from "../../db/ident.ts";
import { columnsRead } from "../../entities/columns-read.ts";
import type { Entity } from "../../entities/define-entity.ts";
import type { SourceCatalog } from "../../sql/source-catalog.ts";
import type { TargetCatalog } from "../../sql/target-catalog.ts";
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
  /** money, or an array of it. */
  readonly type: string;
}

/** The columns of a side that hold amounts of the type money, and of which entities read or fill them. */
export function moneyColumns(entities: readonly Entity[], catalogs: Catalogs, side: Side): MoneyColumn[] {
  return entities.flatMap((entity) => {
    const named =
      side === "source"
        ? [...columnsRead(entity)].map(([table, columns]) => [table, [...columns]] as const)
        : [[entity.target.table, Object.keys(entity.fields)] as const];
    return named.flatMap(([table, columns]) =>
      columns
        .map((column) => ({
          entity: entity.name,
          table,
          column,
          type: catalogs[side].tables[table]?.columns[column]?.type ?? "",
        }))
        .filter(({ type }) => /^money(\[\])*$/.test(type)),
    );
  });
}

/**
 * Columns of money whose amounts mean something else under a locale of the server's own than in our sessions: the type keeps a number of
 * the smallest unit alone. `scales`: each locale, with how many units are 1 under it; undefined where the server has no such locale.
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
        remedy: `Have the column hold numeric, converted in a session with lc_monetary = ${locale}: alter table public.${ident(table)} alter column ${ident(column)} type ${type.replace("money", "numeric")}; or leave the column out of the entity file.`,
      });
    }),
  );
}

function decimals(scale: number): string {
  const places = Math.round(Math.log10(scale));
  return places === 0 ? "no decimals" : `${places} decimals`;
}
