import type { Queryable } from "../db/connect.ts";
import { ident } from "../db/ident.ts";
import { query } from "../db/query.ts";
import type { Severity } from "../entity/rules.ts";

/** One entry of the queue about a record. */
export interface StoryConflict {
  readonly id: string;
  readonly state: "waiting" | "open" | "resolved" | "superseded";
  readonly type: string;
  readonly rule: string;
  readonly field: string | null;
  readonly remedy: string;
  readonly firstSeen: string;
  readonly attempts: number;
  readonly strategy: string | null;
  readonly resolvedBy: string | null;
  readonly resolvedAt: string | null;
  readonly standing: boolean;
  readonly parent: { readonly entity: string; readonly id: string } | null;
  readonly candidates: readonly string[];
  readonly execution: string | null;
  readonly resolvedIn: string | null;
  /** Hash of the record that was stopped, or decided on. */
  readonly digest: string | null;
}

/** What the control tables know of one record. */
export interface KnownRecord {
  readonly sourceId: number;
  readonly namespace: string;
  readonly mapping: { readonly uuid: string; readonly active: boolean; readonly since: string } | null;
  readonly state: {
    readonly syncedAt: string;
    readonly digest: string | null;
    readonly goneAt: string | null;
    readonly outside: boolean;
  } | null;
  readonly conflicts: readonly StoryConflict[];
  readonly executions: readonly { readonly id: string; readonly status: string; readonly startedAt: string }[];
  readonly asked: string | null;
  /** The definition under which the entity was read last; null: it never was to its end. */
  readonly definition: string | null;
  readonly warnings: readonly string[];
  readonly waiters: readonly { readonly entity: string; readonly id: string }[];
  readonly moreWaiters: boolean;
  /** What overrides say of rules. */
  readonly severities: Readonly<Record<string, Severity>>;
  /** SQL of the columns of a target row t that the sync owns. */
  readonly columns: string;
}

/** Entries of the queue that are told, the latest first. */
const MOST_CONFLICTS = 20;
/** Records that wait for this one and are told. */
export const MOST_WAITERS = 20;

