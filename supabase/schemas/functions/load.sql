-- Purpose: reconcile and write the records of one page.
-- Locks:   the target rows of the page, in id order, until the page commits.

-- Settings are pinned, so that a comparison never depends on the session.
create function sync.load_records(p_entity public.sync_entities, p_records json, p_left bigint[], p_soft bigint[], p_dry_run uuid, p_of_request text)
returns void
language plpgsql security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_schema text := case when p_dry_run is null then 'public' else 'pg_temp' end;
  v_count  integer;
  v_apart  integer;
  v_left   integer;
  v_soft   integer;
  v_reads  text[];
  v_writes text[];
begin
  if p_entity.adoption_epoch = 0 and p_dry_run is null then
    raise exception 'entity %: nothing may be minted before the target''s ids are adopted', p_entity.entity_type
      using errcode = 'IS021', hint = 'Start the execution through sync-trigger, which checks the target first.';
  end if;
  -- Tells application triggers that this is the sync and not a person.
  perform set_config('isthmus.sync', 'on', true);

  create temp table page_plan (
    n integer primary key, legacy_id bigint not null, id uuid not null, action text not null,
    new jsonb, seen jsonb, "left" jsonb, now jsonb, changed jsonb, written jsonb, decided jsonb, raw jsonb, digest bigint,
    held xid, fields text, altered boolean not null default false, cancelled boolean not null default false, otherwise text[], restated boolean not null default false,
    prints jsonb, reprinted text[], reworded text[]
  ) on commit drop;
  create temp table page_relatives (n integer primary key, k bigint not null, state text not null default 'open', field text, parent bigint)
    on commit drop;
  create temp table page_rejects (n integer primary key, sqlstate text not null, constraint_name text, column_name text, other uuid, stuck boolean not null default false)
    on commit drop;
  execute (
    select format(
      'create temp table page_rows on commit drop as
         select (row_number() over (order by x._together is not null, x._uuid))::integer as n, false as _leaves,
                x._key, x._uuid, x._raw, x._digest, x._together, %s
           from json_to_recordset($1) as x (_key bigint, _uuid uuid, _raw jsonb, _digest bigint, _together jsonb, _values json)
          cross join lateral json_to_record(x._values) as v (%s)',
      string_agg(format('v.%I as %s', c.name, c.slot), ', '), string_agg(format('%I text', c.name), ', '))
      from sync.field_slots(p_entity) c)
    using p_records;
  get diagnostics v_count = row_count;
  if p_dry_run is null and v_count > 0 and cardinality(p_left || p_soft) = 0 and sync.load_new(p_entity, v_count) then
    return;
  end if;
  if p_dry_run is not null then
    perform sync.shadow_page(p_dry_run, p_entity, p_left || p_soft);
  end if;
  v_left := sync.leaving_rows(p_entity, v_schema, v_count, p_left);
  v_soft := sync.leaving_rows(p_entity, v_schema, v_count + v_left, p_soft);
  if v_count + v_left + v_soft = 0 then
    return;
  end if;
  create unique index on pg_temp.page_rows (n);
  analyze pg_temp.page_rows;

  if p_dry_run is null then
    execute format(
      'select count(*) from (select _uuid from pg_temp.page_rows order by _uuid offset 0) p cross join lateral (select 1 from public.%I t where t.id = p._uuid for no key update of t) l',
      p_entity.target_table);
  end if;
  if p_dry_run is null and v_left > 0 then
    -- Against rows that begin to refer to them: whether there are any is asked by the statement after this one.
    execute format(
      'select count(*) from (select _uuid from pg_temp.page_rows where _leaves order by _uuid offset 0) p cross join lateral (select 1 from public.%I t where t.id = p._uuid for update of t) l',
      p_entity.target_table);
  end if;
  select count(*) into v_apart from pg_temp.page_rows where _together is not null;
  if v_count > 0 then
    v_reads := array[sync.classify_statement(p_entity, v_schema, p_of_request)] || sync.twin_statements(p_entity)
      || case when p_dry_run is not null then sync.clash_statements(p_dry_run, p_entity) else '{}' end;
    v_writes := sync.write_statements(p_entity, v_schema) || case when p_dry_run is not null then sync.reference_statements(p_dry_run, p_entity) else '{}' end;
    if v_count > v_apart then
      perform sync.load_slice(p_entity, v_schema, v_reads, v_writes, 1, v_count - v_apart);
      perform sync.load_circles(p_entity, v_schema, v_reads, v_writes);
    end if;
    if v_apart > 0 then
      perform sync.load_relatives(p_entity, v_schema, v_reads, v_writes);
    end if;
  end if;
  if v_left > 0 then
    v_writes := sync.leave_statements(p_entity, p_dry_run);
    perform sync.load_slice(p_entity, v_schema, v_writes[:1], v_writes[2:], v_count + 1, v_count + v_left);
    if p_dry_run is null then
      perform sync.delete_relatives(p_entity, v_writes[:1], v_writes[2:]);
    end if;
  end if;
  if v_soft > 0 then
    v_writes := sync.soft_statements(p_entity, p_dry_run);
    perform sync.load_slice(p_entity, v_schema, v_writes[:1], v_writes[2:], v_count + v_left + 1, v_count + v_left + v_soft);
  end if;
end
$$;
comment on function sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) is
  'Loads the records of a page: [{_key, _uuid, _raw, _digest, _together, _values: {<column>: text}}], deletes those '
  'of the legacy ids p_left that have landed, and marks those of p_soft. Leaves pg_temp.page_plan and '
  'pg_temp.page_rejects for the commit. p_dry_run: the execution whose plan it is; then everything is written to '
  'shadows. p_of_request: as for sync.field_strategies.';

revoke all on function sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) from public;
grant execute on function sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) to isthmus_worker;
