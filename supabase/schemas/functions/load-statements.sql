-- Purpose: the statements that classify the records of a page, and those that write them.

create function sync.seen_but(p_new jsonb, p_seen jsonb, p_decided jsonb) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_new - f.names || sync.pick(coalesce(p_seen, '{}'), f.names) from (select sync.decided_fields(p_decided, 'review') as names) f
$$;
comment on function sync.seen_but(jsonb, jsonb, jsonb) is
  'The new values as seen, but for the fields that a person is to decide.';

create function sync.classify_statement(p_entity public.sync_entities, p_schema text, p_of_request text) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_typed   text; -- the new values as typed columns of p
  v_fits    text; -- whether the target can hold all of them exactly
  v_current text := sync.owned_columns(p_entity); -- the same columns of the target row t
  v_reshape text := sync.reshaped_sql(p_entity, p_schema);
  v_edits   boolean := p_of_request is not distinct from 'overwrite_edits';
  v_texts   text := sync.texts_sql(p_entity, p_schema, v_edits); -- the fields whose text alone may differ, of p, t and s
  v_all     boolean := v_edits or sync.texts_moved(p_entity);
  v_padded  jsonb := sync.padded_parts(p_entity);
  v_told    text; -- whether a field f of the record is told to print otherwise
begin
  -- Compared is what the column would hold. Whether that is all of the value is asked beside it: a cast cuts without
  -- an error.
  select string_agg(format('%s as %I', sync.kept_sql(format('(p.%s)::%s%s', c.slot, c.type, '::' || nullif(c.exact, c.type)), c.type, c.recast), c.name), ', '),
         -- Null, and so left out, where every value fits.
         coalesce(string_agg(sync.fits_sql(c.slot, c.type, c.exact, v_padded -> c.name) || ' is not false', ' and '), 'true')
    into v_typed, v_fits
    from sync.field_slots(p_entity) c;
  v_told := format($q$(select w.rule from public.sync_warnings w where w.entity_id = %s and w.legacy_id = p._key and w.rule = 'written_otherwise: ' || f limit 1) is not null$q$, p_entity.id);
  -- The target rows were locked by a statement before this one, which sees them as they will be written.
  return
    format($q$
      insert into pg_temp.page_plan (n, legacy_id, id, action, new, seen, "left", now, changed, written, decided, raw, digest, restated, altered, held, prints, reprinted, reworded)
      select r.n, r._key, r._uuid,
             case when r.undecided then 'ambiguous'
                  when r.t_id is null and r.seen is null and r.lands is not true then 'insert'
                  when r.t_id is null and %11$L = 'insert' and (
                    select k.rule from public.sync_conflicts k
                     where k.entity_id = %3$s and k.source_record_id = r._key and k.state = 'open' limit 1) = 'target_deleted' then 'target_deleted'
                  when r.t_id is null then %11$L
                  -- Mapped, and never reconciled (adopted, or back after it was deleted): every field is judged as if
                  -- the source had changed it.
                  when r.seen is null and r.mapped is distinct from r._uuid then 'target_unmapped'
                  when c.decided @? '$.* ? (@ == "review")' then 'review'
                  when c.written <> '{}' then 'update'
                  else 'unchanged' end,
             r.new, r.seen, r."left", r.now, c.changed, c.written, c.decided, r._raw, r._digest, r.restated, not r.fits, r.held, r.prints, r.reprinted, array(select pg_catalog.unnest(r.texts) except select pg_catalog.unnest(r.reprinted))
        from (select p.n, p._key, p._uuid, p._raw, p._digest, v.new, %14$s as fits, %15$s as seen, %16$s as "left", t.id as t_id, t.xmin as held, o.now,
                     m.entity_uuid as mapped, m.lands, a.undecided,
                     p._raw is distinct from s.raw or (s.seen_hash is null) <> (%7$L = 'values')
                       or p._digest is distinct from s.source_digest or s.gone_at is not null as restated, %21$s as reworded,
                     %23$s as prints, %24$s as reprinted, w.texts
                from pg_temp.page_rows p
                cross join lateral (select pg_catalog.to_jsonb(x.*) as new from (select %1$s) x offset 0) v
                left join %2$s on true
                left join %26$s on true
                -- One index probe per record that never landed.
                left join lateral (
                  select m.entity_uuid, m.sync_status = 'active' as lands from %10$I.uuid_mappings_enhanced m
                   where s.legacy_id is null and m.source_id = %5$s and m.entity_type = %6$L and m.legacy_id = p._key limit 1) m on true
                left join lateral (
                  select a.undecided from public.sync_adoption_rows a
                   where s.legacy_id is null and a.entity_id = %3$s and a.legacy_id = p._key and a.undecided limit 1) a on true
                cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %4$s) x offset 0) o
                -- A hash that fits but for the legacy key still stands: what the sync left there is known.
                cross join lateral (
                  select o.now, %8$s as seen, (select %9$s from (
                    select case when o.now -> %22$L is not distinct from v.new -> %22$L or s.left_hash = hashtextextended(o.now::text, 0) then o.now else o.now || jsonb_build_object(%22$L, v.new -> %22$L) end as now) o) as "left"
                  offset 0) l
                cross join lateral (select %25$s as texts offset 0) w
                %17$s
               where p.n between $1 and $2 offset 0) r
        cross join lateral (
          select coalesce(jsonb_object_agg(e.key, e.value) filter (where d.decision not in ('review', 'none', 'keep')), '{}') as changed,
                 coalesce(jsonb_object_agg(e.key, case when d.decision = 'merge' then m.merged else x.source end)
                          filter (where d.decision in ('take', 'overwrite', 'merge')), '{}') as written,
                 jsonb_object_agg(e.key, d.decision) filter (where d.decision in ('overwrite', 'retain', 'merge', 'review')) as decided
            -- What a person has been asked, or has put back, is theirs to decide, whatever this execution would have
            -- done.
            from (select v.new, u.asked, u.put_back
                    from (select case when r.t_id is null or r.new = r.seen and coalesce(r.reworded, '{}') = '{}' and r.now -> %22$L is not distinct from r.new -> %22$L%18$s then '{}' else r.new end as new) v
                    left join lateral (
                      select k.asked, k.decisions > 0 as put_back from public.sync_conflicts k
                       where v.new <> '{}' and k.entity_id = %3$s and k.source_record_id = r._key and k.state in ('waiting', 'open') limit 1) u on true
                  offset 0) n
            cross join lateral jsonb_each(n.new) e
            cross join lateral (
              select e.value as source, r.seen -> e.key as seen, r.now -> e.key as target, r."left" -> e.key as "left",
                     case when e.key <> %22$L and (n.put_back or e.key = any (n.asked)) then 'manual_review'%20$s else %12$L::jsonb ->> e.key end as strategy) x
            cross join lateral (select %13$s as decision offset 0) w
            -- Of a value that both sides have, the text is the source's.
            cross join lateral (
              select case when w.decision in ('none', 'agree', 'keep') and e.key = any (r.reworded) and x.source is not distinct from x.target then 'take'
                          else w.decision end as decision) d
            -- A merge that comes to what the source says has the source's text.
            cross join lateral (
              select coalesce(nullif(case when d.decision = 'merge' then sync.merge_objects(x.seen, x.source, x.target, x."left") end, x.source), x.source) as merged offset 0) m
           where e.value is distinct from r.seen -> e.key or e.key = any (r.reworded)
                 or e.key = %22$L and e.value is distinct from r.now -> e.key%19$s) c
    $q$, v_typed, sync.row_probe(p_entity, p_schema, 'p._uuid'), p_entity.id, v_current, p_entity.source_id, p_entity.entity_type, p_entity.history,
      sync.seen_sql(), sync.left_sql(), p_schema, case p_entity.conflicts ->> 'deleted' when 'source_wins' then 'insert' else 'target_deleted' end,
      sync.field_strategies(p_entity, p_of_request), sync.decision_sql(), v_fits,
      -- What was decided on before holds no longer where DDL has emptied or changed the column.
      case when v_reshape is null then 'l.seen' else 'l.seen - d.fields' end,
      case when v_reshape is null then 'l."left"' else sync.left_or_reshaped_sql() end, coalesce(v_reshape, ''),
      -- Only where it was asked for, the fields are looked at too that the target alone has changed; the legacy key
      -- always is.
      case when v_edits then ' and r.now = r."left"' else '' end,
      case when v_edits then ' or r.now -> e.key is distinct from r."left" -> e.key' else '' end,
      case when v_edits then format(' when e.value is not distinct from r.seen -> e.key and e.key <> %L and sync.is_decided(%s::smallint, r._key, e.key) then ''target_wins''', p_entity.legacy_key, p_entity.id) else '' end,
      -- The source's text has changed where its hash has; the text of a trigger or of a person is not written over
      -- again and again. Of what a person is asked the queue keeps the hash; a decision since, on another field, has
      -- the text written once more.
      case when v_texts is null then 'null::text[]' when v_all then 'w.texts'
           else format($c$case when p._digest is distinct from s.source_digest and (
                       select k.id from public.sync_conflicts k
                        where k.entity_id = %s and k.source_record_id = p._key and k.state = 'open' and k.rule = 'both_changed'
                          and k.source_digest = p._digest and k.last_seen_at >= s.synced_at limit 1) is null then w.texts end$c$, p_entity.id) end,
      p_entity.legacy_key, coalesce('case when w.texts is not null then ' || sync.prints_sql(p_entity) || ' end', 'null::jsonb'),
      -- Another text than the source's, in a row that nobody has written since the sync, or of which it is told
      -- already.
      case when v_texts is null then 'null::text[]' else format($c$
                       case when w.texts <> '{}' and s.entity_id is not null then (
                         select pg_catalog.array_agg(f) from pg_catalog.unnest(w.texts) f where %s or %s) end$c$, sync.untouched_sql(p_entity, p_schema), v_told) end,
      coalesce(v_texts, 'null::text[]'), sync.state_probe(p_entity, p_schema));
