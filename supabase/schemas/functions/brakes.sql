-- Purpose: what the sync would not delete, empty or overwrite without a person's word.
-- Locks:   the open row of sync_brakes.

create function sync.stamp_brake() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if new.confirmed_by is distinct from old.confirmed_by then
    if old.closed_at is not null then
      raise exception 'this brake is closed' using errcode = 'IS022', hint = 'Look for one of this entity whose closed_at is empty.';
    end if;
    new.confirmed_at := case when new.confirmed_by is not null then now() end;
  elsif new.kind = 'delete' and new.records > old.records then
    -- What was confirmed was less.
    new.confirmed_by := null;
    new.confirmed_at := null;
  end if;
  return new;
end
$$;
comment on function sync.stamp_brake() is
  'Stamps a confirmation; one that was given for fewer records does not count for more.';
create trigger stamp_brake before update on public.sync_brakes for each row execute function sync.stamp_brake();

create function sync.brake_holds(p_entity_id smallint, p_kind text, p_field text) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select confirmed_at is null from public.sync_brakes
   where entity_id = p_entity_id and kind = p_kind and field is not distinct from p_field and closed_at is null
$$;
comment on function sync.brake_holds(smallint, text, text) is
  'True: it was pulled, and nobody has confirmed it. False: somebody has. Null: it was not pulled.';

create function sync.braked_word(p_kind text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select case p_kind when 'delete' then 'deleted' when 'null' then 'emptied' when 'overwrite' then 'overwritten' end $$;
comment on function sync.braked_word(text) is 'What would have become of the records that a brake holds.';

create function sync.pull_brake(p_execution uuid, p_entity_id smallint, p_kind text, p_field text, p_records bigint, p_landed bigint) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_confirmed boolean;
begin
  insert into public.sync_brakes as b (entity_id, kind, field, records, landed, execution_id)
  values (p_entity_id, p_kind, p_field, p_records, p_landed, p_execution)
  on conflict (entity_id, kind, field) where closed_at is null do update
     set records = case when b.confirmed_at is null then excluded.records else greatest(b.records, excluded.records) end,
         landed = excluded.landed, execution_id = excluded.execution_id, last_seen_at = now()
  returning confirmed_at is not null into v_confirmed;
  if not v_confirmed then
    perform sync.raise_alert('brake', 'critical', null, p_execution, p_entity_id,
      'Far more records than usual would be ' || sync.braked_word(p_kind)
        || ': the execution was stopped. See sync_brakes.',
      jsonb_strip_nulls(jsonb_build_object('kind', p_kind, 'field', p_field, 'records', p_records, 'landed', p_landed)),
      sync.subject_of(p_kind, p_field));
  end if;
  return not v_confirmed;
end
$$;
comment on function sync.pull_brake(uuid, smallint, text, text, bigint, bigint) is
  'True: stop. False: a person has confirmed that as many records are deleted, emptied or overwritten.';

revoke all on function sync.stamp_brake(), sync.brake_holds(smallint, text, text), sync.braked_word(text),
  sync.pull_brake(uuid, smallint, text, text, bigint, bigint) from public;
grant execute on function sync.brake_holds(smallint, text, text), sync.braked_word(text),
  sync.pull_brake(uuid, smallint, text, text, bigint, bigint) to isthmus_worker;
