import type { Sql } from "postgres";
import type { Column, Table } from "./catalog.ts";
import type { Finding, Kind } from "./finding.ts";
import { ident, quote, type Recomputed } from "./recompute.ts";

/** Ids of neighbours are summed up together, and only sums that differ are looked into. */
const BUCKET = 4_096;

/** A difference of both sides, and whether a person has edited the target: the row was written after the sync, and the source says what it said. */
export interface Difference extends Finding {
  readonly id: string;
  readonly edited: boolean;
  /** Whether the row still holds what the sync left there. */
  readonly asLeft: boolean;
}

/** One row per source record: its id, and every column by its target name. */
export function sourceSql({ source, columns }: Recomputed, as = ""): string {
  const list = Object.entries(columns).map(([name, [expression]]) => `(${expression})${as} as ${ident(name)}`);
  return `select ${[`(${source.id})::bigint as id`, ...list].join(", ")} from ${source.from} where ${source.where ?? "true"}`;
}

/** One row per target row of a record. Columns that the table does not have are left out: the catalog has been told of. */
export function targetSql(definition: Recomputed, { columns: there }: Table): string {
  const list = comparable(definition, there).map((name) => `${readSql(definition, name)} as ${ident(name)}`);
  const { target } = definition;
  return `select ${[`(${target.id})::bigint as id`, ...list].join(", ")} from ${target.from} where ${target.id} is not null`;
}

/** Columns that both sides have. */
export function comparable({ columns }: Recomputed, there: readonly Column[]): string[] {
  return Object.keys(columns).filter((name) => there.some((column) => column.name === name));
}

const readSql = ({ columns }: Recomputed, name: string) => `(${columns[name]?.[1] ?? `t.${ident(name)}`})`;

/** How many records the source has, and the buckets of neighbouring ids in which the sides differ. Records of the queue are left out. */
export async function differingBuckets(
  source: Sql,
  target: Sql,
  definition: Recomputed,
  table: Table,
  queued: readonly string[],
): Promise<{ records: number; buckets: string[] }> {
  const names = comparable(definition, table.columns);
  const [there, here] = await Promise.all([
    sums(source, sourceSql(definition), names, queued),
    sums(target, targetSql(definition, table), names, queued),
  ]);
  const buckets = [...new Set([...there.keys(), ...here.keys()])];
  return {
    records: [...there.values()].reduce((all, { n }) => all + n, 0),
    buckets: buckets.filter((bucket) => there.get(bucket)?.sum !== here.get(bucket)?.sum),
  };
}

/** Rows are summed up as the types print them, so that blanks, digits and letters count. */
async function sums(sql: Sql, rows: string, names: readonly string[], without: readonly string[]) {
  const list = ["r.id", ...names.map((name) => `r.${ident(name)}`)].join(", ");
  const found = await sql.unsafe<{ bucket: string; n: number; sum: string }[]>(
    `select (id / ${BUCKET})::text as bucket, count(*)::integer as n, sum(hashtextextended(row(${list})::text, 0)::numeric)::text as sum
       from (${rows}) r where not exists (select from unnest($1::text::bigint[]) x where x = r.id) group by 1`,
    [`{${without.join(",")}}`],
  );
  return new Map(found.map(({ bucket, ...rest }) => [bucket, rest]));
}

type Expected = Readonly<Record<string, string | null>>;

/** Differences of the records of a bucket, or of these ids. */
export async function differencesOf(
  source: Sql,
  target: Sql,
  definition: Recomputed,
  table: Table,
  which: { readonly bucket: string } | { readonly ids: readonly string[] },
): Promise<Difference[]> {
  const chosen =
    "bucket" in which
      ? `id / ${BUCKET} = ${quote(which.bucket)}::bigint`
      : `id = any (${quote(`{${which.ids.join(",")}}`)}::bigint[])`;
  const expected = await source.unsafe<Expected[]>(`select r.* from (${sourceSql(definition, "::text")}) r where r.${chosen}`);
  const rows = await target.unsafe<{ id: string; column: string; kind: Kind; edited: boolean; as_left: boolean }[]>(
    comparisonSql(definition, table, chosen),
    [JSON.stringify(expected)],
  );
  return rows.map(({ id, column, kind, edited, as_left: asLeft }) =>
    column === "" ? { kind, id, edited, asLeft } : { kind, id, column, edited, asLeft },
  );
}

/**
 * Compares what the source says, in the target's exact types, with the rows. The rows of a record that has several:
 * the one that its mapping names. What a person has edited is judged from what the sync remembers of the record.
 */