/** What is known of one record, each part by one index probe; undefined: the entity has never been registered. */
export async function knownRecord(
  target: Queryable,
  source: string,
  entity: string,
  legacyId: string,
): Promise<KnownRecord | undefined> {
  const [row] = await query<{ known: KnownRecord }>(
    target,
    "target",
    `select jsonb_build_object(
         'sourceId', s.id, 'namespace', s.namespace, 'severities', sync.rule_severities(), 'columns', sync.owned_columns(sync.with_types(e)),
         'mapping', (select jsonb_build_object('uuid', m.entity_uuid, 'active', m.sync_status = 'active', 'since', m.created_at)
                       from public.uuid_mappings_enhanced m
                      where m.source_id = s.id and m.entity_type = e.entity_type and m.legacy_id = k.id),
         'state', (select jsonb_build_object('syncedAt', r.synced_at, 'digest', r.source_digest::text, 'goneAt', r.gone_at, 'outside', coalesce(r.outside, false))
                     from public.sync_row_states r where r.entity_id = e.id and r.legacy_id = k.id),
         'conflicts', (select coalesce(pg_catalog.jsonb_agg(jsonb_build_object(
                                'id', c.id, 'state', c.state, 'type', c.conflict_type, 'rule', c.rule, 'field', c.field, 'remedy', c.remedy,
                                'firstSeen', c.first_seen_at, 'attempts', c.attempts, 'strategy', c.resolution_strategy,
                                'resolvedBy', c.resolved_by, 'resolvedAt', c.resolved_at, 'standing', c.standing,
                                'parent', case when c.parent_legacy_id is not null then jsonb_build_object('entity', p.entity_type, 'id', c.parent_legacy_id::text) end,
                                'candidates', case when c.rule = 'adoption.ambiguous' then coalesce(jsonb_path_query_array(c.conflict_data, '$.candidates[*].id'), '[]') else '[]' end,
                                'execution', c.execution_id, 'resolvedIn', c.resolved_in, 'digest', c.source_digest::text) order by c.last_seen_at desc, c.id), '[]')
                         from (select c.* from public.sync_conflicts c where c.entity_id = e.id and c.source_record_id = k.id
                                order by c.last_seen_at desc, c.id limit ${MOST_CONFLICTS}) c
                         left join public.sync_entities p on p.id = c.parent_entity_id),
         'executions', (select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('id', x.id, 'status', x.status, 'startedAt', x.started_at) order by x.started_at desc, x.id), '[]')
                          from public.sync_executions x
                         where x.id = any (array(select pg_catalog.unnest(array[c.execution_id, c.resolved_in]) from public.sync_conflicts c
                                                  where c.entity_id = e.id and c.source_record_id = k.id))),
         'asked', (select p.reason from public.sync_pending_keys p where p.entity_id = e.id and p.execution_id is null and p.legacy_id = k.id),
         'definition', (select p.definition_hash from public.sync_checkpoints p where p.source_id = s.id and p.entity_type = e.entity_type),
         'warnings', (select coalesce(pg_catalog.jsonb_agg(w.rule order by w.rule), '[]') from public.sync_warnings w where w.entity_id = e.id and w.legacy_id = k.id),
         'waiters', (select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('entity', w.entity_type, 'id', w.source_record_id::text) order by w.entity_type, w.source_record_id), '[]')
                       from (select c.entity_type, c.source_record_id from public.sync_conflicts c
                              where c.parent_entity_id = e.id and c.parent_legacy_id = k.id and c.state = 'waiting' limit ${MOST_WAITERS}) w),
         'moreWaiters', exists (select from public.sync_conflicts c where c.parent_entity_id = e.id and c.parent_legacy_id = k.id
                                   and c.state = 'waiting' offset ${MOST_WAITERS})) as known
       from public.sync_sources s
       join public.sync_entities e on e.source_id = s.id and e.entity_type = $2
      cross join (select $3::text::bigint as id) k
      where s.name = $1`,
    [source, entity, legacyId],
  );
  return row?.known;
}

/** The target row of a record, by its id. */
export interface StoryRow {
  /** Field → value as text. */
  readonly values: Readonly<Record<string, string | null>>;
  /** Whether the row is as the sync left it; null: nothing is known of it. */
  readonly asLeft: boolean | null;
  /** Fields that somebody has edited since; none where the entity keeps hashes. */
  readonly edited: readonly string[];
}

/** The target row with this id, compared with what the sync left there: by the primary keys of both. */
export async function storyRow(
  target: Queryable,
  table: string,
  { columns }: KnownRecord,
  entity: string,
  source: number,
  legacyId: string,
  id: string,
): Promise<StoryRow | undefined> {
  const [row] = await query<{ row: StoryRow }>(
    target,
    "target",
    `select jsonb_build_object(
         'values', (select coalesce(jsonb_object_agg(f.key, f.value), '{}') from jsonb_each_text(o.now) f),
         'asLeft', case when s.entity_id is null then null when s.left_hash is null then s."left" = o.now
                        else s.left_hash = hashtextextended(o.now::text, 0) end,
         'edited', (select coalesce(pg_catalog.jsonb_agg(f.key order by f.key), '[]') from jsonb_each(o.now) f
                     where s."left" is not null and s."left" -> f.key is distinct from f.value)) as row
       from public.${ident(table)} t
      cross join lateral (select pg_catalog.to_jsonb(isthmus_row.*) as now from (select ${columns}) isthmus_row offset 0) o
       left join public.sync_entities e on e.source_id = $2 and e.entity_type = $3
       left join public.sync_row_states s on s.entity_id = e.id and s.legacy_id = $4::text::bigint
      where t.id = $1::text::uuid`,
    [id, source, entity, legacyId],
  );
  return row?.row;
}
