-- Purpose: show the unmasked values of a conflict to those who may see them, and note that they did.

create function sync.reveal(p_conflict uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
  v_conflict public.sync_conflicts;
  v_values   public.sync_conflict_values;
  v_caller   name := sync.calling_role();
  v_owner    oid := (select relowner from pg_class where oid = 'public.sync_conflict_values'::regclass);
begin
  -- Whoever comes through the Data API needs the role of a reviewer; others see the values only where they own the
  -- table.
  if not pg_has_role(v_caller, v_owner, 'usage') and not (v_caller = 'authenticated' and sync.caller_role() is not distinct from 'reviewer') then
    raise exception 'only reviewers see unmasked values' using errcode = '42501';
  end if;
  select * into v_conflict from public.sync_conflicts where id = p_conflict;
  if not found then
    raise exception 'there is no conflict %', p_conflict using errcode = 'IS022', hint = 'Give the id of a row of sync_conflicts.';
  end if;
  select * into v_values from public.sync_conflict_values where conflict_id = p_conflict;
  insert into public.sync_audit (actor, action, conflict_id, entity_id, legacy_id, fields)
  values (sync.actor(null), 'revealed', p_conflict, v_conflict.entity_id, v_conflict.source_record_id, sync.unlisted(v_conflict.field));
  return coalesce(sync.differences('[]', sync.unlisted(v_conflict.field), v_values.seen, v_values.source, v_values.target, false), '{}');
end
$$;
comment on function sync.reveal(uuid) is
  'The differing values of a conflict, unmasked and whole: {field: {seen, source, target}}. Leaves a row in '
  'sync_audit. select sync.reveal(''<id>'').';

revoke all on function sync.reveal(uuid) from public;
grant execute on function sync.reveal(uuid) to authenticated;

grant create on schema sync to isthmus_decisions;
alter function sync.reveal(uuid) owner to isthmus_decisions;
revoke create on schema sync from isthmus_decisions;