end
$$;
comment on function sync.classify_statement(public.sync_entities, text, text) is
  'The statement that classifies a slice of a page, into pg_temp.page_plan. $1, $2: the slice. p_schema: public, or '
  'pg_temp for a plan. p_of_request: as for sync.field_strategies.';

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
  v_texts   text;
begin
  select string_agg(format('%I', c.name), ', '),
         string_agg(format('(p.%s)::%s', c.slot, c.registered), ', '),
         string_agg(format('%1$I = case when q.written ? %1$L then %2$s else t.%1$I end', c.name,
                           format(case when c.registered in ('json', 'jsonb') then 'case when q.decided ->> %1$L = ''merge'' and q.written -> %1$L <> q.new -> %1$L then (q.written -> %1$L)::%3$s else (p.%2$s)::%3$s end'
                                                    else '(p.%2$s)::%3$s' end, c.name, c.slot, c.registered)), ', '),
         coalesce(pg_catalog.array_agg(c.name) filter (where c.registered = 'numeric'), '{}'),
         -- A text that differs although the values that are kept are equal: from the one that was written, or else
         -- from the one before and the source's.
         string_agg(format($q$case when o.now -> %1$L is not distinct from w.meant -> %1$L and case
                                     when q.decided ->> %1$L = 'merge' and q.written -> %1$L <> q.new -> %1$L then t.%1$I::text is distinct from (q.written -> %1$L)::%3$s::text
                                     when w.written ? %1$L then t.%1$I::text is distinct from (p.%2$s)::%3$s::text
                                     else hashtextextended(t.%1$I::text, 0)::text is distinct from q.prints ->> %1$L
                                          and t.%1$I::text is distinct from (p.%2$s)::%3$s::text end then %1$L end$q$,
             c.name, c.slot, concat_ws('::', c.type, nullif(c.exact, c.type))), ', ') filter (where sync.texts_kept(c.type) = 'none' and not c.recast)
    into v_names, v_values, v_sets, v_numbers, v_texts
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
    -- Read back after triggers: for a field that the source or a trigger of this write has changed what stands there
    -- now, for the others what was left before, so that somebody else's edit of them stays visible. What the target
    -- keeps of its own against the source's new value is such an edit, too: of that one.
    format($q$
      with after as (
        select q.n, q.legacy_id, q.raw, q.digest, q.action, o.now, t.id is not null as there, t.xmin is not distinct from q.held as untouched,
               case when q.action = 'review' then sync.seen_but(q.new, q.seen, q.decided) else q.new end as new, t.xmin as written_by,
               not exists (select from pg_catalog.unnest(q.reworded) f where not w.written ? f) as kept,
               case when q.action = 'insert' or q."left" = q.now then o.now
                    else (select jsonb_object_agg(e.key, case when q.decided ->> e.key in ('retain', 'merge') then q.new -> e.key
                                                              when q.changed ? e.key or e.value is distinct from q.now -> e.key then e.value
                                                              else q."left" -> e.key end)
                            from jsonb_each(o.now) e)
               end as "left",
               w.meant,
               -- Of the fields that this write left alone, too: what stands there now is what stood there, or what
               -- the source says. As they print: numbers that are equal may have other zeros at their end.
               nullif(case when o.now::text is distinct from w.meant::text then array(
                 select e.key from jsonb_each(o.now) e
                  where e.value::text is distinct from (w.meant -> e.key)::text
                    and (w.written ? e.key or e.value::text is distinct from (q.new -> e.key)::text) order by e.key) else '{}' end
                 || %8$s, '{}') as otherwise
          from pg_temp.page_plan q
          %9$s
          left join %1$s on true
          cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %2$s) x offset 0) o
          cross join lateral (
            select y.written, q.now || y.written as meant
              from (select case when q.action = 'insert' then q.new when q.action in ('update', 'review') then q.written else '{}' end as written) y offset 0) w
         where q.n between $1 and $2
           and (q.action in ('insert', 'update')
                -- Of hashes nothing fits any more when some fields are written while others are open; else the old
                -- ones stay.
                or (q.action = 'unchanged' or q.action = 'review' and (%7$L = 'values' or q.written <> '{}'))
                   and (q.new is distinct from q.seen or q.restated))
      ), state as (
        insert into %6$I.sync_row_states as s (entity_id, legacy_id, raw, synced_at, source_digest, written_by, seen, "left", seen_hash, left_hash)
        -- Of what a person is asked the queue keeps the hash: should its row be lost, the record counts as changed.
        select %3$s, legacy_id, raw, now(), case when action <> 'review' then digest end,
               -- A text that a person has changed stays a person's.
               case when "left" = now and kept then written_by end, %5$s from after where there
        on conflict (entity_id, legacy_id) do update
           set raw = excluded.raw, synced_at = excluded.synced_at, seen = excluded.seen, "left" = excluded."left",
               seen_hash = excluded.seen_hash, left_hash = excluded.left_hash,
               source_digest = excluded.source_digest, written_by = excluded.written_by, gone_at = null, outside = null
      )
      update pg_temp.page_plan q
         set otherwise = a.otherwise, altered = q.altered or exists (select from pg_catalog.unnest(a.otherwise) k where k = any (%4$L::text[]) and a.now -> k is distinct from a.meant -> k),
              -- A row that was left as it was and holds equal values, which only print otherwise, has nothing that
              -- was cancelled.
              cancelled = not a.there or a.untouched and a.now is distinct from a.meant
        from after a
       where a.n = q.n and (not a.there or a.otherwise is not null)
    $q$, sync.row_probe(p_entity, p_schema, 'q.id'), v_current, p_entity.id, v_numbers, v_kept, p_schema, p_entity.history,
      coalesce('array_remove(array[' || v_texts || '], null)', '''{}''::text[]'),
      case when v_texts is not null then 'join pg_temp.page_rows p on p.n = q.n' end),
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
  'The statements that write a slice of a page as pg_temp.page_plan says: insert, update, deferred triggers, row '
  'states, mappings. $1, $2: the slice. p_schema: public, or pg_temp for a plan.';

create function sync.twin_statements(p_entity public.sync_entities) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Without an index every record would cost a look through the table.
  select case when sync.finds_legacy_ids(p_entity) then array[format($q$
    update pg_temp.page_plan q set action = 'target_unmapped', now = jsonb_build_object(%2$L, q.legacy_id)
      from (select w.n
              from pg_temp.page_plan w
              cross join lateral (
                select from public.%1$I t
                 where t.%2$I = w.legacy_id and t.id <> w.id
                   and (select m.legacy_id from public.uuid_mappings_enhanced m where m.entity_type = %3$L and m.entity_uuid = t.id) is null
                   and (select a.legacy_id from public.sync_adoption_rows a where a.entity_id = %4$s and a.legacy_id = w.legacy_id and a.id = t.id) is null
                -- Not the first one alone: for that the planner would go through a table that it takes for small.
                offset 0) twin
             where w.n between $1 and $2 and w.action = 'insert' offset 0) x
     where x.n = q.n
  $q$, p_entity.target_table, p_entity.legacy_key, p_entity.entity_type, p_entity.id)] else '{}' end
$$;
comment on function sync.twin_statements(public.sync_entities) is
  'The statements that keep a record from being inserted beside a row that has its legacy id and that nothing maps. '
  '$1, $2: the slice.';

revoke all on function sync.seen_but(jsonb, jsonb, jsonb), sync.classify_statement(public.sync_entities, text, text),
  sync.write_statements(public.sync_entities, text), sync.twin_statements(public.sync_entities) from public;
grant execute on function sync.seen_but(jsonb, jsonb, jsonb), sync.classify_statement(public.sync_entities, text, text),
  sync.write_statements(public.sync_entities, text), sync.twin_statements(public.sync_entities) to isthmus_worker;
