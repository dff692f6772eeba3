import type { Sql } from "postgres";
import { registry } from "../../clinic/entities/registry.gen.ts";

/** The tables that entities fill. */
const APPLICATION_TABLES = registry.map(({ target }) => target.table);

/** What moves with every run and says nothing about the result. */
const VOLATILE = ["created_at", "updated_at"];

/**
 * The end state of a sync: every target row, mapping, row state, joined row and open queue entry. Left out, because
 * they tell when and how often instead of what: created_at, updated_at, synced_at, first/last_seen_at, attempts,
 * execution ids and the queue's own row ids.
 */
export async function endState(target: Sql): Promise<Record<string, string[]>> {
  const state: Record<string, string[]> = {};
  for (const table of APPLICATION_TABLES) {
    state[table] = await lines(
      target,
      `select (to_jsonb(t) - '{${VOLATILE.join(",")}}'::text[])::text as line from public.${table} t order by id`,
    );
  }
  state["mappings"] = await lines(
    target,
    "select concat_ws(' ', entity_type, legacy_id, entity_uuid, sync_status, source_table, target_table) as line from public.uuid_mappings_enhanced order by entity_type, legacy_id",
  );
  state["row states"] = await lines(
    target,
    `select concat_ws(' ', e.entity_type, s.legacy_id, s.seen, s."left", s.raw) as line
       from public.sync_row_states s join public.sync_entities e on e.id = s.entity_id order by e.entity_type, s.legacy_id`,
  );
  state["joined rows"] = await lines(
    target,
    `select concat_ws(' ', e.entity_type, j.join_id, j.row_id, j.link, j.digest) as line
       from public.sync_join_rows j join public.sync_entities e on e.id = j.entity_id order by 1`,
  );
  state["open queue"] = await lines(
    target,
    `select concat_ws(' ', c.entity_type, source_record_id, state, conflict_type, field, rule, p.entity_type, parent_legacy_id, conflict_data) as line
       from public.sync_conflicts c left join public.sync_entities p on p.id = c.parent_entity_id
      where state in ('waiting', 'open') order by c.entity_type, source_record_id`,
  );
  state["pending keys"] = await lines(
    target,
    "select concat_ws(' ', entity_id, legacy_id) as line from public.sync_pending_keys order by 1",
  );
  return state;
}

/** Empties everything that a sync has written, and gives the source a known namespace. */
export async function resetTarget(admin: Sql, namespace: string): Promise<void> {
  await admin.unsafe(`
    truncate ${APPLICATION_TABLES.map((table) => `public.${table}`).join(", ")},
      public.sync_executions, public.sync_chains, public.sync_page_log, public.sync_checkpoints, public.sync_pending_keys,
      public.sync_conflicts, public.sync_conflict_values, public.sync_row_states, public.sync_join_rows, public.uuid_mappings_enhanced,
      public.sync_alerts, public.sync_reports, public.sync_entities restart identity cascade`);
  await admin`insert into public.sync_sources (name, namespace) values ('legacy', ${namespace}) on conflict (name) do update set namespace = excluded.namespace`;
}

async function lines(sql: Sql, text: string): Promise<string[]> {
  return (await sql.unsafe<{ line: string }[]>(text)).map((row) => row.line);
}
