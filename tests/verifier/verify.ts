import postgres, { type Sql } from "postgres";
import { catalogue } from "./catalogue.ts";
import { communication } from "./communication.ts";
import { orders } from "./orders.ts";
import { people } from "./people.ts";
import type { Recomputed } from "./recompute.ts";

export const recomputed: readonly Recomputed[] = [...people, ...catalogue, ...orders, ...communication];

export interface Verdict {
  readonly entity: string;
  /** Records that were compared, and those that were not, because they wait or are in the queue. */
  readonly compared: number;
  readonly held: number;
  /** Legacy ids that differ, with the columns that do; a record that only one side has differs in `row`. */
  readonly differences: readonly { readonly id: string; readonly columns: readonly string[] }[];
}

/** Ids of neighbours are summed up together, and only sums that differ are looked into. */
const BUCKET = 4_096;
/** How many differing records are named at most. */
const NAMED = 20;

/** A session in which both servers print values alike. */
export function pinnedSession(url: string): Sql {
  return postgres(url, {
    max: 1,
    onnotice: () => undefined,
    connection: { TimeZone: "UTC", DateStyle: "ISO, YMD", extra_float_digits: "1" },
  });
}

/** Compares every column of every record of an entity on both sides, by sums of hashes first. */
export async function verify(source: Sql, target: Sql, definition: Recomputed): Promise<Verdict> {
  const held = await target<{ id: string }[]>`
    select source_record_id::text as id from public.sync_conflicts
     where entity_type = ${definition.entity} and state in ('waiting', 'open')`;
  const without = `{${held.map(({ id }) => id).join(",")}}`;
  const [there, here] = await Promise.all([
    sums(source, sourceSql(definition), without),
    sums(target, targetSql(definition), without),
  ]);
  const suspects = [...new Set([...there.keys(), ...here.keys()])].filter(
    (bucket) => there.get(bucket)?.sum !== here.get(bucket)?.sum,
  );
  const differences: { id: string; columns: string[] }[] = [];
  for (const bucket of suspects) {
    if (differences.length >= NAMED) break;
    const [expected, actual] = await Promise.all([
      records(source, sourceSql(definition), without, bucket),
      records(target, targetSql(definition, definition.unlessSaid), without, bucket),
    ]);
    for (const id of new Set([...expected.keys(), ...actual.keys()])) {
      const columns = differing(expected.get(id), actual.get(id), definition);
      if (columns.length > 0) differences.push({ id, columns });
    }
  }
  const compared = [...there.values()].reduce((all, { n }) => all + n, 0);
  return { entity: definition.entity, compared, held: held.length, differences };
}

type Values = Readonly<Record<string, string | null>>;

function differing(expected: Values | undefined, actual: Values | undefined, definition: Recomputed): string[] {
  if (!expected || !actual) return !expected && definition.keepsAbsent === true ? [] : ["row"];
  const must = (column: string) =>
    definition.unlessSaid?.[column] === undefined ? expected[column] : (expected[column] ?? actual[unlessSaid(column)]);
  return Object.keys(definition.columns).filter((column) => must(column) !== actual[column]);
}

/** One row per record: its id, and every column as text under its target name. */
export function sourceSql({ source, columns }: Recomputed): string {
  const list = Object.entries(columns).map(([name, [expression]]) => `(${expression})::text as "${name}"`);
  return `select ${[`${source.id}::bigint as id`, ...list].join(", ")} from ${source.from} where ${source.where ?? "true"}`;
}

export function targetSql({ target, columns }: Recomputed, otherwise: Recomputed["unlessSaid"] = {}): string {
  const list = [
    ...Object.entries(columns).map(([name, [, expression]]) => `(${expression ?? `t."${name}"`})::text as "${name}"`),
    ...Object.entries(otherwise).map(([name, expression]) => `(${expression})::text as "${unlessSaid(name)}"`),
  ];
  return `select ${[`${target.id} as id`, ...list].join(", ")} from ${target.from} where ${target.id} is not null`;
}

/** The column in which the target says what another must be where the source says nothing. */
function unlessSaid(column: string): string {
  return `${column} unless said`;
}

async function sums(sql: Sql, rows: string, without: string): Promise<Map<string, { n: number; sum: string }>> {
  const found = await sql.unsafe<{ bucket: string; n: number; sum: string }[]>(
    `select (id / ${BUCKET})::text as bucket, count(*)::integer as n, sum(hashtextextended(r::text, 0)::numeric)::text as sum
       from (${rows}) r where not exists (select from unnest($1::text::bigint[]) x where x = r.id) group by 1`,
    [without],
  );
  return new Map(found.map(({ bucket, ...rest }) => [bucket, rest]));
}

async function records(sql: Sql, rows: string, without: string, bucket: string): Promise<Map<string, Values>> {
  const found = await sql.unsafe<(Values & { id: string })[]>(
    `select r.* from (${rows}) r where id / ${BUCKET} = $2::text::bigint
       and not exists (select from unnest($1::text::bigint[]) x where x = r.id)`,
    [without, bucket],
  );
  return new Map(found.map((row) => [row.id, row]));
}
