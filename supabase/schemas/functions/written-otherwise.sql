-- Purpose: tell what the target made of a write: cancelled without an error, or changed on its way into the row.
-- Locks:   none beyond those of the statements.
--
-- What a row should hold, written or left alone, is compared with what it holds when the statement and all triggers
-- are through. A write that left no trace is undone as a whole (IS004), and its record goes to the queue. A value
-- that the target changed stays as the target has it, for many triggers normalise what they get; sync_warnings names
-- the record for as long as the two differ.

create function sync.named_triggers(p_table regclass, p_before text, p_after text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with found as (
    -- 66: before, or instead of.
    select t.tgname::text as name,
           concat_ws(' ', p.proname, p.prosrc, encode(t.tgargs, 'escape')) ~* case when t.tgtype & 66 <> 0 then p_before else p_after end as says
      from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
     where not t.tgisinternal and t.tgenabled in ('O', 'A')
       -- 4, 16: of an insert, of an update.
       and t.tgtype & 20 <> 0
       -- 1: for each row. One of the whole statement is the named table's alone, and meets its rows when they are
       -- written.
       and case when t.tgtype & 1 = 1 then t.tgrelid = p_table or t.tgrelid in (select relid from pg_catalog.pg_partition_tree(p_table))
                else t.tgrelid = p_table and t.tgtype & 66 = 0 end
    union
    select 'rule ' || r.rulename, r.is_instead from pg_catalog.pg_rewrite r
     where r.ev_class = p_table and r.ev_type in ('2', '3') and r.ev_enabled in ('O', 'A'))
  select string_agg(distinct f.name, ', ' order by f.name) from found f
   where f.says or not exists (select from found where says)
$$;
comment on function sync.named_triggers(regclass, text, text) is
  'The triggers of a table that may touch its rows when they are written, as a list of names: those whose function '
  'says so (regular expressions over its text, for triggers before and after the write), or else all. Null: there is '
  'none.';

create function sync.words(p_words text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg('\m' || regexp_replace(w, '(\W)', '\\\1', 'g') || '\M', '|') from pg_catalog.unnest(p_words) w
$$;
comment on function sync.words(text[]) is 'A regular expression that finds any of these words. Null: there are none.';

create function sync.cancelling_triggers(p_table regclass, p_fields text[]) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- After the write nothing cancels it but what takes the row away.
  select sync.named_triggers(p_table, concat_ws('|', '\mreturn\s+(null|old)\M|\msuppress_redundant_updates_trigger\M', sync.words(p_fields)),
                             concat_ws('|', '\mdelete\M', sync.words(p_fields)))
$$;
comment on function sync.cancelling_triggers(regclass, text[]) is
  'The triggers and rules that may cancel a write to a table, or undo that of these fields (null: of none), as a '
  'list of names.';

create function sync.altering_triggers(p_table regclass, p_fields text[]) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.named_triggers(p_table, sync.words(p_fields), sync.words(p_fields))
$$;
comment on function sync.altering_triggers(regclass, text[]) is
  'The triggers and rules that may change what is written into fields of a table, as a list of names.';

create function sync.refuse_writes(p_from integer, p_to integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_cancelled text := (select string_agg(n::text, ',' order by n) from pg_temp.page_plan where n between p_from and p_to and cancelled);
begin
  if v_cancelled is not null then
    raise exception using errcode = 'IS004', message = 'the target has cancelled a write without an error', detail = v_cancelled;
  end if;
  if exists (select from pg_temp.page_plan where n between p_from and p_to and altered) then
    raise exception using errcode = 'IS001', message = 'the target cannot hold a value exactly, or changed a number on write';
  end if;
end
$$;
comment on function sync.refuse_writes(integer, integer) is
  'Raises IS004 when the target has cancelled a write of the slice, IS001 when it cannot hold a value exactly or has '
  'changed a number on write, as pg_temp.page_plan says.';

create function sync.page_otherwise() returns table (legacy_id bigint, field text)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select q.legacy_id, f.field from pg_temp.page_plan q cross join lateral pg_catalog.unnest(q.otherwise) f (field)
   where q.otherwise is not null
  union all
  -- Written by an earlier page, and as it was left then: the two still differ.
  select q.legacy_id, e.key
    from pg_temp.page_plan q cross join lateral jsonb_each(q.new) e
   where q.action in ('update', 'unchanged', 'review') and q.seen::text <> q."left"::text and (q.written ? e.key) is not true
     and (q.now -> e.key)::text <> e.value::text and (q.now -> e.key)::text = (q."left" -> e.key)::text and e.value::text = (q.seen -> e.key)::text
  union all
  select q.legacy_id, f.field
    from pg_temp.page_plan q cross join lateral unnest(q.reprinted) f (field)
   where q.action in ('update', 'unchanged', 'review') and (q.written ? f.field) is not true and q.now -> f.field is not distinct from q.new -> f.field;
end
$$;
comment on function sync.page_otherwise() is
  'In which fields the rows of a page hold something else than the sync wrote or left alone, now or before, though '
  'nobody has edited them since.';

create function sync.tell_otherwise(p_entity public.sync_entities, p_execution uuid, p_fields text[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table  regclass := to_regclass(format('public.%I', p_entity.target_table));
  v_fields jsonb;
begin
  select pg_catalog.jsonb_agg(jsonb_build_object('field', f.field, 'triggers', sync.altering_triggers(v_table, array[f.field])) order by f.field)
    into v_fields
    from (select distinct x.field from pg_catalog.unnest(p_fields) x (field)) f;
  if v_fields is null then
    return;
  end if;
  perform sync.raise_alert('written_otherwise', 'warning', p_entity.source_id, p_execution, p_entity.id,
    format('The target changes what is written into %s: %s. The rows hold something else than was written, and no comparison will say so. sync_warnings names the records. Do not fill these fields in the entity file, or change the trigger.',
      p_entity.entity_type, (select string_agg((f ->> 'field') || coalesce(' (trigger ' || (f ->> 'triggers') || ')', ''), ', ') from jsonb_array_elements(v_fields) f)),
    jsonb_build_object('fields', v_fields));
end
$$;
comment on function sync.tell_otherwise(public.sync_entities, uuid, text[]) is
  'Raises the alert written_otherwise when the target has changed what was written: which fields, and which triggers.';

revoke all on function sync.named_triggers(regclass, text, text), sync.words(text[]), sync.cancelling_triggers(regclass, text[]), sync.altering_triggers(regclass, text[]), sync.refuse_writes(integer, integer),
  sync.page_otherwise(), sync.tell_otherwise(public.sync_entities, uuid, text[]) from public;
grant execute on function sync.named_triggers(regclass, text, text), sync.words(text[]), sync.cancelling_triggers(regclass, text[]), sync.altering_triggers(regclass, text[]), sync.refuse_writes(integer, integer),
  sync.page_otherwise(), sync.tell_otherwise(public.sync_entities, uuid, text[]) to isthmus_worker;
grant execute on function sync.named_triggers(regclass, text, text), sync.words(text[]), sync.cancelling_triggers(regclass, text[]), sync.altering_triggers(regclass, text[]),
  sync.tell_otherwise(public.sync_entities, uuid, text[]) to isthmus_decisions;
