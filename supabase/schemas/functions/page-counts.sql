-- Purpose: what the pages of a chain have counted, added up page by page: a sum over an execution costs its chains,
--          however many pages it has.
-- Locks:   the chain's row, which the page holds.

create function sync.count_page() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  update public.sync_chains c
     set counts = (select jsonb_object_agg(s.key, s.n)
                     from (select j.key, sum(j.value::numeric) as n
                             from (select * from jsonb_each_text(c.counts)
                                   union all
                                   select * from jsonb_each_text(jsonb_strip_nulls(jsonb_build_object('pages', 1, 'read', new.read, 'inserted', new.inserted,
                                     'updated', new.updated, 'unchanged', new.unchanged, 'deleted', new.deleted, 'waiting', new.waiting,
                                     'in_conflict', new.in_conflict, 'waived', new.waived, 'absent', new.absent, 'surplus', new.surplus,
                                     'overwritten', new.overwritten, 'cache_lookups', new.cache_lookups, 'cache_hits', new.cache_hits,
                                     'wall_ms', new.wall_ms)))
                                   union all
                                   select 'waived by ' || new.waived_by, new.waived::text where new.waived > 0
                                   union all
                                   select 'nulled ' || n.key, n.value from jsonb_each_text(coalesce(new.nulled, '{}')) n) j
                            group by j.key) s)
   where c.id = new.chain_id;
  return null;
end
$$;
comment on function sync.count_page() is 'Adds what a page has counted to the counts of its chain.';
create trigger count_page after insert on public.sync_page_log for each row execute function sync.count_page();

create function sync.counted(p_execution uuid, p_entity_id smallint default null) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(s.key, s.n), '{}')
    from (select j.key, sum(j.value::numeric) as n
            from public.sync_chains c cross join lateral jsonb_each_text(c.counts) j
           where c.execution_id = p_execution and (p_entity_id is null or c.entity_id = p_entity_id)
           group by j.key) s
$$;
comment on function sync.counted(uuid, smallint) is
  'What the pages of an execution have counted, of one entity or of all: the columns of sync_page_log by name, '
  'pages, waived by <rule> and nulled <column>. What no page has counted is missing.';

revoke all on function sync.count_page(), sync.counted(uuid, smallint) from public;
grant execute on function sync.counted(uuid, smallint) to isthmus_worker;
