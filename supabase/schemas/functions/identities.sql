-- Purpose: which databases and which installation of the functions belong together. One that is new is a question to
--          a person.

create function sync.known_identity(p_source_id smallint, p_side text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select identity from public.sync_identities
   where source_id = p_source_id and side = p_side and accepted_at is not null order by accepted_at desc limit 1
$$;
comment on function sync.known_identity(smallint, text) is
  'The identity of one side that was accepted last. Null: none has been met yet.';

create function sync.is_new_identity(p_source_id smallint, p_side text, p_identity text) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case
    -- Each restore is asked about once.
    when p_side = 'target_state' then not exists (
      select from public.sync_identities
       where source_id = p_source_id and side = p_side and identity = p_identity and accepted_at is not null)
    -- One database has several addresses: of its nodes, of a pooler.
    when p_side in ('source_address', 'target_address')
     and exists (select from public.sync_identities
                  where source_id = p_source_id and side = p_side and identity = p_identity and accepted_at is not null) then false
    -- The first one is taken as it is, but for another source beside those that fill this target already.
    else coalesce(sync.known_identity(p_source_id, p_side) <> p_identity,
      p_side = 'source' and exists (select from public.sync_identities where side = 'source' and accepted_at is not null)) end
$$;
comment on function sync.is_new_identity(smallint, text, text) is
  'Whether a person has to be asked about an identity.';

create function sync.stamp_identity() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    new.accepted_by := case when not sync.is_new_identity(new.source_id, new.side, new.identity) then 'first use' end;
    new.accepted_at := case when new.accepted_by is not null then now() end;
    new.refused := case when new.accepted_by is null then new.refused else 0 end;
  elsif new.accepted_by is distinct from old.accepted_by then
    if old.accepted_at is not null then
      raise exception 'this identity was accepted already'
        using errcode = 'IS022', hint = 'To have another one known, accept that one: a start that meets it adds its row.';
    end if;
    new.accepted_by := coalesce(sync.claims() ->> 'email', sync.claims() ->> 'sub', new.accepted_by || ' (' || session_user || ')');
    new.accepted_at := now();
  end if;
  return new;
end
$$;
comment on function sync.stamp_identity() is
  'Accepts the first identity of a side, and says who accepted another one.';
create trigger stamp_identity before insert or update on public.sync_identities for each row execute function sync.stamp_identity();

create function sync.target_identity() returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- The control file has a new timeline only after the first checkpoint, minutes later; the name of the segment that
  -- is written has it at once.
  select c.system_identifier::text || '/' || case when pg_is_in_recovery() then p.timeline_id
           else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer end::text || '/' || d.oid::text
    from pg_control_system() c, pg_control_checkpoint() p, pg_catalog.pg_database d where d.datname = current_database()
$$;
comment on function sync.target_identity() is
  'Server, timeline and database that this is: another one after a restore from a backup.';

create function sync.without_timeline(p_identity text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select regexp_replace(p_identity, '/.*/', '/') $$;
comment on function sync.without_timeline(text) is
  'Server and database alone: a failover, or a restore in place, begins another timeline of the same.';

create function sync.signs_of_restore(p_source_id smallint, p_remembered bigint) returns setof text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- A restore to a point in time begins another timeline. A failover does, too, and may have lost the last commits.
  select format('timeline %s follows timeline %s', split_part(n.identity, '/', 2), split_part(s.target_identity, '/', 2))
    from public.sync_sources s, (select sync.target_identity() as identity) n
   where s.id = p_source_id and s.target_identity <> n.identity and sync.without_timeline(s.target_identity) = sync.without_timeline(n.identity)
  union all
  -- A restored dump writes the rows again. Who wrote a first identity stands in the row, and nobody updates such a
  -- row.
  select format('rows were written again by transaction %s', i.xmin)
    from public.sync_identities i
   where i.source_id = p_source_id and i.side = 'target' and i.refused = 0
     and i.xmin::text::numeric <> i.inserted_by::text::numeric % 4294967296
  union all
  -- An installation that has begun nothing has nothing that could have been put back.
  select format('the cache remembers execution %s, and the last one here is %s', p_remembered, l.ordinal)
    from (select coalesce(max(ordinal), 0) as ordinal from public.sync_executions) l
   where p_remembered > l.ordinal and sync.known_identity(p_source_id, 'target') is not null
  union all
  -- A sign that was seen once is asked about until somebody answers.
  select identity from public.sync_identities where source_id = p_source_id and side = 'target_state' and accepted_at is null
$$;
comment on function sync.signs_of_restore(smallint, bigint) is
  'What tells that this database was put back to an older state. p_remembered: the last execution that the cache '
  'remembers; null: it remembers none.';

create function sync.met_identities(p_source_id smallint, p_met jsonb) returns table (side text, identity text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select m.key, m.value from jsonb_each_text(p_met - 'remembered') m
  union all
  select 'target', sync.without_timeline(sync.target_identity())
  union
  select 'target_state', s from sync.signs_of_restore(p_source_id, (p_met ->> 'remembered')::bigint) s
$$;
comment on function sync.met_identities(smallint, jsonb) is
  'Who meets here: what the functions say (as for sync.new_identities), this database, and what tells of its state.';

create function sync.note_page_ahead(p_chain uuid, p_page integer) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  -- The queue may serve several sources: whichever sent the page, all of them lie in the database that has forgotten
  -- it.
  insert into public.sync_identities (source_id, side, identity)
  select s.id, 'target_state', format('page %s of chain %s was sent, and is not known here', p_page, p_chain)
    from public.sync_sources s
   where sync.known_identity(s.id, 'target') is not null
     -- A message is tried again for hours, and a dead letter can be sent again for some days.
     and (s.forgotten_at < now() - interval '8 days' or exists (select from public.sync_chains where id = p_chain))
     and not exists (select from public.sync_identities i where i.source_id = s.id and i.side = 'target_state' and i.accepted_at is null)
$$;
comment on function sync.note_page_ahead(uuid, integer) is
  'A page is sent after the commit that leads to it. One that this database does not know tells that the database '
  'was put back: it is asked about, by one question at a time.';

create function sync.new_identities(p_source_id smallint, p_met jsonb) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(jsonb_build_object('side', m.side, 'identity', m.identity,
                            'known', case when m.side <> 'target_state' then sync.known_identity(p_source_id, m.side) end) order by m.side, m.identity), '[]')
    from sync.met_identities(p_source_id, p_met) m
   where sync.is_new_identity(p_source_id, m.side, m.identity)
$$;
comment on function sync.new_identities(smallint, jsonb) is
  'Of the identities that meet here, those that a person has to accept: [{side, identity, known}]. p_met: {source, '
  'source_address, target_address, installation, remembered: the last execution that the cache knows}; this database '
  'is always asked.';

create function sync.ask_for_identities(p_source_id smallint, p_met jsonb, p_database_name text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_new   jsonb := sync.new_identities(p_source_id, p_met);
  v_asked jsonb := '[]';
  v_one   record;
  v_id    uuid;
begin
  for v_one in select * from jsonb_to_recordset(v_new) as n (side text, identity text, known text) loop
    insert into public.sync_identities as i (source_id, side, identity, database_name)
    values (p_source_id, v_one.side, v_one.identity, case v_one.side when 'source' then p_database_name end)
    on conflict (source_id, side, identity) where accepted_at is null do update set last_seen_at = now(), refused = i.refused + 1
    returning id into v_id;
    v_asked := v_asked || jsonb_build_object('id', v_id, 'side', v_one.side, 'identity', v_one.identity, 'known', v_one.known);
    perform sync.raise_alert(v_one.side || '_unknown', 'critical', p_source_id, null, null,
      case when v_one.side = 'target_state' then 'This database seems to have been put back to an older state'
           else 'Another ' || replace(v_one.side, '_', ' ') || ' than the one known here' end || ': nothing begins until a person accepts it in sync_identities, or what is configured is corrected.',
      jsonb_build_object('identity', v_one.identity, 'known', v_one.known, 'id', v_id));
  end loop;
  perform sync.close_alerts(array(select a.id from public.sync_alerts a
   where a.source_id = p_source_id and a.closed_at is null and a.kind in ('source_unknown', 'target_unknown', 'target_state_unknown', 'installation_unknown', 'source_address_unknown', 'target_address_unknown')
     and (a.kind in ('target_unknown', 'target_state_unknown') or p_met ? replace(a.kind, '_unknown', ''))
     and not v_new @> jsonb_build_array(jsonb_build_object('side', replace(a.kind, '_unknown', '')))));
  return v_asked;
end
$$;
comment on function sync.ask_for_identities(smallint, jsonb, text) is
  'As sync.new_identities, and puts each to a person: a row of sync_identities and an alert. Closes the alerts of '
  'those that are known. p_database_name: the source''s.';

create function sync.keep_identities(p_source_id smallint, p_met jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if sync.new_identities(p_source_id, p_met) <> '[]' then
    raise exception 'another database or installation than the known one has come between'
      using errcode = 'IS060', detail = jsonb_build_object('unknown', sync.new_identities(p_source_id, p_met))::text;
  end if;
  insert into public.sync_identities (source_id, side, identity)
  select p_source_id, m.side, m.identity
    from sync.met_identities(p_source_id, p_met) m
   where m.side <> 'target_state' and sync.known_identity(p_source_id, m.side) is null
   order by m.side;
end
$$;
comment on function sync.keep_identities(smallint, jsonb) is
  'In the commit that begins an execution: the first identities become the known ones. Raises IS060 for one that is '
  'new.';

create function sync.check_parties(p_execution public.sync_executions, p_parties jsonb) returns void
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if sync.is_new_identity(p_execution.source_id, 'target', sync.without_timeline(sync.target_identity()))
    or sync.is_new_identity(p_execution.source_id, 'target_address', p_parties ->> 'target_address') then
    raise exception 'this database, or its address, is another one than the known target'
      using errcode = 'IS061';
  end if;
  if exists (select from sync.signs_of_restore(p_execution.source_id, null) s where sync.is_new_identity(p_execution.source_id, 'target_state', s)) then
    raise exception 'this database seems to have been put back to an older state, and nobody has accepted that'
      using errcode = 'IS061';
  end if;
  -- A plan may read what nobody has accepted yet.
  if not p_execution.dry_run and sync.is_new_identity(p_execution.source_id, 'source_address', p_parties ->> 'source_address') then
    raise exception 'the source is looked for at another address than the known ones'
      using errcode = 'IS062';
  end if;
end
$$;
comment on function sync.check_parties(public.sync_executions, jsonb) is
  'Before a page is taken: raises IS061 in a database that is a copy, was put back, stands in the place of another '
  'one or is met at a new address; IS062 where the source has a new address. p_parties: {target_address, '
  'source_address}.';

revoke all on function sync.known_identity(smallint, text), sync.is_new_identity(smallint, text, text), sync.stamp_identity(),
  sync.target_identity(), sync.without_timeline(text), sync.signs_of_restore(smallint, bigint), sync.met_identities(smallint, jsonb),
  sync.note_page_ahead(uuid, integer), sync.new_identities(smallint, jsonb), sync.ask_for_identities(smallint, jsonb, text),
  sync.keep_identities(smallint, jsonb), sync.check_parties(public.sync_executions, jsonb) from public;
grant execute on function sync.known_identity(smallint, text), sync.is_new_identity(smallint, text, text), sync.target_identity(),
  sync.without_timeline(text), sync.signs_of_restore(smallint, bigint), sync.met_identities(smallint, jsonb), sync.note_page_ahead(uuid, integer),
  sync.new_identities(smallint, jsonb), sync.ask_for_identities(smallint, jsonb, text),
  sync.keep_identities(smallint, jsonb), sync.check_parties(public.sync_executions, jsonb) to isthmus_worker;
