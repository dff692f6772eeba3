import type { Sql } from "postgres";
import type { Finding } from "./finding.ts";
import { ident, keyOf, quote, tableOf, type Recomputed } from "./recompute.ts";

/** A column of a target table as the catalog has it. */
export interface Column {
  readonly name: string;
  /** The number that no other column of the table ever gets. */
  readonly number: number;
  /** The exact type, with its modifier. */
  readonly type: string;
  /** The same type without a modifier, which holds everything that the type can say. */
  readonly base: string;
  /** How two of its values are compared, with the schema of the operator; null: not at all. */
  readonly equals: string | null;
  /** What the target computes it from. */
  readonly expression: string | null;
}

export interface Table {
  readonly columns: readonly Column[];
  /** Triggers for each row and rules that may change or cancel what is inserted or updated. */
  readonly triggers: readonly string[];
}

/** Entity → what its table was when somebody looked: of what has changed since the verifier tells. */
export type Shapes = ReadonlyMap<string, Shape>;
interface Shape {
  readonly columns: readonly (Pick<Column, "name" | "number"> & { readonly type: string | null })[];
}

/**
 * The columns that entities fill, as they were when the sync last compared all rows. It is the one of the sync's
 * notes that the verifier goes by. A table that has been replaced by another one since has columns of other numbers:
 * 0 stands for the number in a table that is gone.
 */
export async function rememberedShapes(target: Sql): Promise<Shapes> {
  const rows = await target<{ entity: string; columns: Shape["columns"] }[]>`
    select e.entity_type as entity, jsonb_agg(jsonb_build_object('name', c.key, 'number', coalesce((c.value ->> ('number ' || r.id))::integer, 0), 'type',
             format_type(split_part(t.identity, '/', 1)::oid, split_part(t.identity, '/', 2)::integer))) as columns
      from public.sync_entity_shapes h join public.sync_entities e on e.id = h.entity_id
      cross join lateral (select to_regclass(format('public.%I', e.target_table))::oid as id) r
      cross join lateral jsonb_each(h.target_compared -> 'columns') c
      cross join lateral (select c.value ->> ('type ' || r.id) as identity) t
     group by e.entity_type`;
  return new Map(rows.map(({ entity, columns }) => [entity, { columns }]));
}

export async function shapesOf(target: Sql, definitions: readonly Recomputed[]): Promise<Shapes> {
  const shapes = new Map<string, Table>();
  for (const definition of definitions) shapes.set(definition.entity, await tableIn(target, definition));
  return shapes;
}

export async function tableIn(target: Sql, definition: Recomputed): Promise<Table> {
  const table = tableOf(definition);
  const columns = await target<Column[]>`
    select a.attname as name, a.attnum as number, format_type(a.atttypid, a.atttypmod) as type, format_type(a.atttypid, -1) as base,
           case when o.schema is not null then format('operator(%I.=)', o.schema)
                when t.typtype in ('e', 'r', 'm', 'c') or t.typelem <> 0 and t.typlen = -1 or t.typname = 'varchar' then 'operator(pg_catalog.=)' end as equals,
           case when a.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) end as expression
      from pg_attribute a join pg_type t on t.oid = a.atttypid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      left join lateral (select n.nspname as schema from pg_operator p join pg_namespace n on n.oid = p.oprnamespace
                          where p.oprname = '=' and p.oprleft = coalesce(nullif(t.typbasetype, 0), t.oid) and p.oprright = p.oprleft limit 1) o on true
     where a.attrelid = to_regclass(${table}) and a.attnum > 0 and not a.attisdropped order by a.attnum`;
  const triggers = await target<{ name: string }[]>`
    select tgname::text as name from pg_trigger
     where tgrelid = to_regclass(${table}) and not tgisinternal and tgenabled in ('O', 'A') and tgtype & 1 = 1 and tgtype & 20 <> 0
    union select rulename::text from pg_rewrite where ev_class = to_regclass(${table}) and ev_type in ('2', '3') and ev_enabled in ('O', 'A') order by 1`;
  return { columns: [...columns], triggers: triggers.map(({ name }) => name) };
}

/** Columns of which the catalog says something else than the definition, or than it said before. */
export function columnFindings(definition: Recomputed, now: Table, before: Shape | undefined): Finding[] {
  const found = new Map(now.columns.map((column) => [column.name, column]));
  const { columns, application = [], generated = [] } = definition;
  const compared = Object.keys(columns);
  const needed = ["id", keyOf(definition), ...compared, ...application, ...generated];
  const known = [...needed, "created_at", "updated_at"];
  const findings: Finding[] = [];
  const find = (kind: Finding["kind"], column: string) => findings.push({ kind, column });
  for (const name of needed) if (!found.has(name)) find("column_missing", name);
  for (const { name, expression } of now.columns) {
    if (!known.includes(name)) find("column_unknown", name);
    else if ((expression !== null && compared.includes(name)) || (expression === null && generated.includes(name)))
      find("column_generated", name);
  }
  for (const { name, number, type } of before?.columns ?? []) {
    const column = found.get(name);
    if (column && type !== null && column.type !== type) find("column_retyped", name);
    if (column && column.number !== number) find("column_replaced", name);
  }
  return findings;
}

/** Rows whose generated columns hold something else than their expressions say now. */
export async function generatedFindings(target: Sql, definition: Recomputed, { columns }: Table): Promise<Finding[]> {
  const computed = columns.filter(({ expression }) => expression !== null);
  if (computed.length === 0) return [];
  // The expression names columns without a table: in a query of its own nothing else is called so.
  const checks = computed.map(
    ({ name, expression }, n) => `(${n}, ${quote(name)}, (${expression ?? ""}) is distinct from ${ident(name)})`,
  );
  const rows = await target.unsafe<{ id: string; column: string }[]>(
    `select r.id::text as id, r."column" from (
       select ${ident(keyOf(definition))} as id, f.name as "column"
         from ${tableOf(definition)} cross join lateral (values ${checks.join(", ")}) f (n, name, wrong) where f.wrong) r
      order by r.id, r."column"`,
  );
  return rows.map(({ id, column }) => ({ kind: "generated", id, column }));
}
