-- Purpose: whether a page deletes, empties or overwrites more than may be without a person's word.

create function sync.page_nulled(p_entity public.sync_entities) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_json  text[] := sync.json_fields(p_entity);
  c_empty constant jsonb[] := array['null', '"null"']; -- NULL and, in JSON columns, the null of JSON
begin
  return (select jsonb_object_agg(k, n) from (
    select e.key as k, count(*) as n
      from pg_temp.page_plan q cross join lateral jsonb_each(q.written) e
      cross join lateral (select case when e.key = any (v_json) then c_empty else c_empty[:1] end as empty) x
     -- What a request has written over edits alone is asked for.
     where q.action in ('update', 'review') and e.value = any (x.empty) and coalesce(q.now -> e.key, 'null') <> all (x.empty)
       and e.value is distinct from q.seen -> e.key group by 1) x);
end
$$;
comment on function sync.page_nulled(public.sync_entities) is
  'How many records of the page lose their value in a column: {column: n}; null: none.';

create function sync.page_rewritten(p_entity public.sync_entities) returns integer
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_json  text[] := sync.json_fields(p_entity);
  c_empty constant jsonb[] := array['null', '"null"']; -- NULL and, in JSON columns, the null of JSON
begin
  -- What the sync has never reconciled (adopted rows), and what was empty, holds nothing that it would put at risk.
  -- What is emptied is counted by itself. What a request has written over edits alone, the source has not changed: it
  -- was asked for.
  return (select count(*) from pg_temp.page_plan q
           where q.action in ('update', 'review') and q.seen is not null
             and exists (select from jsonb_each(q.written) e
                          cross join lateral (select case when e.key = any (v_json) then c_empty else c_empty[:1] end as empty) x
                          where e.value <> all (x.empty) and coalesce(q.now -> e.key, 'null') <> all (x.empty)
                            -- Of hashes nothing is known of what was seen: a value that only prints otherwise is no
                            -- other one.
                            and e.value is distinct from q.seen -> e.key and e.value is distinct from q.now -> e.key));
end
$$;
comment on function sync.page_rewritten(public.sync_entities) is
  'In how many records of the page a value is overwritten by another one.';

create function sync.landed_needed(p_execution public.sync_executions, p_entity_id smallint, p_kind text, p_field text, p_records bigint) returns bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Once it was pulled, not one more passes until a person has said so: what pages before it did would add up over
  -- executions.
  select case
           when h.holds then null
           when not h.holds or p_records <= b.records then 0
           -- A record that is written twice counts twice: all of them is no share that could be passed.
           when p_kind = 'overwrite' and b.share >= 1 then 0
           else ceil(p_records / nullif(b.share, 0)) end::bigint
    from (select sync.brake_holds(p_entity_id, p_kind, p_field) as holds) h
   cross join (select case p_kind when 'overwrite' then p_execution.brake_overwrite_records else p_execution.brake_records end as records,
                      case p_kind when 'overwrite' then p_execution.brake_overwrite_share else p_execution.brake_share end as share) b
$$;
comment on function sync.landed_needed(public.sync_executions, smallint, text, text, bigint) is
  'How many records must have landed for so many to pass the brake. 0: they pass in any case; null: they do not.';

-- In the order of the index, up to the limit, whatever is known of the table.
create function sync.count_landed(p_entity_id smallint, p_behind bigint, p_most bigint, out landed bigint, out up_to bigint)
language sql stable security invoker set search_path = pg_catalog, pg_temp set enable_sort = off as $$
  select count(*), max(l.legacy_id)
    from (select s.legacy_id from public.sync_row_states s
           where s.entity_id = p_entity_id and s.gone_at is null
             and s.legacy_id >= coalesce(p_behind, '-9223372036854775808') and s.legacy_id is distinct from p_behind
           order by s.legacy_id limit p_most) l
$$;
comment on function sync.count_landed(smallint, bigint, bigint) is
  'Records of an entity that have landed, behind a key (null: all), so many at most (null: all), and the last one''s '
  'key.';

create function sync.exceeds_brake(p_execution public.sync_executions, p_entity_id smallint, p_kind text, p_field text, p_records bigint) returns bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_needed bigint := sync.landed_needed(p_execution, p_entity_id, p_kind, p_field, p_records);
  v_landed bigint;
begin
  if v_needed = 0 then
    return null;
  end if;
  v_landed := (sync.count_landed(p_entity_id, null, v_needed)).landed;
  return case when v_landed >= v_needed then null else v_landed end;
end
$$;
comment on function sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint) is
  'When so many records are more than the brake lets pass: how many have landed. Null: they pass.';

