-- Purpose: order the pages that commit the same records, with no lock on the target while the source is read.
-- Locks:   rows of sync_record_slots, by slot.

create function sync.slots_of(p_legacy_ids bigint[]) returns smallint[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select distinct ((k >> 12) & 255)::smallint from unnest(p_legacy_ids) k order by 1)
$$;
comment on function sync.slots_of(bigint[]) is 'The slots of some records, ascending.';

create function sync.slot_versions(p_entity_id smallint, p_legacy_ids bigint[]) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(s, coalesce((
           select r.version from public.sync_record_slots r where r.entity_id = p_entity_id and r.slot = s), 0)), '{}')
    from unnest(sync.slots_of(p_legacy_ids)) s
$$;
comment on function sync.slot_versions(smallint, bigint[]) is
  'The versions of the slots of some records: {slot: version}. Asked for before the records are read from the source.';

create function sync.take_slots(p_entity_id smallint, p_slots smallint[]) returns jsonb
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with taken as (
    insert into public.sync_record_slots as r (entity_id, slot, version)
    -- Always in this order, so that two pages never wait for each other.
    select p_entity_id, s, 1 from unnest(p_slots) s order by s
    on conflict (entity_id, slot) do update set version = r.version + 1
    returning slot, version)
  select coalesce(jsonb_object_agg(slot, version - 1), '{}') from taken
$$;
comment on function sync.take_slots(smallint, smallint[]) is
  'Locks slots to the end of the transaction and counts its commit. Returns the versions that they had: {slot: '
  'version}.';

create function sync.raise_records_moved() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'other records of the page''s slots were committed since the page read the source'
    using errcode = 'IS011', hint = 'Nothing was written; the page reads the source again.';
end
$$;
comment on function sync.raise_records_moved() is 'Raises IS011: what was read may be older than what has landed.';

create function sync.hold_records(p_entity_id smallint, p_versions jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Null: this transaction has held them since before it read the source.
  if jsonb_typeof(p_versions) = 'object'
     and sync.take_slots(p_entity_id, array(select k::smallint from jsonb_object_keys(p_versions) k)) <> p_versions then
    perform sync.raise_records_moved();
  end if;
end
$$;
comment on function sync.hold_records(smallint, jsonb) is
  'Locks the slots of a page''s records, as slot_versions gave them before the source was read. Raises IS011 when '
  'one has moved on since.';

create function sync.compare_records(p_entity_id smallint, p_versions jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Null: the page has read them often enough.
  if jsonb_typeof(p_versions) = 'object' and exists (
       select from jsonb_each_text(p_versions) v
        where v.value::bigint <> coalesce((select r.version from public.sync_record_slots r
                                            where r.entity_id = p_entity_id and r.slot = v.key::smallint), 0)) then
    perform sync.raise_records_moved();
  end if;
end
$$;
comment on function sync.compare_records(smallint, jsonb) is
  'What hold_records does, for a page that is only planned: nothing is locked, and no version moves.';

create function sync.lock_records(p_entity_id smallint, p_legacy_ids bigint[], p_idle_seconds integer default null) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_limit bigint := (select setting::bigint from pg_catalog.pg_settings where name = 'idle_in_transaction_session_timeout');
begin
  if p_idle_seconds is not null and (v_limit = 0 or v_limit > p_idle_seconds * 1000) then
    perform set_config('idle_in_transaction_session_timeout', p_idle_seconds || 's', true);
  end if;
  perform sync.take_slots(p_entity_id, sync.slots_of(p_legacy_ids));
end
$$;
comment on function sync.lock_records(smallint, bigint[], integer) is
  'Locks the slots of some records to the end of the transaction, whatever their versions. p_idle_seconds: after so '
  'long without a statement the server ends the transaction, so that it never stands in the way of others for '
  'longer.';

revoke all on function sync.slots_of(bigint[]), sync.slot_versions(smallint, bigint[]), sync.take_slots(smallint, smallint[]),
  sync.raise_records_moved(), sync.hold_records(smallint, jsonb), sync.compare_records(smallint, jsonb),
  sync.lock_records(smallint, bigint[], integer) from public;
grant execute on function sync.slots_of(bigint[]), sync.slot_versions(smallint, bigint[]), sync.take_slots(smallint, smallint[]),
  sync.raise_records_moved(), sync.hold_records(smallint, jsonb), sync.compare_records(smallint, jsonb),
  sync.lock_records(smallint, bigint[], integer) to isthmus_worker;
