-- Purpose: what an operator must know.
-- Locks:   the open alert.

create function sync.raise_alert(p_kind text, p_severity text, p_source_id smallint, p_execution uuid, p_entity_id smallint, p_message text, p_details jsonb)
returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_alerts as a (kind, severity, source_id, entity_id, execution_id, message, details)
  values (p_kind, p_severity, coalesce(p_source_id, (select source_id from public.sync_executions where id = p_execution)),
          p_entity_id, p_execution, p_message, p_details)
  on conflict (kind, entity_id) where closed_at is null do update
     set occurrences = a.occurrences + 1, last_seen_at = now(), execution_id = coalesce(excluded.execution_id, a.execution_id),
         message = excluded.message, details = excluded.details
$$;
comment on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb) is
  'Opens an alert, or counts it again while it is open. p_source_id null: the source of the execution.';

create function sync.close_alert(p_kind text, p_source_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alerts set closed_at = now() where kind = p_kind and source_id = p_source_id and closed_at is null
$$;
comment on function sync.close_alert(text, smallint) is 'Closes an alert whose cause is gone.';

revoke all on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb), sync.close_alert(text, smallint) from public;
grant execute on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb), sync.close_alert(text, smallint) to isthmus_worker;
grant execute on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb) to isthmus_decisions;
