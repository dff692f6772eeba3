-- Purpose: the columns that an entity fills, and the SQL that reads, compares and writes their values.

-- JSON has one null, in which NULL and the null of a JSON column would be one value.
create function sync.kept_sql(p_value text, p_type text, p_recast boolean) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_recast then p_value || '::text'
              when p_type in ('json', 'jsonb') then format($q$(
                select case jsonb_typeof(k.v) when 'null' then '"null"'
                         when 'string' then case when k.v #>> '{}' ~ '^''*null$' then pg_catalog.to_jsonb('''' || (k.v #>> '{}')) else k.v end
                         else k.v end
                  from (select (%s)::jsonb as v offset 0) k)$q$, p_value)
              else p_value end
$$;
comment on function sync.kept_sql(text, text, boolean) is
  'SQL: a value of a column as it is compared, kept and shown to people. Of a JSON column the null of JSON is the '
  'text null, and a text that reads null has an apostrophe before it.';

create function sync.texts_kept(p_type text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_type in ('json', 'real', 'double precision') then 'none' when p_type in ('jsonb', 'numeric') then 'apart' else 'all' end
$$;
comment on function sync.texts_kept(text) is
  'Of two texts that a type has for one value, what is kept as JSON (sync.kept_sql) tells: all: they are two values. '
  'apart: they are equal and print differently (1.5 and 1.50). none: nothing (order, blanks and repeated keys of '
  'json, the sign of a zero).';

create function sync.reworded_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('array_remove(array[%s], null)',
           string_agg(format('case when (p.%s)::%s::text is distinct from t.%I::text then %L end', c.slot, concat_ws('::', c.type, nullif(c.exact, c.type)), c.name, c.name), ', '))
    from sync.field_slots(p_entity) c where sync.texts_kept(c.type) <> 'all' and not c.recast
  having count(*) > 0
$$;
comment on function sync.reworded_sql(public.sync_entities) is
  'SQL: the fields of which the row t of the target has another text than its column would have of the new value p. '
  'Only those of which that may be so of equal values; null: the entity has none.';

create function sync.prints_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('jsonb_object(%L::text[], array[%s])', pg_catalog.array_agg(c.name order by c.name),
           string_agg(format('hashtextextended(t.%I::text, 0)::text', c.name), ', ' order by c.name))
    from sync.field_slots(p_entity) c where sync.texts_kept(c.type) = 'none' and not c.recast having count(*) > 0
$$;
comment on function sync.prints_sql(public.sync_entities) is
  'SQL: of the row t of the target, the hashes of the texts that what is kept as JSON does not tell apart, by field; '
  'null: the entity has none.';

create function sync.filled_sql(p_values text, p_name text, p_type text, p_recast boolean, p_otherwise text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What jsonb_populate_record makes of the null of JSON is NULL, in a JSON column, too.
  select case when p_type in ('json', 'jsonb') and not p_recast then format($q$(
                select case when jsonb_typeof(k.v) = 'null' then null when k.v = '"null"' then 'null'
                         when jsonb_typeof(k.v) = 'string' and k.v #>> '{}' ~ '^''+null$' then pg_catalog.to_jsonb(substr(k.v #>> '{}', 2))
                         else k.v end
                  from (select %s -> %L as v offset 0) k)::%s$q$, p_values, p_name, p_type)
              else p_otherwise end
$$;
comment on function sync.filled_sql(text, text, text, boolean, text) is
  'SQL: what a column gets of values as they are kept (sync.kept_sql), an object. p_otherwise: where the column is '
  'no JSON.';

create function sync.json_fields(p_entity public.sync_entities) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(c.name), '{}') from sync.field_slots(p_entity) c where c.type in ('json', 'jsonb') and not c.recast
$$;
comment on function sync.json_fields(public.sync_entities) is 'The JSON columns that an entity fills.';

create function sync.target_sql(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_schema = 'pg_temp' then 'pg_temp.page_shadow' else format('public.%I', p_entity.target_table) end
$$;
comment on function sync.target_sql(public.sync_entities, text) is
  'SQL: the target table of an entity, or in a plan (p_schema: pg_temp) its shadow.';

-- Whatever the planner thinks of tables that nobody has analysed, a page looks each of its records up: it never joins
-- a whole table.
create function sync.row_probe(p_entity public.sync_entities, p_schema text, p_id text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- The worker may read the columns that were granted to it, and no others.
  select format('lateral (select r.xmin, %s from %s r where r.id = %s offset 0) t', string_agg(format('r.%I', a.attname), ', '), x.target, p_id)
    from (select sync.target_sql(p_entity, p_schema) as target) x
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(x.target) and a.attnum > 0 and not a.attisdropped and has_column_privilege(a.attrelid, a.attnum, 'select')
   group by x.target
$$;
comment on function sync.row_probe(public.sync_entities, text, text) is
  'SQL, for a join: one index probe for the target row t with the id p_id, with its xmin and the columns that the '
  'caller may read. p_schema: as for sync.target_sql.';

create function sync.state_probe(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return format('lateral (select r.* from %I.sync_row_states r where r.entity_id = %s and r.legacy_id = p._key offset 0) s', p_schema, p_entity.id);
comment on function sync.state_probe(public.sync_entities, text) is
  'SQL, for a join: one index probe for the row state s of the record p. p_schema: as for sync.target_sql.';

create function sync.hidden_fields(p_columns jsonb) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return array(select c ->> 'name' from jsonb_array_elements(p_columns) c where (c ->> 'sensitive')::boolean);
comment on function sync.hidden_fields(jsonb) is
  'The fields of an entity, by sync_entities.columns, that are sensitive.';

create function sync.hidden_columns(p_columns jsonb) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return array(select distinct h.name from jsonb_array_elements(p_columns) c cross join lateral jsonb_array_elements_text(c -> 'hides') h (name) order by h.name);
comment on function sync.hidden_columns(jsonb) is
  'What is read of the source, by sync_entities.columns, that nobody is shown: evidence is kept under these names.';

create function sync.owned_columns(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(format('%s as %I', sync.kept_sql(format('t.%I', c.name), c.type, c.recast), c.name), ', ') from sync.field_slots(p_entity) c
$$;
comment on function sync.owned_columns(public.sync_entities) is
  'The columns of the target row t that the sync owns, as they are compared and kept.';

-- A hash that still fits stands for the present value; one that does not for a value of which nothing is known, '{}'.
-- The text of a jsonb is hashed: jsonb's own hash repeats itself every sixteen fields, so that two that change alike
-- cancel out.
create function sync.seen_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case when s.seen_hash is null then s.seen when s.seen_hash = hashtextextended(v.new::text, 0) then v.new else '{}' end$q$;
comment on function sync.seen_sql() is 'What a row state s saw, given the new values v.new.';

create function sync.left_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case when s.left_hash is null then s."left" when s.left_hash = hashtextextended(o.now::text, 0) then o.now else '{}' end$q$;
comment on function sync.left_sql() is 'What a row state s left in the target, given the present values o.now.';

create function sync.reworded_fields(p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(c.name, c.type), '{}') from sync.field_slots(p_entity) c where sync.texts_kept(c.type) = 'none' and not c.recast
$$;
comment on function sync.reworded_fields(public.sync_entities) is
  'The fields, with their types, whose values may print otherwise than the source''s when they are written from what '
  'is kept as JSON.';

create function sync.loses_text(p_reworded jsonb, p_put jsonb) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of a float JSON loses the sign of zero alone; the null of JSON (sync.kept_sql) and truth values have one text.
  select exists (select from jsonb_each_text(p_reworded) f
                  where case when f.value in ('real', 'double precision') then p_put ->> f.key ~ '^-?0(\.0*)?$'
                             else p_put -> f.key not in ('null', '"null"', 'true', 'false') end)
$$;
comment on function sync.loses_text(jsonb, jsonb) is
  'Whether a value that is written from what is kept as JSON may print otherwise than the source''s. p_reworded: '
  'sync.reworded_fields; p_put: the values.';

create function sync.decided_fields(p_decided jsonb, p_decision text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(key order by key) from jsonb_each_text(p_decided) where value = p_decision
$$;
comment on function sync.decided_fields(jsonb, text) is
  'The fields of a record about which one thing was decided; null: none.';

create function sync.finds_legacy_ids(p_entity public.sync_entities) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                  where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisvalid and i.indpred is null
                    and a.attname = p_entity.legacy_key)
$$;
comment on function sync.finds_legacy_ids(public.sync_entities) is
  'Whether an index of the target table leads with the legacy id.';

revoke all on function sync.reworded_fields(public.sync_entities), sync.loses_text(jsonb, jsonb),
  sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.json_fields(public.sync_entities), sync.reworded_sql(public.sync_entities), sync.prints_sql(public.sync_entities), sync.target_sql(public.sync_entities, text), sync.row_probe(public.sync_entities, text, text), sync.state_probe(public.sync_entities, text),
  sync.hidden_fields(jsonb), sync.hidden_columns(jsonb), sync.owned_columns(public.sync_entities), sync.seen_sql(),
  sync.left_sql(), sync.decided_fields(jsonb, text), sync.finds_legacy_ids(public.sync_entities) from public;
grant execute on function sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.json_fields(public.sync_entities), sync.reworded_sql(public.sync_entities), sync.prints_sql(public.sync_entities), sync.target_sql(public.sync_entities, text), sync.row_probe(public.sync_entities, text, text), sync.state_probe(public.sync_entities, text),
  sync.hidden_fields(jsonb), sync.hidden_columns(jsonb), sync.owned_columns(public.sync_entities), sync.seen_sql(),
  sync.left_sql(), sync.decided_fields(jsonb, text) to isthmus_worker;
grant execute on function sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.owned_columns(public.sync_entities) to isthmus_decisions;
grant execute on function sync.reworded_fields(public.sync_entities), sync.loses_text(jsonb, jsonb), sync.prints_sql(public.sync_entities) to isthmus_decisions;
grant execute on function sync.finds_legacy_ids(public.sync_entities) to isthmus_worker, isthmus_decisions;
