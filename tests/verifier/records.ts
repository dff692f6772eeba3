import type { Sql } from "postgres";
import type { Table } from "./catalog.ts";
import type { Finding, Kind } from "./finding.ts";
import { ident, quote, tableOf, type Recomputed } from "./recompute.ts";
import { comparable, isSaidSql } from "./values.ts";

/** What mappings, row states and rows say of each other, each of them asked for what the others do not have. */
export async function recordFindings(target: Sql, definition: Recomputed): Promise<Finding[]> {
  const { entity, target: side } = definition;
  const rows = await target.unsafe<{ kind: Kind; id: string }[]>(`
    with e as materialized (select id, source_id from public.sync_entities where entity_type = ${quote(entity)}
    ), m as materialized (
      select m.legacy_id, m.entity_uuid as uuid, m.sync_status = 'deleted' as deleted
        from public.uuid_mappings_enhanced m join e on e.source_id = m.source_id where m.entity_type = ${quote(entity)}
    ), s as materialized (
      select s.legacy_id from public.sync_row_states s join e on e.id = s.entity_id
    ), r as materialized (
      select t.id as uuid, (${side.id})::bigint as legacy_id from ${tableOf(definition)} t
    ), said as (
      select case when m.deleted then case when r.uuid is not null then 'tombstone_with_row' end
                  when r.uuid is null then 'mapping_without_row'
                  when r.legacy_id is distinct from m.legacy_id then 'mapping_elsewhere' end as kind, m.legacy_id
        from m left join r on r.uuid = m.uuid
      union all
      select case when m.legacy_id is null then 'row_without_mapping'
                  when m.deleted then 'tombstone_with_row'
                  when not exists (select from r o where o.uuid = m.uuid and o.legacy_id = m.legacy_id) then 'mapping_elsewhere'
                  else 'row_twice' end, r.legacy_id
        from r left join m on m.legacy_id = r.legacy_id
       where r.legacy_id is not null and m.uuid is distinct from r.uuid
      union all
      select case when m.deleted then case when s.legacy_id is not null then 'tombstone_with_state' end
                  when s.legacy_id is null then 'mapping_without_state' end, m.legacy_id
        from m left join s on s.legacy_id = m.legacy_id
      union all
      select 'state_without_mapping', s.legacy_id from s left join m on m.legacy_id = s.legacy_id where m.legacy_id is null
    )
    select distinct kind, legacy_id::text as id, legacy_id from said where kind is not null order by legacy_id, kind`);
  return rows.map(({ kind, id }) => ({ kind, id }));
}

/**
 * Fields of which a row state says something else than the row holds: of what the source said last, and, where nobody
 * has written the row since, of what the sync left there. Entities that keep hashes say nothing of fields.
 */
export async function stateFindings(
  target: Sql,
  definition: Recomputed,
  { columns }: Table,
): Promise<(Finding & { id: string })[]> {
  const names = comparable(definition, columns);
  const fields = columns
    .filter(({ name }) => names.includes(name))
    .map((column) => {
      const { name } = column;
      const value = `t.${ident(name)}`;
      const seen = isSaidSql(value, `s.seen -> ${quote(name)}`, column);
      const left = isSaidSql(value, `s."left" -> ${quote(name)}`, column);
      return `(${quote(name)}, ${seen} is not true, t.xmin = s.written_by and (${left}) is not true)`;
    });
  if (fields.length === 0) return [];
  const rows = await target.unsafe<{ id: string; column: string; seen: boolean; left: boolean }[]>(`
    select s.legacy_id::text as id, f.name as "column", f.seen, f.lft as "left"
      from public.sync_entities e
      join public.sync_row_states s on s.entity_id = e.id and s.seen is not null and s.gone_at is null
      join public.uuid_mappings_enhanced m on m.source_id = e.source_id and m.entity_type = e.entity_type and m.legacy_id = s.legacy_id
      join ${tableOf(definition)} t on t.id = m.entity_uuid
     cross join lateral (values ${fields.join(", ")}) f (name, seen, lft)
     where e.entity_type = ${quote(definition.entity)} and (f.seen or f.lft) order by s.legacy_id, 2`);
  return rows.flatMap(({ id, column, seen, left }) => [
    ...(seen ? [{ kind: "state_seen" as const, id, column }] : []),
    ...(left ? [{ kind: "state_left" as const, id, column }] : []),
  ]);
}
