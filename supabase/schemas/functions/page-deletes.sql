-- Purpose: what becomes of the records of a page that the source no longer has or no longer lets in.

create function sync.leaving(p_entity public.sync_entities, p_outside bigint[]) returns bigint[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select case when p_entity.predicate ->> 'on_leave' = 'delete' then p_outside else '{}' end $$;
comment on function sync.leaving(public.sync_entities, bigint[]) is
  'Of the records outside the predicate, those that are deleted where they have landed.';

create function sync.gone_landed(p_entity public.sync_entities, p_page jsonb, p_dry_run uuid) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(array_agg(g::bigint order by g::bigint), '{}')
    from jsonb_array_elements_text(p_page -> 'gone') g
    left join lateral (select m.legacy_id from public.uuid_mappings_enhanced m
                        where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = g::bigint and m.sync_status = 'active' limit 1) m on true
    left join lateral (select r.lands from public.sync_planned_records r
                        where r.execution_id = p_dry_run and r.entity_id = p_entity.id and r.legacy_id = g::bigint and r.lands is not null limit 1) r on true
   where coalesce(r.lands, m.legacy_id is not null)
     and (r.lands is true
          or (select s.gone_at from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = g::bigint and s.outside is null) is null)
$$;
comment on function sync.gone_landed(public.sync_entities, jsonb, uuid) is
  'Of the keys of a page that have no record, those that had landed, kept outside their predicate or not, and are '
  'not known to be gone. p_dry_run: as this dry run has planned it.';

create function sync.without_row(p_entity public.sync_entities, p_ids bigint[]) returns bigint[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ids bigint[];
begin
  execute format('select coalesce(array_agg(m.legacy_id), ''{}'') from public.uuid_mappings_enhanced m
                   where m.source_id = $1 and m.entity_type = $2 and m.legacy_id = any ($3)
                     and not exists (select from public.%I t where t.id = m.entity_uuid)', p_entity.target_table)
    into v_ids using p_entity.source_id, p_entity.entity_type, p_ids;
  return v_ids;
end
$$;
comment on function sync.without_row(public.sync_entities, bigint[]) is
  'Of landed records, those whose target row somebody has deleted.';

create function sync.asked_to_delete(p_entity public.sync_entities, p_gone bigint[]) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(
    select k from unnest(p_gone) k
     where (select c.rule from public.sync_conflicts c
             where c.entity_id = p_entity.id and c.source_record_id = k and c.state = 'open' limit 1) = 'deleted_in_source'
        or p_entity.on_delete ->> 'policy' = 'hard'
           and (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = k) is null
    except select unnest(sync.without_row(p_entity, p_gone)))
$$;
comment on function sync.asked_to_delete(public.sync_entities, bigint[]) is
  'Of records that the source no longer has, those of which a person is asked whether their rows go: was asked '
  'before, or the sync does not know that it wrote them (put back, or never reconciled).';

create function sync.deleting(p_chain public.sync_chains, p_entity public.sync_entities, p_policy text, p_gone bigint[]) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when not p_chain.deletes then '{}'
              when p_entity.on_delete ->> 'policy' = p_policy then array(select unnest(p_gone) except select unnest(a.keys))
              when p_policy = 'review' then a.keys
              -- What a person has deleted already is only forgotten.
              when p_policy = 'soft' and p_entity.on_delete ->> 'policy' = 'review' then sync.without_row(p_entity, p_gone)
              else '{}' end
    -- What a person has been asked is theirs to decide, whatever the entity says by now.
    from (select case when p_chain.deletes and p_entity.on_delete ->> 'policy' in ('hard', 'soft') then sync.asked_to_delete(p_entity, p_gone) else '{}' end as keys) a
$$;
comment on function sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]) is
  'Of the records that the source no longer has, those that this page deletes in one way: hard or soft, or puts to '
  'review.';

create function sync.deletes_to_review(p_chain public.sync_chains, p_entity public.sync_entities, p_gone bigint[]) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(jsonb_build_object('k', k, 'state', 'open', 'type', 'business_rule_violation', 'rule', 'deleted_in_source',
           'retry', 'person',
           'remedy', 'The source no longer has this record' || case when (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = k) is null
                       then ', and its target row is there without the sync having written it: somebody put it back, or an earlier migration left it' else '' end
                     || '. source_wins: its target row is deleted too. target_wins: the row stays.')), '[]')
    from unnest(sync.deleting(p_chain, p_entity, 'review', p_gone)) k
   where k <> all (sync.without_row(p_entity, p_gone))
$$;
comment on function sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]) is
  'The records that the source no longer has and that a person decides on, as issues.';

