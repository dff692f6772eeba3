-- Purpose: load records of a page that refer to each other before they have landed: together, or not at all.
-- Locks:   none beyond those of the statements.
--
-- One INSERT of all satisfies a foreign key of the table to itself, deferrable or not, which is checked when the
-- statement ends. Halving such records would part them: so when they are refused, each is tried alone first, and who
-- is refused for another reason than that its parent is missing is told. Those that need it wait for it, and the
-- others are tried together again.

create function sync.undo_slice() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = 'IS003', message = 'only tried';
end
$$;
comment on function sync.undo_slice() is 'Raises IS003: a slice that was only tried is undone.';

create function sync.part_relatives() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  loop
    update pg_temp.page_relatives r set state = 'waits', field = w.field, parent = w.parent
      from (select distinct on (p.n) p.n, e.key as field, e.value::bigint as parent
              from pg_temp.page_relatives o join pg_temp.page_rows p on p.n = o.n
              cross join lateral jsonb_each_text(p._together) e
             where o.state = 'open'
               and (select q.n from pg_temp.page_plan q where q.legacy_id = e.value::bigint and q.action = 'insert' limit 1) is null
               and (select x.n from pg_temp.page_relatives x where x.k = e.value::bigint and x.state = 'open' limit 1) is null
             order by p.n, e.key) w
     where r.n = w.n;
    exit when not found;
  end loop;
end
$$;
comment on function sync.part_relatives() is
  'Which of the open records in pg_temp.page_relatives need one that has neither landed with this page nor is open: '
  'they wait for it.';

create function sync.try_relatives(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[], p_members integer[]) returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_from   integer := (select max(n) + 1 from pg_temp.page_rows);
  v_to     integer := v_from + cardinality(p_members) - 1;
  v_writes text[] := p_writes || 'set constraints all immediate'::text;
  v_error  text[];
begin
  update pg_temp.page_rows p set n = v_from + x.i - 1 from pg_catalog.unnest(p_members) with ordinality x (n, i) where p.n = x.n;
  update pg_temp.page_relatives p set n = v_from + x.i - 1 from pg_catalog.unnest(p_members) with ordinality x (n, i) where p.n = x.n;
  v_error := sync.try_slice(p_reads, false, v_from, v_to);
  if v_error is null then
    -- One that does not land although nothing refuses it: its own reason is told, and nobody may refer to it.
    update pg_temp.page_relatives r set state = 'told' from pg_temp.page_plan q
     where q.n = r.n and q.n between v_from and v_to and q.action in ('ambiguous', 'target_unmapped', 'target_deleted');
    if found then
      delete from pg_temp.page_plan q where q.n between v_from and v_to and q.action not in ('ambiguous', 'target_unmapped', 'target_deleted');
      return array['IS003'];
    end if;
    v_error := sync.try_slice(v_writes, false, v_from, v_to);
    -- AND would go on behind a null.
    if coalesce(v_error[1] = '23505', false) and sync.find_givers(p_entity, p_schema, v_from, v_to) then
      v_error := sync.try_exchange(p_entity, p_schema, sync.prepare_statements('vacate', sync.vacate_statements(p_entity, p_schema)),
        sync.prepare_statements('together', v_writes), sync.prepare_statements('restore', sync.restore_statements(p_entity, p_schema)), false, v_from, v_to);
      perform sync.forget_statements('(together|vacate|restore)');
    end if;
  end if;
  if v_error is null then
    update pg_temp.page_relatives set state = 'landed' where n between v_from and v_to;
  else
    delete from pg_temp.page_plan where n between v_from and v_to;
  end if;
  return v_error;
end
$$;
comment on function sync.try_relatives(public.sync_entities, text, text[], text[], integer[]) is
  'Loads these records n of pg_temp.page_relatives together, under new numbers, or none of them: null, or the error. '
  'IS003: some of them are not to land, and now told.';

-- Plans as in sync.bisect_slice.
create function sync.reject_relatives(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[]) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_prepared text[] := sync.prepare_statements('alone', p_reads || p_writes || array['set constraints all immediate', 'select sync.undo_slice()']);
  v_to_itself text[] := array(select conname::text from pg_catalog.pg_constraint
                               where contype = 'f' and conrelid = confrelid and conrelid = to_regclass(format('public.%I', p_entity.target_table)));
  v_error    text[];
  v_clash    text;
  v_other    uuid;
  v_n        integer;
  v_some     boolean := false;
