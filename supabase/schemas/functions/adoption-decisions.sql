-- Purpose: what becomes of target rows that share a legacy id, once a person has said so.
-- Locks:   the slots of the records, the rows of sync_adoption_rows.

create function sync.adopt_as(p_conflict uuid, p_id uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_conflict public.sync_conflicts;
  v_entity   public.sync_entities;
  v_row      public.sync_adoption_rows;
  v_there    boolean;
begin
  -- In the order in which pages lock: the record, the entity, the queue entry.
  select * into v_conflict from public.sync_conflicts where id = p_conflict;
  perform sync.lock_records(v_conflict.entity_id, array[v_conflict.source_record_id]);
  select * into v_entity from public.sync_entities where id = v_conflict.entity_id for no key update;
  select * into v_conflict from public.sync_conflicts where id = p_conflict and state = 'open' and rule = 'adoption.ambiguous' for update;
  if not found then
    raise exception 'there is no open conflict % about rows that share a legacy id', p_conflict
      using errcode = 'IS022', hint = 'They are listed by: select * from sync_conflicts where state = ''open'' and rule = ''adoption.ambiguous''';
  end if;
  -- The owner may be the one who calls: the table and the column that are looked at are those that the owner has
  -- released.
  v_entity := sync.released_entity(v_entity.id);
  select * into v_row from public.sync_adoption_rows
   where entity_id = v_entity.id and legacy_id = v_conflict.source_record_id and id = p_id and undecided;
  if not found or v_row.claimed_by is not null then
    raise exception 'row % cannot be the record', p_id
      using errcode = 'IS022', hint = 'Choose one of the ids under candidates in conflict_data that is not claimed by another legacy id.';
  end if;
  execute format('select exists (select from public.%I where id = $1 and %I = $2)', v_entity.target_table, v_entity.legacy_key)
    into v_there using p_id, v_conflict.source_record_id;
  if not v_there then
    raise exception 'row % is gone or has another legacy id now', p_id
      using errcode = 'IS022', hint = 'Choose another one, or adopt the entity again to look at its rows anew.';
  end if;

  delete from public.sync_adoption_rows
   where entity_id = v_entity.id and legacy_id = v_conflict.source_record_id and (id = p_id or claimed_by is not null);
  update public.sync_adoption_rows set undecided = false
   where entity_id = v_entity.id and legacy_id = v_conflict.source_record_id;
  insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
  values (v_entity.source_id, v_entity.entity_type, v_conflict.source_record_id, p_id, v_entity.source_table, v_entity.target_table);
  update public.sync_conflicts
     set state = 'resolved', resolved_at = now(), resolved_by = session_user,
         resolution_data = jsonb_build_object('id', p_id), target_record_id = p_id
   where id = p_conflict;
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  values (v_entity.id, v_conflict.source_record_id, 'adopted')
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
end
$$;
comment on function sync.adopt_as(uuid, uuid) is
  'A person''s decision: of the rows that share the conflict''s legacy id, this one is the record. The others stay '
  'and are surplus. For the SQL editor, and npm run sync -- adopt-as.';

create function sync.surplus_of(p_entity public.sync_entities, p_after bigint, p_from bigint, p_to bigint) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_duplicates bigint;
begin
  execute format(
    $q$select count(*) from public.sync_adoption_rows r join public.%I t on t.id = r.id and t.%I = r.legacy_id
      where r.entity_id = $1 and not r.undecided
        and r.legacy_id >= coalesce($2, $3, '-9223372036854775808') and r.legacy_id is distinct from $2 and r.legacy_id <= $4$q$,
    p_entity.target_table, p_entity.legacy_key) into v_duplicates using p_entity.id, p_after, p_from, p_to;
  return jsonb_strip_nulls(jsonb_build_object('count', v_duplicates, 'duplicates', nullif(v_duplicates, 0)));
end
$$;
comment on function sync.surplus_of(public.sync_entities, bigint, bigint, bigint) is
  'Target rows in a key range, behind a cursor, that are no record: duplicates of another row.';

revoke all on function sync.adopt_as(uuid, uuid), sync.surplus_of(public.sync_entities, bigint, bigint, bigint) from public;
grant execute on function sync.adopt_as(uuid, uuid), sync.surplus_of(public.sync_entities, bigint, bigint, bigint) to isthmus_worker;