create function sync.keep_gone(p_entity public.sync_entities, p_outside bigint[], p_gone bigint[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at, outside)
  select p_entity.id, k, '{}', '{}', now(), o.outside
    from (select unnest(case when p_entity.on_delete ->> 'policy' = 'ignore' then p_gone else '{}' end) as k, null as outside
          union all select unnest(case when p_entity.predicate ->> 'on_leave' = 'keep' then p_outside else '{}' end), true) o
   where exists (select from public.uuid_mappings_enhanced m
                  where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = k and m.sync_status = 'active')
  on conflict (entity_id, legacy_id) do update
     -- What a person has decided to keep, and what was gone, is no record outside: only that is looked for in the
     -- source.
     set gone_at = coalesce(s.gone_at, excluded.gone_at), outside = case when s.gone_at is null or s.outside then excluded.outside end, source_digest = null
$$;
comment on function sync.keep_gone(public.sync_entities, bigint[], bigint[]) is
  'Notes of landed records that their rows stay although the source no longer has them, or no longer wants them here.';

create function sync.missing_keys(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb) returns setof bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_from bigint := coalesce(p_chain."cursor", p_chain.range_from, '-9223372036854775808');
  v_to   bigint := case when (p_page ->> 'done')::boolean then coalesce(p_chain.range_to, 9223372036854775807) else (p_page ->> 'cursor')::bigint end;
begin
  if p_chain.capture <> 'full' then
    return;
  end if;
  return query execute format($q$
    select k.legacy_id
      from (select m.legacy_id from public.uuid_mappings_enhanced m
             where m.source_id = $1 and m.entity_type = $2 and m.legacy_id between $4 and $5
               -- Deleted, and its row is back.
               and (m.sync_status = 'active' or (select t.id from public.%I t where t.id = m.entity_uuid) is not null)
            -- Somebody may have removed its mapping.
            union select s.legacy_id from public.sync_row_states s where s.entity_id = $3 and s.legacy_id between $4 and $5
            except select p::bigint from jsonb_array_elements_text($7) p) k
     -- One index probe per record, whatever the planner thinks.
     where k.legacy_id is distinct from $6 and (select s.gone_at from public.sync_row_states s where s.entity_id = $3 and s.legacy_id = k.legacy_id and s.outside is null) is null
  $q$, p_entity.target_table) using p_entity.source_id, p_entity.entity_type, p_entity.id, v_from, v_to, p_chain."cursor", p_page -> 'present';
end
$$;
comment on function sync.missing_keys(public.sync_chains, public.sync_entities, jsonb) is
  'Records that landed, of which anything is known, in the key range of a full pass''s page, and that are not among '
  'its records.';

create function sync.ask_for_missing(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_gone bigint[], p_dry_run uuid)
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Looked at under its lock and gone: deleted at the end of the execution, when its children are.
  if not p_chain.deletes and p_entity.on_delete ->> 'policy' <> 'ignore' then
    insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason, gone)
    select p_dry_run, p_entity.id, k, 'gone', true from unnest(p_gone) k order by k
    on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = true;
  end if;
  -- Landed in the key range of a full pass that did not meet it: to be looked at.
  insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
  select p_dry_run, p_entity.id, k, 'missing' from sync.missing_keys(p_chain, p_entity, p_page) k order by k
  on conflict (entity_id, execution_id, legacy_id) do nothing;
end
$$;
comment on function sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[], uuid) is
  'Has landed records that the source does not have deleted, and those that a full pass did not meet looked at. '
  'p_dry_run: the dry run that asks.';

create function sync.page_surplus(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_chain.capture <> 'full' then
    return '{"count": 0}';
  end if;
  return sync.surplus_of(p_entity, p_chain."cursor", p_chain.range_from,
    case when (p_page ->> 'done')::boolean then coalesce(p_chain.range_to, 9223372036854775807) else (p_page ->> 'cursor')::bigint end);
end
$$;
comment on function sync.page_surplus(public.sync_chains, public.sync_entities, jsonb) is
  'Full passes only: target rows in the key range of the page that are no record, because another row is.';

revoke all on function sync.gone_landed(public.sync_entities, jsonb, uuid), sync.without_row(public.sync_entities, bigint[]),
  sync.asked_to_delete(public.sync_entities, bigint[]), sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]),
  sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]), sync.keep_gone(public.sync_entities, bigint[], bigint[]),
  sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[], uuid),
  sync.missing_keys(public.sync_chains, public.sync_entities, jsonb), sync.leaving(public.sync_entities, bigint[]),
  sync.page_surplus(public.sync_chains, public.sync_entities, jsonb) from public;
grant execute on function sync.gone_landed(public.sync_entities, jsonb, uuid), sync.without_row(public.sync_entities, bigint[]),
  sync.asked_to_delete(public.sync_entities, bigint[]), sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]),
  sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]), sync.keep_gone(public.sync_entities, bigint[], bigint[]),
  sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[], uuid),
  sync.missing_keys(public.sync_chains, public.sync_entities, jsonb), sync.leaving(public.sync_entities, bigint[]),
  sync.page_surplus(public.sync_chains, public.sync_entities, jsonb) to isthmus_worker;