begin
  for v_n in select n from pg_temp.page_relatives where state = 'open' order by n loop
    v_error := sync.try_slice(v_prepared, true, v_n, v_n);
    continue when v_error[1] = 'IS003' or v_error[1] = '23503' and v_error[2] = any (v_to_itself);
    v_clash := case when v_error[1] = '23505' then sync.clash_sql(p_entity, p_schema, v_error[2]) end;
    v_other := null;
    if v_clash is not null then
      execute v_clash into v_other using v_n;
    end if;
    insert into pg_temp.page_rejects (n, sqlstate, constraint_name, column_name, other) values (v_n, v_error[1], v_error[2], v_error[3], v_other);
    update pg_temp.page_relatives set state = 'rejected' where n = v_n;
    perform sync.name_unfit_columns(p_entity, v_n, v_n);
    v_some := true;
  end loop;
  perform sync.forget_statements('alone');
  return v_some;
end
$$;
comment on function sync.reject_relatives(public.sync_entities, text, text[], text[]) is
  'Puts those of the open records in pg_temp.page_relatives into pg_temp.page_rejects that the database refuses '
  'alone, and not for their parent; whether there are any.';

create function sync.load_relatives(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_open   integer[];
  v_next   integer[];
  v_circle integer[];
  v_error  text[];
begin
  insert into pg_temp.page_relatives (n, k) select n, _key from pg_temp.page_rows where _together is not null;
  create index on pg_temp.page_relatives (k);
  create index on pg_temp.page_plan (legacy_id);
  loop
    perform sync.part_relatives();
    v_open := array(select n from pg_temp.page_relatives where state = 'open' order by n);
    if v_open = '{}' then
      return;
    end if;
    v_error := sync.try_relatives(p_entity, p_schema, p_reads, p_writes, v_open);
    if v_error is null then
      return;
    end if;
    continue when v_error[1] = 'IS003';
    exit when not sync.reject_relatives(p_entity, p_schema, p_reads, p_writes);
  end loop;
  -- Refused only together: those that lead in a circle are tried circle by circle, the others wait for their parents.
  with member as (select r.n, r.k, (row_number() over (order by r.n))::integer as i from pg_temp.page_relatives r where r.state = 'open')
  select pg_catalog.array_agg(m.n order by m.i), pg_catalog.array_agg(t.i order by m.i) into v_open, v_next
    from member m join pg_temp.page_rows p on p.n = m.n
    left join lateral (select e.value::bigint as k from jsonb_each_text(p._together) e
                        where exists (select from member x where x.k = e.value::bigint) order by e.key limit 1) f on true
    left join member t on t.k = f.k;
  update pg_temp.page_relatives set state = 'later' where state = 'open';
  for v_circle in select array(select v_open[x] from pg_catalog.unnest(c) x) from sync.circles(v_next) c loop
    update pg_temp.page_relatives set state = 'open' where n = any (v_circle);
    perform sync.part_relatives();
    v_circle := array(select n from pg_temp.page_relatives where state = 'open' order by n);
    continue when v_circle = '{}';
    v_error := sync.try_relatives(p_entity, p_schema, p_reads, p_writes, v_circle);
    insert into pg_temp.page_rejects (n, sqlstate, constraint_name, column_name)
    select n, v_error[1], v_error[2], v_error[3] from pg_temp.page_relatives where state = 'open' and v_error is not null;
    update pg_temp.page_relatives set state = 'rejected' where state = 'open';
  end loop;
  update pg_temp.page_relatives r set state = 'waits', field = e.key, parent = e.value::bigint
    from pg_temp.page_rows p cross join lateral (select e.key, e.value from jsonb_each_text(p._together) e order by e.key limit 1) e
   where r.state = 'later' and p.n = r.n;
end
$$;
comment on function sync.load_relatives(public.sync_entities, text, text[], text[]) is
  'Loads the records of a page that refer to each other before they have landed. In pg_temp.page_relatives stands '
  'what became of them: landed, rejected, told, or waits (for the record parent, by field).';

revoke all on function sync.undo_slice(), sync.part_relatives(), sync.try_relatives(public.sync_entities, text, text[], text[], integer[]),
  sync.reject_relatives(public.sync_entities, text, text[], text[]), sync.load_relatives(public.sync_entities, text, text[], text[]) from public;
grant execute on function sync.undo_slice(), sync.part_relatives(), sync.try_relatives(public.sync_entities, text, text[], text[], integer[]),
  sync.reject_relatives(public.sync_entities, text, text[], text[]),
  sync.load_relatives(public.sync_entities, text, text[], text[]) to isthmus_worker;
