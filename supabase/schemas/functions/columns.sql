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
  'SQL: a value of a column as it is compared, kept and shown to people. Of a JSON column the null of JSON is the text null, and a text that reads null has an apostrophe before it.';

create function sync.texts_kept(p_type text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_type in ('json', 'real', 'double precision') then 'none' when p_type in ('jsonb', 'numeric') then 'apart' else 'all' end
$$;
comment on function sync.texts_kept(text) is
  'Of two texts that a type has for one value, what is kept as JSON (sync.kept_sql) tells: all: they are two values. apart: they are equal and print differently (1.5 and 1.50). none: nothing (order, blanks and repeated keys of json, the sign of a zero).';

create function sync.reworded_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('array_remove(array[%s], null)',
           string_agg(format('case when (p.%s)::%s::text is distinct from t.%I::text then %L end', c.slot, concat_ws('::', c.type, nullif(c.exact, c.type)), c.name, c.name), ', '))
    from sync.field_slots(p_entity) c where sync.texts_kept(c.type) <> 'all' and not c.recast
  having count(*) > 0
$$;
comment on function sync.reworded_sql(public.sync_entities) is
  'SQL: the fields of which the row t of the target has another text than its column would have of the new value p. Only those of which that may be so of equal values; null: the entity has none.';

create function sync.prints_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('jsonb_object(%L::text[], array[%s])', pg_catalog.array_agg(c.name order by c.name),
           string_agg(format('hashtextextended(t.%I::text, 0)::text', c.name), ', ' order by c.name))
    from sync.field_slots(p_entity) c where sync.texts_kept(c.type) = 'none' and not c.recast having count(*) > 0
$$;
comment on function sync.prints_sql(public.sync_entities) is
  'SQL: of the row t of the target, the hashes of the texts that what is kept as JSON does not tell apart, by field; null: the entity has none.';

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
  'SQL: what a column gets of values as they are kept (sync.kept_sql), an object. p_otherwise: where the column is no JSON.';

create function sync.json_fields(p_entity public.sync_entities) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(c.name), '{}') from sync.field_slots(p_entity) c where c.type in ('json', 'jsonb') and not c.recast
$$;
comment on function sync.json_fields(public.sync_entities) is 'The JSON columns that an entity fills.';