function comparisonSql(definition: Recomputed, { columns }: Table, chosen: string): string {
  const { entity, target } = definition;
  const names = comparable(definition, columns);
  const here = names.map(
    (name, n) => `${readSql(definition, name)} as c${n}, t.${ident(name)} as j${n}, ${otherwiseSql(definition, name)} as o${n}`,
  );
  const fields = names.map((name, n) => {
    const column = columns.find((one) => one.name === name);
    if (!column) throw new Error(`${name} is no column of ${entity}`);
    const x = `coalesce(e.x${n}, a.o${n})`;
    // A reference is compared by the legacy ids of both ends.
    const translated = definition.columns[name]?.[1] !== undefined;
    const kind = translated ? `case when ${x} is distinct from a.c${n}::text then 'value' end` : kindSql(x, `a.c${n}`, column);
    const asSeen = translated ? "true" : isSaidSql(typedSql(x, column), `a.seen -> ${quote(name)}`, column);
    return `(${quote(name)}, ${kind}, coalesce(${asSeen}, true), coalesce(${isSaidSql(`a.j${n}`, `a."left" -> ${quote(name)}`, column)}, not a.touched))`;
  });
  return `
    with e as (
      select (r ->> 'id')::bigint as id${names.map((name, n) => `, r ->> ${quote(name)} as x${n}`).join("")} from jsonb_array_elements($1::text::jsonb) r
    ), n as (
      select id, source_id from public.sync_entities where entity_type = ${quote(entity)}
    ), a as (
      select distinct on (r.id) r.*, s.seen, s."left", s.legacy_id is not null and r.writer is distinct from s.written_by as touched
        from (select (${target.id})::bigint as id, t.id as uuid, t.xmin as writer${here.map((one) => `, ${one}`).join("")}
                from ${target.from} where ${target.id} is not null) r
        left join n on true
        left join public.uuid_mappings_enhanced m on m.source_id = n.source_id and m.entity_type = ${quote(entity)} and m.legacy_id = r.id
        left join public.sync_row_states s on s.entity_id = n.id and s.legacy_id = r.id
       where r.${chosen}
       order by r.id, (m.entity_uuid = r.uuid) desc nulls last, r.uuid
    )
    select coalesce(e.id, a.id)::text as id, '' as "column", case when a.id is null then 'row_missing' else 'row_surplus' end as kind, false as edited, false as as_left
      from e full join a on a.id = e.id where e.id is null or a.id is null
    union all
    select e.id::text, f.name, f.kind, f.as_seen and a.touched and not f.as_left, f.as_left
      from e join a on a.id = e.id cross join lateral (values ${["('', null, true, true)", ...fields].join(", ")}) f (name, kind, as_seen, as_left)
     where f.kind is not null
     order by 1, 2`;
}

/** Whether a value is what a row state says; some types are kept there as text, and of JSON the null and the texts that read like it otherwise. */
export function isSaidSql(value: string, said: string, { base }: Pick<Column, "base">): string {
  if (base !== "json" && base !== "jsonb")
    return `(${said}) in (coalesce(to_jsonb(${value}), 'null'), coalesce(to_jsonb((${value})::text), 'null'))`;
  const json = `(${value})::jsonb`;
  return `(${said}) = case when (${value}) is null then 'null' when ${json} = 'null' then '"null"'
    when ${json}::text ~ '^"''*null"$' then ('"''' || substr(${json}::text, 2))::jsonb else ${json} end`;
}

/** What a value must be where the source says nothing: what the target says of it elsewhere. */
function otherwiseSql({ unlessSaid }: Recomputed, name: string): string {
  const said = unlessSaid?.[name];
  return said === undefined ? "null::text" : `(${said})::text`;
}

/** A text in a column's exact type; null where it is none of the type. */
function typedSql(x: string, { type }: Column): string {
  return `case when pg_input_is_valid(${x}, ${quote(type)}) then (${x})::${type} end`;
}

/** Which kind of difference a text and a value of a column are: in the exact type, by value and as it is printed. */
function kindSql(x: string, actual: string, column: Column): string {
  const { type, base, equals } = column;
  const typed = typedSql(x, column);
  const held = type === base || equals === null ? "true" : `(${typed}) ${equals} (${x})::${base}`;
  const equal = equals === null ? "false" : `(${typed}) ${equals} ${actual}`;
  return `case when (${x}) is null and ${actual} is null then null
               when (${x}) is null or ${actual} is null then 'value'
               when not pg_input_is_valid(${x}, ${quote(type)}) then 'inexact'
               when format('%s', ${typed}) = format('%s', ${actual}) then case when not (${held}) then 'inexact' end
               when ${equal} then 'form' else 'value' end`;
}
