import { queryOne } from "../../shared/db/query.ts";
import type { InProcess } from "./in-process.ts";
import { nameOf, type Difference, type Name, type Place, type Row, type Table } from "./legacy-model.ts";
import { rowsOf, secondOf, timeOf, type RawRow } from "./legacy-sessions.ts";

export const ENTITY_OF = { office: "offices", patient: "patients" } as const;
const ENTITY_IDS = "select id from public.sync_entities where entity_type in ('offices', 'patients')";

/** What a history sees of the target. */
export interface TargetState {
  readonly rows: ReadonlyMap<Name, Row>;
  /** In sync_conflicts: waits for its parent, for one. */
  readonly queued: ReadonlySet<Name>;
  /** Has been asked for: to be read again, or to be deleted. */
  readonly asked: ReadonlySet<Name>;
  readonly ended: readonly { readonly id: string; readonly status: string }[];
}

/** `running`: executions of which it is to be told whether they have ended. */
export async function lookAtTarget({ target }: InProcess, running: readonly string[]): Promise<TargetState> {
  const [state] = await target.admin<
    { rows: RawRow[] | null; queued: Name[] | null; asked: Name[] | null; ended: { id: string; status: string }[] | null }[]
  >`
    select (select json_agg(r) from (
              select 'office' as "table", legacy_office_id::integer as key, name as version, null::integer as office, null::timestamptz as stamp
                from public.offices
              union all
              select 'patient', p.legacy_patient_id, p.suffix, o.legacy_office_id, p.source_updated_at
                from public.patients p left join public.offices o on o.id = p.assigned_office_id) r) as rows,
           (select json_agg(rtrim(c.entity_type, 's') || ' ' || c.source_record_id)
              from public.sync_conflicts c where c.state in ('waiting', 'open')) as queued,
           (select json_agg(rtrim(e.entity_type, 's') || ' ' || k.legacy_id)
              from public.sync_pending_keys k join public.sync_entities e on e.id = k.entity_id) as asked,
           (select json_agg(json_build_object('id', id, 'status', status))
              from public.sync_executions where id = any (${running}::uuid[]) and status <> 'running') as ended`;
  return {
    rows: rowsOf(state?.rows ?? []),
    queued: new Set(state?.queued),
    asked: new Set(state?.asked),
    ended: state?.ended ?? [],
  };
}

/** Nothing in it, and nothing remembered of earlier histories but where they ended; by stamps, at second 0 of the next. */
export async function resetTarget({ target }: InProcess): Promise<void> {
  await target.admin.unsafe(`
    delete from public.patients; delete from public.offices;
    delete from public.uuid_mappings_enhanced where entity_type in ('offices', 'patients');
    delete from public.sync_row_states where entity_id in (${ENTITY_IDS});
    delete from public.sync_conflicts; delete from public.sync_pending_keys; delete from public.sync_alerts;
    delete from public.sync_page_log; delete from public.sync_reports; delete from public.sync_chains;
    update public.sync_checkpoints set watermark_at = '${timeOf(0) ?? ""}', watermark_id = default;
    update public.sync_executions set status = 'failed' where status = 'running';
    delete from public.sync_executions e where not exists (select from public.sync_checkpoints k where k.execution_id = e.id);`);
}

export async function askFor({ target }: InProcess, table: Table, keys: readonly number[]): Promise<void> {
  await target.admin`
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select e.id, k, 'history' from public.sync_entities e, unnest(${[...keys]}::bigint[]) k where e.entity_type = ${ENTITY_OF[table]}
    on conflict (entity_id, execution_id, legacy_id) do update set generation = excluded.generation`;
}

/** Explicit keys beside the chains of a running execution, over the same records. */
export async function addChain({ target, queue }: InProcess, table: Table): Promise<boolean> {
  const [chain] = await target.admin<{ execution: string; id: string }[]>`
    insert into public.sync_chains (execution_id, entity_id, capture, state, due_at, definition_hash, page_size)
    select c.execution_id, c.entity_id, 'keys', 'open', now(), c.definition_hash, 2
      from public.sync_chains c join public.sync_entities e on e.id = c.entity_id
     where e.entity_type = ${ENTITY_OF[table]} and c.state = 'open' and c.capture <> 'keys' limit 1
    returning execution_id as execution, id`;
  if (chain) queue.push({ execution: chain.execution, chain: chain.id, page: 0 });
  return chain !== undefined;
}

/** What an execution took for the source's clock, which is years ahead of the history's, becomes the history's. */
export async function keepTime({ target }: InProcess, execution: string, second: number): Promise<void> {
  const at = timeOf(second) ?? "";
  await target.admin`
    update public.sync_checkpoints k set watermark_at = ${at}
      from public.sync_executions e where e.id = ${execution} and k.execution_id = e.id and k.watermark_at = e.source_time`;
  await target.admin`update public.sync_executions set source_time = ${at} where id = ${execution}`;
}

/** How far patients have been read by their stamps. */
export async function watermarkOf({ target }: InProcess): Promise<Place> {
  const [mark] = await target.admin<{ at: string; id: string }[]>`
    select watermark_at as at, watermark_id::text as id from public.sync_checkpoints where entity_type = 'patients'`;
  return [secondOf(mark?.at ?? null) ?? -Infinity, Number(mark?.id ?? 0)];
}

/** Moves every horizon to the present, so that xmin finds nothing of what is committed. */
export async function hideFromXmin({ context, target }: InProcess): Promise<void> {
  const { at } = await queryOne<{ at: string }>(
    context.source,
    "source",
    "select pg_snapshot_xmin(pg_current_snapshot())::text as at",
    [],
  );
  await target.admin`update public.sync_checkpoints set horizon = ${at}::text::xid8`;
}

/** What the digests of an execution have found. */
export type DigestReport = Difference &
  Readonly<Record<"target_deleted" | "edited" | keyof typeof NONE_STRAYED, readonly Name[]>>;
/** The target's own sides agree. */
export const NONE_STRAYED = { rewritten: [], returned: [], state_lost: [], mapping_lost: [], mapped_again: [], unmapped: [] };

/** @throws Error when one counts other than it lists. */
export async function digestReport({ target }: InProcess, execution: string): Promise<DigestReport> {
  const found = await target.admin<{ table: Table; reason: keyof DigestReport; count: number; ids: string[] }[]>`
    select rtrim(replace(r.kind, 'digest:', ''), 's') as "table", f.key as reason, (f.value ->> 'count')::integer as count, f.value -> 'legacy_ids' as ids
      from public.sync_reports r cross join lateral jsonb_each(r.body - 'records') f
     where r.execution_id = ${execution} and r.kind like 'digest:%'`;
  const report: Record<keyof DigestReport, Name[]> = {
    ...{ missing: [], surplus: [], changed: [], target_deleted: [], edited: [] },
    ...{ rewritten: [], returned: [], state_lost: [], mapping_lost: [], mapped_again: [], unmapped: [] },
  };
  for (const { table, reason, count, ids } of found) {
    if (count !== ids.length) throw new Error(`A digest counts ${count} ${reason} ${table} records and lists ${ids.length}`);
    report[reason].push(...ids.map((id) => nameOf(table, Number(id))));
  }
  for (const names of Object.values(report)) names.sort();
  return report;
}
