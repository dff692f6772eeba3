import type { Sql } from "postgres";
import type { Entity } from "../../shared/entity/define-entity.ts";
import { denied } from "../../clinic/denied.ts";
import { everDenied } from "../../shared/entity/denied.ts";
import { sensitiveColumns } from "../../shared/entity/sensitive.ts";

/** Stands in every text that nobody may see, and in nothing else. */
export const MARK = "҂";
/** The month of every date that nobody may see. */
export const MONTH = "2093-04-";

/** Whether something that was said or written shows a planted value. */
export function showsMarker(text: string): boolean {
  return text.includes(MARK) || text.includes(MONTH) || /\\u0482/i.test(text);
}

/** Stands in every text that never leaves the source, and in nothing else. */
export const SECRET = "§";

/** Plants a secret in every denied column of every row of the source. Returns the columns, `table.column`. */
export async function plantSecrets(source: Sql): Promise<string[]> {
  const columns = await source<{ table: string; name: string; length: number | null }[]>`
    select table_name as table, column_name as name, character_maximum_length as length from information_schema.columns
     where table_schema = 'public' and column_name = any (${everDenied(denied)}) order by 1, 2`;
  for (const { table, name, length } of columns)
    await source`update public.${source(table)} set ${source(name)} = left(${SECRET} || ${name} || ctid::text, ${length ?? 1_000})`;
  return columns.map(({ table, name }) => `${table}.${name}`);
}

interface PlantedColumn {
  readonly table: string;
  readonly name: string;
  readonly expression: string;
  /** Leads from a record's legacy id, $1, to the row. */
  readonly row: string;
}

/** The source columns behind an entity's sensitive fields, with an SQL expression of a value that nobody may see. The word is a letter. */
export async function plantedColumns(source: Sql, entity: Entity, word: string): Promise<PlantedColumn[]> {
  const { table, key, alias, joins, columns } = entity.source;
  const json = new Set(
    Object.values(entity.fields).flatMap((field) =>
      field.kind === "json_extraction" && field.columns.length === 1 ? field.columns : [],
    ),
  );
  const planted: PlantedColumn[] = [];
  for (const column of sensitiveColumns(entity)) {
    const origin = columns[column];
    if (typeof origin !== "string") throw new Error(`${entity.name}.${column} is an expression: plant its value by hand`);
    const [from = "", name = ""] = origin.split(".");
    const join = joins[from];
    const [link, reference] = Object.entries(join?.on ?? {})[0] ?? [];
    const [type] = await source<{ type: string; length: number | null }[]>`
      select data_type as type, character_maximum_length as length from information_schema.columns
       where table_schema = 'public' and table_name = ${join?.table ?? table} and column_name = ${name}`;
    // A number or a flag is hidden too, but none can be told from any other.
    if (type?.type === "integer" || type?.type === "boolean") continue;
    const text = `left('${MARK}${word}' || id || ' ${name}', ${type?.length ?? 1_000})`;
    planted.push({
      table: join?.table ?? table,
      name,
      expression:
        type?.type === "date"
          ? `date '${MONTH}01' + (id % 28)::integer`
          : json.has(column)
            ? `case id % 2 when 0 then '{"note": "${MARK} ${word}"}' else ${text} end`
            : text,
      row:
        join === undefined
          ? `"${key}" = $1`
          : `"${link ?? ""}" = (select ${reference ?? ""} from public."${table}" ${alias} where ${alias}."${key}" = $1)`,
    });
  }
  return planted;
}

/** Writes a value that nobody may see into the columns of every row. */
export async function plantEverywhere(source: Sql, columns: readonly PlantedColumn[]): Promise<void> {
  for (const { table, name, expression } of columns)
    await source.unsafe(`update public."${table}" set "${name}" = ${expression}`);
}

/** Changes the values of one record. */
export async function plantIn(source: Sql, columns: readonly PlantedColumn[], legacyId: string): Promise<void> {
  for (const { table, name, expression, row } of columns)
    await source.unsafe(`update public."${table}" set "${name}" = ${expression} where ${row}`, [legacyId]);
}

/** Somebody edits the sensitive columns of a landed record. */
export async function editTarget(target: Sql, entity: Entity, legacyId: string): Promise<void> {
  for (const [column, { sensitive }] of Object.entries(entity.fields)) {
    if (!sensitive) continue;
    const [type] = await target<{ type: string }[]>`
      select data_type as type from information_schema.columns
       where table_schema = 'public' and table_name = ${entity.target.table} and column_name = ${column}`;
    const value = { date: `${MONTH}30`, jsonb: `{"edited": "${MARK}"}` }[type?.type ?? ""] ?? `${MARK} edited ${legacyId}`;
    await target.unsafe(`update public."${entity.target.table}" set "${column}" = $1 where "${entity.target.legacyKey}" = $2`, [
      value,
      legacyId,
    ]);
  }
}