create function sync.check_brake(p_chain public.sync_chains, p_entity public.sync_entities, p_kind text, p_field text, p_records bigint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_needed    bigint;
  v_known     record;
  v_more      record;
begin
  select * into strict v_execution from public.sync_executions where id = p_chain.execution_id;
  v_needed := sync.landed_needed(v_execution, p_entity.id, p_kind, p_field, p_records);
  -- An earlier check of this page may have counted further than its chain was when the page began.
  select c.landed, c.landed_up_to into strict v_known from public.sync_chains c where c.id = p_chain.id;
  if v_needed <= v_known.landed then
    return;
  end if;
  -- Only as many as this page needs are counted, from where the count of an earlier page ended.
  v_more := sync.count_landed(p_entity.id, v_known.landed_up_to, v_needed - v_known.landed);
  if v_known.landed + v_more.landed >= v_needed then
    update public.sync_chains set landed = landed + v_more.landed, landed_up_to = v_more.up_to where id = p_chain.id;
    return;
  end if;
  -- Before it is pulled, all are counted: some may have landed meanwhile before the key where a count went on.
  v_more := sync.count_landed(p_entity.id, null, v_needed);
  if v_more.landed >= v_needed then
    update public.sync_chains set landed = v_more.landed, landed_up_to = v_more.up_to where id = p_chain.id;
    return;
  end if;
  raise exception 'entity %: more records than usual would be %', p_entity.entity_type, sync.braked_word(p_kind) || coalesce(' in ' || p_field, '')
    using errcode = 'IS040',
          detail = jsonb_build_object('entity', p_entity.entity_type, 'kind', p_kind, 'field', p_field, 'records', p_records, 'landed', v_more.landed)::text;
end
$$;
comment on function sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint) is
  'Raises IS040 when an execution has come to delete, empty or overwrite more of an entity''s records than the brake '
  'lets pass.';

create function sync.check_leaving(p_chain public.sync_chains, p_entity public.sync_entities, p_outside bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_records bigint := (select count(*) from public.uuid_mappings_enhanced m
                        where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.sync_status = 'active'
                          and m.legacy_id = any (p_outside)
                          and (select s.gone_at from public.sync_row_states s
                                where s.entity_id = p_entity.id and s.legacy_id = m.legacy_id and s.outside is null) is null);
begin
  if v_records > 0 then
    perform sync.check_brake(p_chain, p_entity, 'delete', null, v_records
      + coalesce((sync.counted(p_chain.execution_id, p_entity.id) ->> 'deleted')::bigint, 0));
  end if;
end
$$;
comment on function sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]) is
  'The brake on records that leave their predicate: they are deleted page by page.';

create function sync.check_nulled(p_chain public.sync_chains, p_entity public.sync_entities) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_nulled jsonb := sync.page_nulled(p_entity);
  v_before jsonb;
  v_field  record;
begin
  if v_nulled is null then
    return;
  end if;
  v_before := sync.counted(p_chain.execution_id, p_entity.id);
  for v_field in
    select p.key as name, p.value::bigint + coalesce((v_before ->> ('nulled ' || p.key))::bigint, 0) as n from jsonb_each_text(v_nulled) p
  loop
    perform sync.check_brake(p_chain, p_entity, 'null', v_field.name, v_field.n::bigint);
  end loop;
end
$$;
comment on function sync.check_nulled(public.sync_chains, public.sync_entities) is
  'Raises IS040 when an execution would take the value of a column from more of an entity''s records than the brake '
  'lets pass.';

create function sync.counts_overwritten(p_entity public.sync_entities) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Read in full because its definition has changed, or for the first time: what is written then was decided with the
  -- deployment. What is held already stays held. A checkpoint that somebody has removed decides nothing.
  select sync.brake_holds(p_entity.id, 'overwrite', null) is not null or coalesce(
    (select k.definition_hash in (p_entity.definition_hash, 'reread:' || p_entity.definition_hash) from public.sync_checkpoints k
      where k.source_id = p_entity.source_id and k.entity_type = p_entity.entity_type),
    exists (select from public.sync_chains c
             where c.entity_id = p_entity.id and c.capture = 'full' and c.state = 'done' and c.definition_hash = p_entity.definition_hash))
$$;
comment on function sync.counts_overwritten(public.sync_entities) is
  'Whether the brake looks at how many records of an entity are overwritten.';

create function sync.check_overwritten(p_chain public.sync_chains, p_entity public.sync_entities) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_records bigint := sync.page_rewritten(p_entity);
begin
  if v_records = 0 or not sync.counts_overwritten(p_entity) then
    return;
  end if;
  perform sync.check_brake(p_chain, p_entity, 'overwrite', null, v_records
    + coalesce((sync.counted(p_chain.execution_id, p_entity.id) ->> 'overwritten')::bigint, 0));
end
$$;
comment on function sync.check_overwritten(public.sync_chains, public.sync_entities) is
  'Raises IS040 when an execution would overwrite values in more of an entity''s records than the brake lets pass.';

revoke all on function sync.landed_needed(public.sync_executions, smallint, text, text, bigint), sync.count_landed(smallint, bigint, bigint),
  sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint), sync.counts_overwritten(public.sync_entities),
  sync.page_nulled(public.sync_entities), sync.check_nulled(public.sync_chains, public.sync_entities), sync.page_rewritten(public.sync_entities),
  sync.check_overwritten(public.sync_chains, public.sync_entities), sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint),
  sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]) from public;
grant execute on function sync.landed_needed(public.sync_executions, smallint, text, text, bigint), sync.count_landed(smallint, bigint, bigint),
  sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint), sync.counts_overwritten(public.sync_entities),
  sync.page_nulled(public.sync_entities), sync.check_nulled(public.sync_chains, public.sync_entities), sync.page_rewritten(public.sync_entities),
  sync.check_overwritten(public.sync_chains, public.sync_entities), sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint),
  sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]) to isthmus_worker;
