-- Purpose: reconcile and write the records of one page.
-- Locks:   the target rows of the page, in id order, until the page commits.
-- Reverse: drop the functions.

create function sync.owned_columns(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(format(case when c.recast then 't.%1$I::text as %1$I' else 't.%1$I' end, c.name), ', ') from sync.field_slots(p_entity) c
$$;
comment on function sync.owned_columns(public.sync_entities) is 'The columns of the target row t that the sync owns, as they are compared and kept.';

-- A hash that still fits stands for the present value; one that does not for a value of which nothing is known, '{}'. The
-- text of a jsonb is hashed: jsonb's own hash repeats itself every sixteen fields, so that two that change alike cancel out.
create function sync.seen_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case when s.seen_hash is null then s.seen when s.seen_hash = hashtextextended(v.new::text, 0) then v.new else '{}' end$q$;
comment on function sync.seen_sql() is 'What a row state s saw, given the new values v.new.';

create function sync.left_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case when s.left_hash is null then s."left" when s.left_hash = hashtextextended(o.now::text, 0) then o.now else '{}' end$q$;
comment on function sync.left_sql() is 'What a row state s left in the target, given the present values o.now.';

create function sync.decided_fields(p_decided jsonb, p_decision text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array_agg(key order by key) from jsonb_each_text(p_decided) where value = p_decision
$$;
comment on function sync.decided_fields(jsonb, text) is 'The fields of a record about which one thing was decided; null: none.';

create function sync.seen_but(p_new jsonb, p_seen jsonb, p_decided jsonb) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_new - f.names || sync.pick(coalesce(p_seen, '{}'), f.names) from (select sync.decided_fields(p_decided, 'review') as names) f
$$;
comment on function sync.seen_but(jsonb, jsonb, jsonb) is 'The new values as seen, but for the fields that a person is to decide.';

create function sync.classify_statement(p_entity public.sync_entities, p_schema text, p_of_request text) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_typed   text; -- the new values as typed columns of p
  v_fits    text; -- whether the target can hold all of them exactly
  v_current text := sync.owned_columns(p_entity); -- the same columns of the target row t
  v_target  text := sync.target_sql(p_entity, p_schema);
  v_reshape text := sync.reshaped_sql(p_entity, p_schema);
  v_edits   boolean := p_of_request is not distinct from 'overwrite_edits';
begin
  -- Compared is what the column would hold. Whether that is all of the value is asked beside it: a cast cuts without an error.
  select string_agg(format('(p.%s)::%s%s%s as %I', c.slot, c.type, '::' || nullif(c.exact, c.type), case when c.recast then '::text' end, c.name), ', '),
         coalesce(string_agg(format('%s is not false', sync.fits_sql(c.slot, c.type, c.exact)), ' and ')
                    filter (where sync.fits_sql(c.slot, c.type, c.exact) is not null), 'true')
    into v_typed, v_fits
    from sync.field_slots(p_entity) c;
  -- The target rows were locked by a statement before this one, which sees them as they will be written.
  return
    format($q$
      insert into pg_temp.page_plan (n, legacy_id, id, action, new, seen, "left", now, changed, written, decided, raw, digest, restated, altered, held)
      select r.n, r._key, r._uuid,
             case when r.undecided then 'ambiguous'
                  when r.t_id is null and r.seen is null and r.lands is not true then 'insert'
                  when r.t_id is null and %11$L = 'insert' and (
                    select k.rule from public.sync_conflicts k
                     where k.entity_id = %3$s and k.source_record_id = r._key and k.state = 'open' limit 1) = 'target_deleted' then 'target_deleted'
                  when r.t_id is null then %11$L
                  -- Mapped, and never reconciled (adopted, or back after it was deleted): every field is judged as if the source had changed it.
                  when r.seen is null and r.mapped is distinct from r._uuid then 'target_unmapped'
                  when c.decided @? '$.* ? (@ == "review")' then 'review'
                  when c.written <> '{}' then 'update'
                  else 'unchanged' end,
             r.new, r.seen, r."left", r.now, c.changed, c.written, c.decided, r._raw, r._digest, r.restated, not r.fits, r.held
        from (select p.n, p._key, p._uuid, p._raw, p._digest, v.new, %14$s as fits, %15$s as seen, %16$s as "left", t.id as t_id, t.xmin as held, o.now,
                     m.entity_uuid as mapped, m.lands, a.undecided,
                     p._raw is distinct from s.raw or (s.seen_hash is null) <> (%7$L = 'values')
                       or p._digest is distinct from s.source_digest or s.gone_at is not null as restated
                from pg_temp.page_rows p
                cross join lateral (select to_jsonb(x.*) as new from (select %1$s) x offset 0) v
                left join %2$s t on t.id = p._uuid
                left join %10$I.sync_row_states s on s.entity_id = %3$s and s.legacy_id = p._key
                -- One index probe per record that never landed, whatever the planner thinks.
                left join lateral (
                  select m.entity_uuid, m.sync_status = 'active' as lands from %10$I.uuid_mappings_enhanced m
                   where s.legacy_id is null and m.source_id = %5$s and m.entity_type = %6$L and m.legacy_id = p._key limit 1) m on true
                left join lateral (
                  select a.undecided from public.sync_adoption_rows a
                   where s.legacy_id is null and a.entity_id = %3$s and a.legacy_id = p._key and a.undecided limit 1) a on true
                cross join lateral (select to_jsonb(x.*) as now from (select %4$s) x offset 0) o
                cross join lateral (select o.now, %8$s as seen, %9$s as "left" offset 0) l
                %17$s
               where p.n between $1 and $2 offset 0) r
        cross join lateral (
          select coalesce(jsonb_object_agg(e.key, e.value) filter (where d.decision not in ('review', 'none', 'keep')), '{}') as changed,
                 coalesce(jsonb_object_agg(e.key, case when d.decision = 'merge' then sync.merge_objects(x.seen, x.source, x.target, x."left")
                                                       else x.source end)
                          filter (where d.decision in ('take', 'overwrite', 'merge')), '{}') as written,
                 jsonb_object_agg(e.key, d.decision) filter (where d.decision in ('overwrite', 'retain', 'merge', 'review')) as decided
            -- What a person has been asked, or has put back, is theirs to decide, whatever this execution would have done.
            from (select v.new, u.asked, u.put_back
                    from (select case when r.t_id is null or r.new = r.seen%18$s then '{}' else r.new end as new) v
                    left join lateral (
                      select k.asked, k.decisions > 0 as put_back from public.sync_conflicts k
                       where v.new <> '{}' and k.entity_id = %3$s and k.source_record_id = r._key and k.state in ('waiting', 'open') limit 1) u on true
                  offset 0) n
            cross join lateral jsonb_each(n.new) e
            cross join lateral (
              select e.value as source, r.seen -> e.key as seen, r.now -> e.key as target, r."left" -> e.key as "left",
                     case when n.put_back or e.key = any (n.asked) then 'manual_review'%20$s else %12$L::jsonb ->> e.key end as strategy) x
            cross join lateral (select %13$s as decision offset 0) d
           where e.value is distinct from r.seen -> e.key%19$s) c
    $q$, v_typed, v_target, p_entity.id, v_current, p_entity.source_id, p_entity.entity_type, p_entity.history,
      sync.seen_sql(), sync.left_sql(), p_schema, case p_entity.conflicts ->> 'deleted' when 'source_wins' then 'insert' else 'target_deleted' end,
      sync.field_strategies(p_entity, p_of_request), sync.decision_sql(), v_fits,
      -- What was decided on before holds no longer where DDL has emptied or changed the column.
      case when v_reshape is null then 'l.seen' else 'l.seen - d.fields' end,
      case when v_reshape is null then 'l."left"' else sync.left_or_reshaped_sql() end, coalesce(v_reshape, ''),
      -- Only where it was asked for, the fields are looked at too that the target alone has changed.
      case when v_edits then ' and r.now = r."left"' else '' end,
      case when v_edits then ' or r.now -> e.key is distinct from r."left" -> e.key' else '' end,
      case when v_edits then format(' when e.value is not distinct from r.seen -> e.key and sync.is_decided(%s::smallint, r._key, e.key) then ''target_wins''', p_entity.id) else '' end);
end
$$;
comment on function sync.classify_statement(public.sync_entities, text, text) is
  'The statement that classifies a slice of a page, into pg_temp.page_plan. $1, $2: the slice. p_schema: public, or pg_temp for a plan. p_of_request: as for sync.field_strategies.';

create function sync.write_statements(p_entity public.sync_entities, p_schema text) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_current text := sync.owned_columns(p_entity);
  v_target  text := sync.target_sql(p_entity, p_schema);
  v_kept    text := case p_entity.history
    when 'values' then 'new, "left", null, null'
    else 'null, null, hashtextextended(new::text, 0), hashtextextended("left"::text, 0)' end;
  v_names   text;
  v_values  text;
  v_sets    text;
  v_numbers text[];
begin
  select string_agg(format('%I', c.name), ', '),
         string_agg(format('(p.%s)::%s', c.slot, c.registered), ', '),
         string_agg(format('%1$I = case when q.written ? %1$L then %2$s else t.%1$I end', c.name,
                           format(case c.registered when 'jsonb' then 'case when q.decided ->> %1$L = ''merge'' then q.written -> %1$L else (p.%2$s)::jsonb end'
                                                    else '(p.%2$s)::%3$s' end, c.name, c.slot, c.registered)), ', '),
         coalesce(array_agg(c.name) filter (where c.registered = 'numeric'), '{}')
    into v_names, v_values, v_sets, v_numbers
    from sync.field_slots(p_entity) c;

  return array[
    -- Known before anything is written. Of one record, what the database says of it is told rather.
    'select sync.refuse_writes($1, $2) where $1 < $2',
    format($q$
      insert into %1$s (id, %2$s)
      select p._uuid, %3$s
        from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
       where p.n between $1 and $2 and q.action = 'insert'
       order by p._uuid
    $q$, v_target, v_names, v_values),
    format($q$
      update %1$s t set %2$s
        from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
       where p.n between $1 and $2 and q.action in ('update', 'review') and q.written <> '{}' and t.id = p._uuid
    $q$, v_target, v_sets),
    -- What deferred triggers do to the rows belongs to what the sync leaves.
    'set constraints all immediate',
    -- Read back after triggers: for a field that the source or a trigger of this write has changed what stands there now, for
    -- the others what was left before, so that somebody else's edit of them stays visible. What the target keeps of its own
    -- against the source's new value is such an edit, too: of that one.
    format($q$
      with after as (
        select q.n, q.legacy_id, q.raw, q.digest, q.action, o.now, t.id is not null as there, t.xmin is not distinct from q.held as untouched,
               case when q.action = 'review' then sync.seen_but(q.new, q.seen, q.decided) else q.new end as new, t.xmin as written_by,
               case when q.action = 'insert' or q."left" = q.now then o.now
                    else (select jsonb_object_agg(e.key, case when q.decided ->> e.key in ('retain', 'merge') then q.new -> e.key
                                                              when q.changed ? e.key or e.value is distinct from q.now -> e.key then e.value
                                                              else q."left" -> e.key end)
                            from jsonb_each(o.now) e)
               end as "left",
               case when o.now || w.written is distinct from o.now then
                 array(select e.key from jsonb_each(w.written) e where o.now -> e.key is distinct from e.value order by e.key) end as otherwise
          from pg_temp.page_plan q
          left join %1$s t on t.id = q.id
          cross join lateral (select to_jsonb(x.*) as now from (select %2$s) x offset 0) o
          cross join lateral (select case when q.action = 'insert' then q.new when q.action in ('update', 'review') then q.written else '{}' end as written offset 0) w
         where q.n between $1 and $2
           and (q.action in ('insert', 'update')
                -- Of hashes nothing fits any more when some fields are written while others are open; else the old ones stay.
                or (q.action = 'unchanged' or q.action = 'review' and (%7$L = 'values' or q.written <> '{}'))
                   and (q.new is distinct from q.seen or q.restated))
      ), state as (
        insert into %6$I.sync_row_states as s (entity_id, legacy_id, raw, synced_at, source_digest, written_by, seen, "left", seen_hash, left_hash)
        -- Of what a person is asked the queue keeps the hash: should its row be lost, the record counts as changed.
        select %3$s, legacy_id, raw, now(), case when action <> 'review' then digest end, case when "left" = now then written_by end, %5$s from after where there
        on conflict (entity_id, legacy_id) do update
           set raw = excluded.raw, synced_at = excluded.synced_at, seen = excluded.seen, "left" = excluded."left",
               seen_hash = excluded.seen_hash, left_hash = excluded.left_hash,
               source_digest = excluded.source_digest, written_by = excluded.written_by, gone_at = null
      )
      update pg_temp.page_plan q
         set otherwise = a.otherwise, altered = q.altered or coalesce(a.otherwise && %4$L::text[], false), cancelled = not a.there or a.untouched
        from after a
       where a.n = q.n and (not a.there or a.otherwise is not null)
    $q$, v_target, v_current, p_entity.id, v_numbers, v_kept, p_schema, p_entity.history),
    format($q$
      insert into %5$I.uuid_mappings_enhanced as m
        (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
      select %1$s, %2$L, q.legacy_id, q.id, %3$L, %4$L
        from pg_temp.page_plan q
       where q.n between $1 and $2 and q.action = 'insert'
       order by q.legacy_id
      on conflict (source_id, entity_type, legacy_id) do update
         set sync_status = sync.active_if_same(m.entity_uuid, excluded.entity_uuid)
    $q$, p_entity.source_id, p_entity.entity_type, p_entity.source_table, p_entity.target_table, p_schema),
    'select sync.refuse_writes($1, $2)'
  ];
end
$$;
comment on function sync.write_statements(public.sync_entities, text) is
  'The statements that write a slice of a page as pg_temp.page_plan says: insert, update, deferred triggers, row states, mappings. $1, $2: the slice. p_schema: public, or pg_temp for a plan.';

-- Settings are pinned, so that a comparison never depends on the session.
create function sync.load_records(p_entity public.sync_entities, p_records json, p_left bigint[], p_soft bigint[], p_plan uuid, p_of_request text)
returns void
language plpgsql security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_schema text := case when p_plan is null then 'public' else 'pg_temp' end;
  v_count  integer;
  v_apart  integer;
  v_left   integer;
  v_soft   integer;
  v_reads  text[];
  v_writes text[];
begin
  if p_entity.adoption_epoch = 0 and p_plan is null then
    raise exception 'entity %: nothing may be minted before the target''s ids are adopted', p_entity.entity_type
      using errcode = 'IS021', hint = 'Start the execution through sync-trigger, which checks the target first.';
  end if;
  -- Tells application triggers that this is the sync and not a person.
  perform set_config('isthmus.sync', 'on', true);

  create temp table page_plan (
    n integer primary key, legacy_id bigint not null, id uuid not null, action text not null,
    new jsonb, seen jsonb, "left" jsonb, now jsonb, changed jsonb, written jsonb, decided jsonb, raw jsonb, digest bigint,
    held xid, fields text, altered boolean not null default false, cancelled boolean not null default false, otherwise text[], restated boolean not null default false
  ) on commit drop;
  create temp table page_relatives (n integer primary key, k bigint not null, state text not null default 'open', field text, parent bigint)
    on commit drop;
  create temp table page_rejects (n integer primary key, sqlstate text not null, constraint_name text, column_name text, other uuid)
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
  if p_plan is not null then
    perform sync.shadow_page(p_plan, p_entity, p_left || p_soft);
  end if;
  v_left := sync.leaving_rows(p_entity, v_schema, v_count, p_left);
  v_soft := sync.leaving_rows(p_entity, v_schema, v_count + v_left, p_soft);
  if v_count + v_left + v_soft = 0 then
    return;
  end if;
  create unique index on pg_temp.page_rows (n);
  analyze pg_temp.page_rows;

  if p_plan is null then
    execute format(
      'select count(*) from (select 1 from public.%I t join pg_temp.page_rows p on p._uuid = t.id order by t.id for no key update of t) l',
      p_entity.target_table);
  end if;
  if p_plan is null and v_left > 0 then
    -- Against rows that begin to refer to them: whether there are any is asked by the statement after this one.
    execute format(
      'select count(*) from (select 1 from public.%I t join pg_temp.page_rows p on p._uuid = t.id where p._leaves order by t.id for update of t) l',
      p_entity.target_table);
  end if;
  select count(*) into v_apart from pg_temp.page_rows where _together is not null;
  if v_count > 0 then
    v_reads := array[sync.classify_statement(p_entity, v_schema, p_of_request)] || sync.twin_statements(p_entity)
      || case when p_plan is not null then sync.clash_statements(p_plan, p_entity) else '{}' end;
    v_writes := sync.write_statements(p_entity, v_schema);
    if v_count > v_apart then
      perform sync.load_slice(p_entity, v_schema, v_reads, v_writes, 1, v_count - v_apart);
      perform sync.load_circles(p_entity, v_schema, v_reads, v_writes);
    end if;
    if v_apart > 0 then
      perform sync.load_relatives(p_entity, v_schema, v_reads, v_writes);
    end if;
  end if;
  if v_left > 0 then
    v_writes := sync.leave_statements(p_entity, p_plan);
    perform sync.load_slice(p_entity, v_schema, v_writes[:1], v_writes[2:], v_count + 1, v_count + v_left);
    if p_plan is null then
      perform sync.delete_relatives(p_entity, v_writes[:1], v_writes[2:]);
    end if;
  end if;
  if v_soft > 0 then
    v_writes := sync.soft_statements(p_entity, p_plan);
    perform sync.load_slice(p_entity, v_schema, v_writes[:1], v_writes[2:], v_count + v_left + 1, v_count + v_left + v_soft);
  end if;
end
$$;
comment on function sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) is
  'Loads the records of a page: [{_key, _uuid, _raw, _digest, _together, _values: {<column>: text}}], deletes those of the legacy ids p_left that have landed, and marks those of p_soft. Leaves pg_temp.page_plan and pg_temp.page_rejects for the commit. p_plan: the execution whose plan it is; then everything is written to shadows. p_of_request: as for sync.field_strategies.';

create function sync.leaving_rows(p_entity public.sync_entities, p_schema text, p_after integer, p_ids bigint[]) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  execute format(
    'insert into pg_temp.page_rows (n, _leaves, _key, _uuid)
     select $1 + row_number() over (order by m.entity_uuid), true, m.legacy_id, m.entity_uuid
       from %1$I.uuid_mappings_enhanced m
      where m.source_id = $2 and m.entity_type = $3 and m.legacy_id = any ($4) and m.sync_status = ''active''
        -- Whose row is to stay, by a decision: one index probe per record.
        and (select s.gone_at from %1$I.sync_row_states s where s.entity_id = $5 and s.legacy_id = m.legacy_id) is null', p_schema)
    using p_after, p_entity.source_id, p_entity.entity_type, p_ids, p_entity.id;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]) is
  'Puts landed records that leave behind the others of pg_temp.page_rows; returns how many.';

revoke all on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]) from public;
grant execute on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]) to isthmus_worker;
revoke all on function sync.owned_columns(public.sync_entities), sync.seen_sql(), sync.left_sql(), sync.decided_fields(jsonb, text),
  sync.seen_but(jsonb, jsonb, jsonb), sync.classify_statement(public.sync_entities, text, text), sync.write_statements(public.sync_entities, text),
  sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) from public;
grant execute on function sync.owned_columns(public.sync_entities), sync.seen_sql(), sync.left_sql(), sync.decided_fields(jsonb, text),
  sync.seen_but(jsonb, jsonb, jsonb), sync.classify_statement(public.sync_entities, text, text), sync.write_statements(public.sync_entities, text),
  sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) to isthmus_worker;
grant execute on function sync.owned_columns(public.sync_entities) to isthmus_decisions;
