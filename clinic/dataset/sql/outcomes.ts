import type postgres from "postgres";
import { ACCESS, CATALOGUE } from "./catalogue.ts";
import { ORDERS } from "./orders.ts";
import { PEOPLE } from "./people.ts";
import type { Projection } from "./projection.ts";
import { FILES, LOGS, MESSAGES, PLANS } from "./work.ts";

/** Every entity, parents first. */
export const PROJECTIONS: readonly Projection[] = [
  ...PEOPLE,
  ...ACCESS,
  ...CATALOGUE,
  ...ORDERS,
  ...PLANS,
  ...MESSAGES,
  ...FILES,
  ...LOGS,
];

/**
 * Makes a schema in the legacy database with a table for each entity: of each record whether it lands, why not (field,
 * parent, parent_id), and a hash of all that its target row is made of. Records that landed according to the schema
 * `earlier` are there for their children, whatever has become of them since.
 */
export async function createOutcomes(sql: postgres.ISql, schema: string, earlier?: string): Promise<void> {
  await sql.unsafe(`drop schema if exists ${schema} cascade; create schema ${schema}`).simple();
  const landedBefore = (entity: string) =>
    earlier === undefined ? "(select null::bigint where false)" : `(select id from ${earlier}."${entity}" where lands)`;
  for (const { entity, records, parents } of PROJECTIONS) {
    const query = typeof records === "string" ? records : records(landedBefore);
    const there = (parent: string, index: number) =>
      [schema, ...(earlier === undefined ? [] : [earlier])]
        .map((name) => `exists (select from ${name}."${parent}" p where p.id = r.refs[${index + 1}] and p.lands)`)
        .join(" or ");
    const missing = parents.map(
      ([field, parent], index) =>
        `when r.refs[${index + 1}] is not null and not (${there(parent, index)})
           then array['${field}', '${parent}', r.refs[${index + 1}]::text]`,
    );
    const waits = missing.length > 0 ? `case when r.field is not null then null ${missing.join(" ")} end` : "null::text[]";
    await sql.unsafe(`
      create unlogged table ${schema}."${entity}" as
      select id, coalesce(waits[1], field) as field, waits[2] as parent, waits[3]::bigint as parent_id,
             field is null and waits is null and passes as lands, md5(refs::text || v)::uuid as hash
        from (select r.*, ${waits} as waits from (${query}) r) x;
      alter table ${schema}."${entity}" add primary key (id);
      analyze ${schema}."${entity}"`);
  }
}
