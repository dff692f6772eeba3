// Which source columns are sensitive: those of which a sensitive field says that they are not to be shown.
import { columnsOf, sqlOf } from "./consumed-joins.ts";
import type { Entity } from "./define-entity.ts";

/** What is shown instead of a sensitive value. */
export const MASK = "•••";

/** Columns of the projection that are a sensitive field by themselves, or that nothing but sensitive fields reads; never the key. */
export function sensitiveColumns({ fields, source }: Entity): ReadonlySet<string> {
  const all = Object.values(fields);
  const shown = new Set(all.filter((field) => !field.sensitive).flatMap((field) => field.columns));
  const hidden = all
    .filter((field) => field.sensitive)
    .flatMap(({ columns }) => (columns.length === 1 ? columns : columns.filter((column) => !shown.has(column))));
  return new Set(hidden.filter((column) => source.columns[column] !== `${source.alias}.${source.key}`));
}

/**
 * Fields that show what another one hides: they read a source column that is sensitive there.
 * @returns one sentence per problem, each naming its entity.
 */
export function exposedColumns(entities: readonly Entity[]): string[] {
  const hidden = new Map<string, string>();
  for (const entity of entities) {
    for (const column of sensitiveColumns(entity))
      for (const origin of originsOf(entity, column)) hidden.set(origin, `${entity.name} (${column})`);
  }
  return entities.flatMap((entity) =>
    Object.entries(entity.fields).flatMap(([name, { sensitive, columns }]) => {
      const shown = sensitive ? undefined : columns.flatMap((column) => originsOf(entity, column)).find((one) => hidden.has(one));
      return shown === undefined
        ? []
        : [
            `${entity.name}: field ${name} reads ${shown}, which is sensitive in ${hidden.get(shown) ?? ""}: mark it sensitive too.`,
          ];
    }),
  );
}

/** The `table.column` of the source behind a column of the projection: several behind an expression. */
function originsOf({ source }: Entity, column: string): string[] {
  const definition = source.columns[column];
  const text = definition === undefined ? "" : sqlOf(definition);
  const tables = { [source.alias]: source, ...source.joins, ...source.watches };
  return Object.entries(tables).flatMap(([alias, { table }]) => columnsOf(alias, text).map((name) => `${table}.${name}`));
}