create function sync.target_sql(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_schema = 'pg_temp' then 'pg_temp.page_shadow' else format('public.%I', p_entity.target_table) end
$$;
comment on function sync.target_sql(public.sync_entities, text) is 'SQL: the target table of an entity, or in a plan (p_schema: pg_temp) its shadow.';

-- Whatever the planner thinks of tables that nobody has analysed, a page looks each of its records up: it never joins a whole table.
create function sync.row_probe(p_entity public.sync_entities, p_schema text, p_id text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- The worker may read the columns that were granted to it, and no others.
  select format('lateral (select r.xmin, %s from %s r where r.id = %s offset 0) t', string_agg(format('r.%I', a.attname), ', '), x.target, p_id)
    from (select sync.target_sql(p_entity, p_schema) as target) x
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(x.target) and a.attnum > 0 and not a.attisdropped and has_column_privilege(a.attrelid, a.attnum, 'select')
   group by x.target
$$;
comment on function sync.row_probe(public.sync_entities, text, text) is
  'SQL, for a join: one index probe for the target row t with the id p_id, with its xmin and the columns that the caller may read. p_schema: as for sync.target_sql.';

create function sync.state_probe(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return format('lateral (select r.* from %I.sync_row_states r where r.entity_id = %s and r.legacy_id = p._key offset 0) s', p_schema, p_entity.id);
comment on function sync.state_probe(public.sync_entities, text) is 'SQL, for a join: one index probe for the row state s of the record p. p_schema: as for sync.target_sql.';

create function sync.has_unique_keys(p_value json) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive parts (value) as (
    select p_value
    union all
    select c.value from parts p cross join lateral (
      select value from json_each(case json_typeof(p.value) when 'object' then p.value else '{}' end)
      union all
      select value from json_array_elements(case json_typeof(p.value) when 'array' then p.value else '[]' end)) c
  )
  select bool_and((select count(*) = count(distinct k) from json_object_keys(case json_typeof(value) when 'object' then value else '{}' end) k)) from parts
$$;
comment on function sync.has_unique_keys(json) is 'Whether no object within has a key twice. From PostgreSQL 16 on the server tells that itself: is json with unique keys.';

create function sync.exact_type(p_type oid, p_modifier integer, out type text, out exact text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive step as (
    select p_type as type, p_modifier as modifier
    union all
    select t.typbasetype, greatest(s.modifier, t.typtypmod) from step s cross join lateral (select t.* from pg_catalog.pg_type t where t.oid = s.type offset 0) t where t.typtype = 'd'
  )
  select format_type(s.type, -1), format_type(s.type, s.modifier)
    from step s cross join lateral (select t.* from pg_catalog.pg_type t where t.oid = s.type offset 0) t where t.typtype <> 'd'
$$;
comment on function sync.exact_type(oid, integer) is 'What stands behind a domain: the type without a modifier, and with the one that counts.';

create function sync.record_texts(p_record text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(case when f.field = '' then null
                        when left(f.field, 1) = '"' then regexp_replace(replace(substr(f.field, 2, length(f.field) - 2), '""', '"'), '\\(.)', '\1', 'g')
                        else f.field end order by m.n)
    from regexp_matches(',' || substr(p_record, 2, length(p_record) - 2), ',((?:"(?:[^"\\]|""|\\.)*"|[^,"\\])*)', 'g') with ordinality m (parts, n)
    cross join lateral (select m.parts[1] as field) f
$$;
comment on function sync.record_texts(text) is 'The attributes of a composite value, each as text, from the value as PostgreSQL writes it.';

create function sync.fits_scalar_sql(p_name text, p_type text, p_exact text, p_padded text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select '(' || string_agg(format(c.condition, p_name, p_type, p_exact), ' and ') || ')'
    from (values
      -- What these types read from a text they cut, round or move to another zone without an error.
      (p_type = 'real', '(p.%1$I)::real::text::numeric = (p.%1$I)::numeric'),
      (p_type = 'double precision', '(p.%1$I)::double precision::text::numeric = (p.%1$I)::numeric'),
      (p_type = 'money', $c$p.%1$I !~ '\.\d\d\d*[1-9]'$c$),
      -- A negative number is read as a very large one.
      (p_type in ('oid', 'xid', 'xid8', 'cid'), $c$p.%1$I !~ '-'$c$),
      (p_type = 'name', '(p.%1$I)::name::text = p.%1$I'),
      (p_type = '"char"', '(p.%1$I)::"char"::text = p.%1$I'),
      (p_type = 'time without time zone', $c$p.%1$I ~ '^\d\d?:\d\d(:\d\d(\.\d+)?)?$'$c$),
      -- No time is finer than a microsecond.
      (p_type in ('timestamp without time zone', 'timestamp with time zone', 'time without time zone', 'time with time zone', 'interval'),
       $c$p.%1$I !~ '\.\d{6}\d*[1-9]'$c$),
      -- Of a key that stands twice one value is dropped.
      (p_type = 'jsonb' and current_setting('server_version_num')::integer >= 160000, 'p.%1$I is json with unique keys'),
      (p_type = 'jsonb' and current_setting('server_version_num')::integer < 160000, 'sync.has_unique_keys((p.%1$I)::json)'),
      -- Nothing says of which zone a time without one would be, nor where a moment's time is meant.
      (p_type = 'timestamp with time zone', $c$p.%1$I ~* '^\s*[-+]?infinity\s*$|:\d\d(\.\d+)? ?([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)( (bc|ad))?$'$c$),
      (p_type = 'time with time zone', $c$p.%1$I ~* '([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)$'$c$),
      (p_type = 'timestamp without time zone', '(p.%1$I)::timestamptz = (p.%1$I)::timestamp::timestamptz'),
      -- A date may lie beyond what a timestamp holds.
      (p_type = 'date', $c$case when p.%1$I ~ '^\d{4,7}-\d\d-\d\d( BC)?$' then true else (p.%1$I)::timestamptz = (p.%1$I)::date::timestamptz end$c$),
      -- Words that are another day at each reading.
      (p_type in ('date', 'timestamp without time zone'), $c$p.%1$I !~* '\m(now|today|tomorrow|yesterday)\M'$c$),
      (p_type in ('date', 'timestamp without time zone'), $c$p.%1$I !~* ':\d\d(\.\d+)? ?([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)( (bc|ad))?$'$c$),
      -- Blanks at the end would be lost among those that the type pads with, where they are not such themselves.
      (p_exact <> p_type and p_type = 'bpchar' and p_padded = 'no', 'right(p.%1$I, 1) <> '' '''),
      (p_exact <> p_type and p_type = 'bpchar' and p_padded = 'perhaps', format('length(p.%%1$I) <= %s', substring(p_exact from '\d+'))),
      -- What a modifier would cut, round or pad. Texts need no operator of the type, whose schema no search path of ours may have; only a number has more than one.
      (p_exact <> p_type and p_type <> 'numeric', '(p.%1$I)::%2$s::text = (p.%1$I)::%2$s::%3$s::text'),
      (p_exact <> p_type and p_type = 'numeric', '(p.%1$I)::%2$s = (p.%1$I)::%2$s::%3$s')) c (applies, condition)
   where c.applies
$$;
comment on function sync.fits_scalar_sql(text, text, text, text) is 'What sync.fits_sql returns of a type that has no parts. p_padded: whether blanks at the end of the text are those with which a char(n) pads: no, yes, perhaps.';

create function sync.fits_range_sql(p_name text, p_type text) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  c_zone  constant text := ':\d\d(\.\d+)? ?([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)( (bc|ad))?';
  c_bound constant text := '\s*"?([-+]?infinity|[^",]*' || c_zone || ')?"?\s*';
  c_range constant text := '\s*(empty|[[(]' || c_bound || ',' || c_bound || '[])])\s*';
  v_of    record;
begin
  select d.type, d.exact into v_of from pg_catalog.pg_range r cross join lateral sync.exact_type(r.rngsubtype, -1) d
   where to_regtype(p_type) in (r.rngtypid, r.rngmultitypid);
  return case v_of.type
    when 'timestamp with time zone' then format('(p.%1$I ~* %2$L and p.%1$I !~ %3$L)', p_name,
      '^(' || c_range || '|\s*\{(' || c_range || '(,' || c_range || ')*)?\s*\}\s*)$', '\.\d{6}\d*[1-9]')
    when 'timestamp without time zone' then format('(p.%1$I !~* %2$L and p.%1$I !~ %3$L)', p_name,
      c_zone || '|\m(now|today|tomorrow|yesterday)\M', '\.\d{6}\d*[1-9]')
    when 'date' then format('(p.%1$I !~* %2$L)', p_name, '\d:\d|\m(now|today|tomorrow|yesterday)\M')
    else case when sync.fits_sql('value', v_of.type, v_of.exact, 'true') is not null then format('((p.%1$I)::%2$s::text = p.%1$I)', p_name, p_type) end
  end;
end
$$;
comment on function sync.fits_range_sql(text, text) is
  'What sync.fits_sql returns of ranges and multiranges: bounds say of which zone a moment is, and are nothing finer than the type. Of other bounds that may be cut the range has to be written as PostgreSQL writes it.';

create function sync.fits_sql(p_name text, p_type text, p_exact text, p_padded jsonb default null, p_path text default '') returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_type    pg_catalog.pg_type;
  v_element record;
  v_part    text;
begin
  select * into v_type from pg_catalog.pg_type where oid = to_regtype(p_type);
  if v_type.typtype = 'c' then
    select string_agg(format('(select coalesce(%s, true) from (select (sync.record_texts(p.%I))[%s] as value) p)', a.fits, p_name, a.n), ' and ') into v_part
      from (select a.n, sync.fits_sql('value', d.type, d.exact, p_padded, p_path || '.' || a.n) as fits
              from (select a.atttypid, a.atttypmod, row_number() over (order by a.attnum) as n from pg_catalog.pg_attribute a
                     where a.attrelid = v_type.typrelid and a.attnum > 0 and not a.attisdropped) a
              cross join lateral sync.exact_type(a.atttypid, a.atttypmod) d) a
     where a.fits is not null;
    return '(' || v_part || ')';
  end if;
  select e.oid, e.typtype into v_element from pg_catalog.pg_type e where e.oid = v_type.typelem and e.typarray = v_type.oid and e.typdelim = ',' and v_type.typtype = 'b';
  if found then
    select coalesce(sync.fits_sql('value', x.type, x.exact, p_padded, p_path || '[]'), 'true') into v_part
      from (select case when v_element.typtype = 'd' then d.type else left(p_type, -2) end as type,
                   case when v_element.typtype = 'd' then d.exact else left(p_exact, -2) end as exact
              from sync.exact_type(v_element.oid, -1) d) x;
    return case when v_part <> 'true' then
      format('(select coalesce(bool_and(%s is not false), true) from (select pg_catalog.unnest((p.%I)::text[]) as value) p)', v_part, p_name) end;
  elsif v_type.typtype in ('r', 'm') then
    return sync.fits_range_sql(p_name, p_type);
  end if;
  return sync.fits_scalar_sql(p_name, p_type, p_exact,
    case when jsonb_typeof(p_padded) = 'array' then case when p_padded ? p_path then 'yes' when p_padded ? '*' and not p_padded ? ('!' || p_path) then 'perhaps' else 'no' end
         when p_padded = 'true' or p_path <> '' then 'perhaps' else 'no' end);
end
$$;
comment on function sync.fits_sql(text, text, text, jsonb, text) is
  'SQL over the text p.<p_name>: whether a column of that type holds the value exactly, its elements and attributes, too; null where every value that can be read as the type fits. p_padded: the parts of the text (at p_path: [] elements, .n attributes) that have the blanks with which a char(n) pads, as sync.padded_parts has them, *: any other may have them, too, but for those with a ! before them, because the value is computed from such parts; null: nobody knows of any part; true: the whole text may have them, as in JSON. A char(n) of the source that is no part is read without its own. Time zone UTC.';

create function sync.padded_parts(p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp
return (select h.padded from public.sync_entity_shapes h where h.entity_id = p_entity.id);
comment on function sync.padded_parts(public.sync_entities) is
  'Which parts of the source''s values are char(n), by field, for sync.fits_sql; of a field that is missing nobody knows.';

create function sync.hidden_fields(p_columns jsonb) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return array(select c ->> 'name' from jsonb_array_elements(p_columns) c where (c ->> 'sensitive')::boolean);
comment on function sync.hidden_fields(jsonb) is 'The fields of an entity, by sync_entities.columns, that are sensitive.';

create function sync.owned_columns(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(format('%s as %I', sync.kept_sql(format('t.%I', c.name), c.type, c.recast), c.name), ', ') from sync.field_slots(p_entity) c
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

create function sync.reworded_fields(p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(c.name, c.type), '{}') from sync.field_slots(p_entity) c where sync.texts_kept(c.type) = 'none' and not c.recast
$$;
comment on function sync.reworded_fields(public.sync_entities) is
  'The fields, with their types, whose values may print otherwise than the source''s when they are written from what is kept as JSON.';

create function sync.loses_text(p_reworded jsonb, p_put jsonb) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of a float JSON loses the sign of zero alone; the null of JSON (sync.kept_sql) and truth values have one text.
  select exists (select from jsonb_each_text(p_reworded) f
                  where case when f.value in ('real', 'double precision') then p_put ->> f.key ~ '^-?0(\.0*)?$'
                             else p_put -> f.key not in ('null', '"null"', 'true', 'false') end)
$$;
comment on function sync.loses_text(jsonb, jsonb) is
  'Whether a value that is written from what is kept as JSON may print otherwise than the source''s. p_reworded: sync.reworded_fields; p_put: the values.';

create function sync.decided_fields(p_decided jsonb, p_decision text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(key order by key) from jsonb_each_text(p_decided) where value = p_decision
$$;
comment on function sync.decided_fields(jsonb, text) is 'The fields of a record about which one thing was decided; null: none.';

create function sync.finds_legacy_ids(p_entity public.sync_entities) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                  where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisvalid and i.indpred is null
                    and a.attname = p_entity.legacy_key)
$$;
comment on function sync.finds_legacy_ids(public.sync_entities) is 'Whether an index of the target table leads with the legacy id.';

revoke all on function sync.reworded_fields(public.sync_entities), sync.loses_text(jsonb, jsonb),
  sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.json_fields(public.sync_entities), sync.reworded_sql(public.sync_entities), sync.prints_sql(public.sync_entities), sync.target_sql(public.sync_entities, text), sync.row_probe(public.sync_entities, text, text), sync.state_probe(public.sync_entities, text),
  sync.fits_sql(text, text, text, jsonb, text), sync.fits_range_sql(text, text), sync.fits_scalar_sql(text, text, text, text), sync.exact_type(oid, integer), sync.record_texts(text),
  sync.has_unique_keys(json), sync.padded_parts(public.sync_entities), sync.hidden_fields(jsonb), sync.owned_columns(public.sync_entities), sync.seen_sql(),
  sync.left_sql(), sync.decided_fields(jsonb, text), sync.finds_legacy_ids(public.sync_entities) from public;
grant execute on function sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.json_fields(public.sync_entities), sync.reworded_sql(public.sync_entities), sync.prints_sql(public.sync_entities), sync.target_sql(public.sync_entities, text), sync.row_probe(public.sync_entities, text, text), sync.state_probe(public.sync_entities, text),
  sync.fits_sql(text, text, text, jsonb, text), sync.fits_range_sql(text, text), sync.fits_scalar_sql(text, text, text, text), sync.exact_type(oid, integer), sync.record_texts(text),
  sync.has_unique_keys(json), sync.padded_parts(public.sync_entities), sync.hidden_fields(jsonb), sync.owned_columns(public.sync_entities), sync.seen_sql(),
  sync.left_sql(), sync.decided_fields(jsonb, text) to isthmus_worker;
grant execute on function sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.fits_sql(text, text, text, jsonb, text), sync.fits_range_sql(text, text), sync.fits_scalar_sql(text, text, text, text), sync.exact_type(oid, integer), sync.record_texts(text),
  sync.has_unique_keys(json),
  sync.owned_columns(public.sync_entities) to isthmus_decisions;
grant execute on function sync.reworded_fields(public.sync_entities), sync.loses_text(jsonb, jsonb), sync.prints_sql(public.sync_entities) to isthmus_decisions;
grant execute on function sync.finds_legacy_ids(public.sync_entities) to isthmus_worker, isthmus_decisions;
