-- Purpose: decide field by field who wins where both sides may have changed something.

create function sync.field_strategies(p_entity public.sync_entities, p_of_request text) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_object_agg(c ->> 'name', case when c ->> 'name' = p_entity.legacy_key then 'overwrite_edits' when p_of_request = 'overwrite_edits' then p_of_request else
           coalesce(p_of_request, p_entity.conflicts -> 'fields' ->> (c ->> 'name'),
             p_entity.conflicts -> 'types' ->> 'concurrent_modification', p_entity.conflicts ->> 'strategy')
           ::public.conflict_resolution_strategy::text end)
    from jsonb_array_elements(p_entity.columns) c
$$;
comment on function sync.field_strategies(public.sync_entities, text) is
  'Which strategy decides each field that both sides have changed: {field: strategy}. p_of_request: the one that a '
  'job or request asks for (sync.strategy_of_request); it counts before all others. Which record a row is nobody '
  'decides: the legacy key is always written back.';

create function sync.strategy_of_request(p_request jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select case when p_request -> 'overwriteEdits' = 'true' then 'overwrite_edits' else p_request ->> 'conflictStrategy' end $$;
comment on function sync.strategy_of_request(jsonb) is
  'The strategy that a job or request asks for. overwrite_edits: the source''s value is written over what only the '
  'target has changed, too. Null: none.';

create function sync.strategy_origin(p_entity public.sync_entities, p_of_request text, p_field text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_field = p_entity.legacy_key then 'of the legacy key'
              when p_of_request is not null then 'of this request'
              when p_entity.conflicts -> 'fields' ? p_field then 'of the field ' || p_field
              when p_entity.conflicts -> 'types' ? 'concurrent_modification' then 'of the type concurrent_modification'
              else 'of the entity' end
$$;
comment on function sync.strategy_origin(public.sync_entities, text, text) is
  'Where the strategy of a field is declared.';

create function sync.merge_objects(p_seen jsonb, p_source jsonb, p_target jsonb, p_left jsonb) returns jsonb
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_merged jsonb := '{}';
  v_key    text;
  v_value  jsonb;
begin
  if jsonb_typeof(p_source) is distinct from 'object' or jsonb_typeof(p_target) is distinct from 'object' then
    return null;
  end if;
  for v_key in select k from (select jsonb_object_keys(p_source) union select jsonb_object_keys(p_target)) x (k) order by k loop
    -- A key that is not there is a value like any other. What neither side has changed stays as it is in the target.
    if (p_source -> v_key) is not distinct from (p_target -> v_key)
      or (p_source -> v_key) is not distinct from (p_seen -> v_key) and p_seen is not null then
      v_value := p_target -> v_key;
    elsif (p_target -> v_key) is not distinct from (p_left -> v_key) and p_left is not null then
      v_value := p_source -> v_key;
    else
      v_value := sync.merge_objects(case when p_seen is not null then coalesce(p_seen -> v_key, 'null') end, p_source -> v_key, p_target -> v_key,
                                    case when p_left is not null then coalesce(p_left -> v_key, 'null') end);
      if v_value is null then
        return null;
      end if;
    end if;
    if v_value is not null then
      v_merged := v_merged || jsonb_build_object(v_key, v_value);
    end if;
  end loop;
  return v_merged;
end
$$;
comment on function sync.merge_objects(jsonb, jsonb, jsonb, jsonb) is
  'Both sides'' changes of a JSON object, key by key. Null: both have changed the same key, or one is no object.';

-- Seen and left are NULL where nobody knows them: of an adopted row, a new field, or a hash that no longer fits. What
-- is empty then holds nothing that could be lost.
create function sync.decision_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case
  when x.source is not distinct from x.seen then case when x.target is not distinct from x."left" then 'none'
    when x.strategy is distinct from 'overwrite_edits' then 'keep'
    -- Of a hash that no longer fits nobody knows which field it was.
    when x.target is not distinct from x.source then 'agree' else 'overwrite' end
  when x.source is not distinct from x.target then 'agree'
  when x.target is not distinct from x."left" or x."left" is null and x.target = 'null' then 'take'
  else case x.strategy
    when 'source_wins' then 'overwrite'
    when 'overwrite_edits' then 'overwrite'
    when 'target_wins' then 'retain'
    when 'merge' then case when sync.merge_objects(x.seen, x.source, x.target, x."left") is null then 'review' else 'merge' end
    when 'manual_review' then 'review' end end$q$;
comment on function sync.decision_sql() is
  'SQL over x (seen, source, target, left: jsonb; strategy): none, keep (only the target changed), agree (both say '
  'the same), take (only the source changed), or, where both changed: overwrite, retain, merge, review.';

create function sync.decide(p_type public.conflict_type_enum, p_seen jsonb, p_source jsonb, p_target jsonb, p_left jsonb,
  p_strategy public.conflict_resolution_strategy) returns text
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_decision text;
begin
  case p_type
    when 'concurrent_modification' then
      execute 'select ' || sync.decision_sql() || ' from (select $1 as seen, $2 as source, $3 as target, $4 as "left", $5::text as strategy) x'
        into v_decision using p_seen, p_source, p_target, p_left, p_strategy;
    -- No strategy can write a reference to what is not there.
    when 'foreign_key_violation' then
      case p_strategy when 'source_wins', 'target_wins', 'merge', 'manual_review' then v_decision := 'wait'; end case;
    -- Nor what the target cannot take.
    when 'business_rule_violation', 'schema_mismatch', 'uuid_mapping_conflict' then
      case p_strategy
        when 'source_wins', 'merge', 'manual_review' then v_decision := 'review';
        when 'target_wins' then v_decision := 'retain';
      end case;
  end case;
  return v_decision;
end
$$;
comment on function sync.decide(public.conflict_type_enum, jsonb, jsonb, jsonb, jsonb, public.conflict_resolution_strategy) is
  'What becomes of a field or record, for every type of conflict and strategy; raises case_not_found for what it '
  'does not know.';

create function sync.pick(p_values jsonb, p_keys text[]) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(k, p_values -> k), '{}') from pg_catalog.unnest(p_keys) k where p_values ? k
$$;
comment on function sync.pick(jsonb, text[]) is 'Of an object, some keys, as far as it has them.';

-- As people read it in the column field; only names that would part it are in quotes.
create function sync.listed(p_names text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(case when name ~ '[,"]' then '"' || replace(name, '"', '""') || '"' else name end, ', ' order by n)
    from pg_catalog.unnest(p_names) with ordinality x (name, n)
$$;
comment on function sync.listed(text[]) is 'Names of fields as one text. sync.unlisted parts it.';

create function sync.unlisted(p_list text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(case when m[1] like '"%' then replace(substr(m[1], 2, length(m[1]) - 2), '""', '"') else m[1] end)
    from regexp_matches(p_list, '("(?:[^"]|"")*"|[^,]+)(?:, |$)', 'g') m
$$;
comment on function sync.unlisted(text) is 'The names that sync.listed has made a text of.';

create function sync.is_decided(p_entity_id smallint, p_legacy_id bigint, p_field text) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_conflicts c
                  where c.entity_id = p_entity_id and c.source_record_id = p_legacy_id and c.state = 'resolved' and c.decisions > 0
                    and c.resolution_strategy in ('target_wins', 'merge') and p_field = any (sync.unlisted(c.field)))
$$;
comment on function sync.is_decided(smallint, bigint, text) is
  'Whether a person has decided that a field keeps what the target has.';

create function sync.shown_value(p_value jsonb, p_fields integer) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when length(p_value::text) <= l.most + 20 then p_value
              else pg_catalog.to_jsonb(left(coalesce(p_value #>> '{}', p_value::text), l.most) || '… (' || length(coalesce(p_value #>> '{}', p_value::text)) || ' characters)') end
    -- The table editor cuts a cell off at 16 kB; three values of each field have to fit into it.
    from (select greatest(20, least(400, 3000 / p_fields)) as most) l
$$;
comment on function sync.shown_value(jsonb, integer) is
  'A value as the queue shows it: cut short, so that all that differs in p_fields fields fits into a cell of the '
  'table editor.';

create function sync.differences(p_columns jsonb, p_fields text[], p_seen jsonb, p_source jsonb, p_target jsonb, p_masked boolean) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_object_agg(f.name, case
      when p_masked and coalesce((c.col ->> 'sensitive')::boolean, true)
        then jsonb_build_object('seen', '•••', 'source', '•••', 'target', '•••')
      when p_masked then jsonb_build_object('seen', sync.shown_value(p_seen -> f.name, cardinality(p_fields)), 'source', sync.shown_value(p_source -> f.name, cardinality(p_fields)),
                                            'target', sync.shown_value(p_target -> f.name, cardinality(p_fields)))
      else jsonb_build_object('seen', p_seen -> f.name, 'source', p_source -> f.name, 'target', p_target -> f.name) end)
    from pg_catalog.unnest(p_fields) f (name)
    left join jsonb_array_elements(p_columns) c (col) on c.col ->> 'name' = f.name
$$;
comment on function sync.differences(jsonb, text[], jsonb, jsonb, jsonb, boolean) is
  'Field by field what both sides say: {field: {seen, source, target}}. p_masked: sensitive values are hidden, and '
  'long ones cut short.';

revoke all on function sync.field_strategies(public.sync_entities, text), sync.strategy_origin(public.sync_entities, text, text),
  sync.strategy_of_request(jsonb), sync.is_decided(smallint, bigint, text), sync.decision_sql(),
  sync.decide(public.conflict_type_enum, jsonb, jsonb, jsonb, jsonb, public.conflict_resolution_strategy),
  sync.merge_objects(jsonb, jsonb, jsonb, jsonb), sync.pick(jsonb, text[]), sync.listed(text[]), sync.unlisted(text),
  sync.shown_value(jsonb, integer), sync.differences(jsonb, text[], jsonb, jsonb, jsonb, boolean) from public;
grant execute on function sync.field_strategies(public.sync_entities, text), sync.strategy_origin(public.sync_entities, text, text),
  sync.strategy_of_request(jsonb), sync.is_decided(smallint, bigint, text), sync.decision_sql(), sync.merge_objects(jsonb, jsonb, jsonb, jsonb),
  sync.pick(jsonb, text[]), sync.listed(text[]), sync.unlisted(text), sync.shown_value(jsonb, integer),
  sync.differences(jsonb, text[], jsonb, jsonb, jsonb, boolean) to isthmus_worker;
grant execute on function sync.pick(jsonb, text[]), sync.unlisted(text), sync.shown_value(jsonb, integer),
  sync.differences(jsonb, text[], jsonb, jsonb, jsonb, boolean) to isthmus_decisions;
