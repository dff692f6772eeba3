-- Purpose: what becomes of landed records that have left their entity's predicate.
-- Locks:   the target rows of the page, which sync.load_records has locked.
-- Reverse: drop the function.

create function sync.leave_statements(p_entity public.sync_entities, p_schema text) returns text[]
language plpgsql stable security invoker set search_path = '' as $$
declare
  v_target text := format('%I.%I', p_schema, p_entity.target_table);
begin
  return array[
    -- What nobody has touched since the sync left it goes, and so does what is known of a row that is gone already.
    format($q$
      insert into pg_temp.page_plan (n, legacy_id, id, action, "left", now, fields)
      select p.n, p._key, p._uuid,
             case when t.id is null then 'delete'
                  when s.entity_id is null then 'left_unknown'
                  when e.fields is null then 'delete'
                  else 'left_edited' end,
             l."left", o.now, case when l."left" <> '{}' then e.fields end
        from pg_temp.page_rows p
        left join %1$s t on t.id = p._uuid
        left join %5$I.sync_row_states s on s.entity_id = %2$s and s.legacy_id = p._key
        cross join lateral (select to_jsonb(x) as now from (select %3$s) x offset 0) o
        cross join lateral (select %4$s as "left" offset 0) l
        cross join lateral (
          select string_agg(f.key, ', ' order by f.key) as fields from jsonb_each(o.now) f
           where f.value is distinct from coalesce(l."left" -> f.key, 'null')) e
       where p.n between $1 and $2
    $q$, v_target, p_entity.id, sync.owned_columns(p_entity), sync.left_sql(), p_schema),
    format($q$
      delete from %1$s t using pg_temp.page_plan q
       where q.n between $1 and $2 and q.action = 'delete' and t.id = q.id
    $q$, v_target),
    -- A trigger may have kept it, without a word.
    format($q$
      update pg_temp.page_plan q set action = 'left_kept' from %1$s t
       where q.n between $1 and $2 and q.action = 'delete' and t.id = q.id
    $q$, v_target),
    format($q$
      delete from %2$I.sync_row_states s using pg_temp.page_plan q
       where q.n between $1 and $2 and q.action = 'delete' and s.entity_id = %1$s and s.legacy_id = q.legacy_id
    $q$, p_entity.id, p_schema),
    format($q$
      update %3$I.uuid_mappings_enhanced m set sync_status = 'deleted' from pg_temp.page_plan q
       where q.n between $1 and $2 and q.action = 'delete'
         and m.source_id = %1$s and m.entity_type = %2$L and m.legacy_id = q.legacy_id
    $q$, p_entity.source_id, p_entity.entity_type, p_schema)
  ];
end
$$;
comment on function sync.leave_statements(public.sync_entities, text) is
  'The statements that delete a slice of the records that have left: plan, delete, row states, mappings. $1, $2: the slice. p_schema: public, or pg_temp for a plan.';

create function sync.leave_remedy(p_cause text) returns text
language sql immutable security invoker set search_path = '' as $$
  select 'The source no longer wants this record here, but its target row ' || case
    when p_cause = '23503' then 'is referred to by others: delete these first.'
    when p_cause = 'left_edited' then 'was edited by somebody: delete it, or undo the edit.'
    when p_cause = 'left_unknown' then 'was not written by the sync: delete it if nobody needs it.'
    else 'cannot be deleted: see what the table''s triggers and constraints say.' end
$$;
comment on function sync.leave_remedy(text) is 'What to do about a record that has left but is still there, by SQLSTATE or cause.';

revoke all on function sync.leave_statements(public.sync_entities, text), sync.leave_remedy(text) from public;
grant execute on function sync.leave_statements(public.sync_entities, text), sync.leave_remedy(text) to isthmus_worker;
