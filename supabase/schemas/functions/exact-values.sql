-- Purpose: the SQL that tells whether a column holds the value of a text exactly: neither cut, rounded, padded nor
--          read otherwise.
-- Locks:   none.

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
comment on function sync.exact_type(oid, integer) is
  'What stands behind a domain: the type without a modifier, and with the one that counts.';

create function sync.record_texts(p_record text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(case when f.field = '' then null
                        when left(f.field, 1) = '"' then regexp_replace(replace(substr(f.field, 2, length(f.field) - 2), '""', '"'), '\\(.)', '\1', 'g')
                        else f.field end order by m.n)
    from regexp_matches(',' || substr(p_record, 2, length(p_record) - 2), ',((?:"(?:[^"\\]|""|\\.)*"|\\.|[^,"\\])*)', 'g') with ordinality m (parts, n)
    cross join lateral (select m.parts[1] as field) f
$$;
comment on function sync.record_texts(text) is
  'The attributes of a composite value, each as text, from the value as PostgreSQL writes it.';

create function sync.range_bounds(p_range text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(b.value)
    from regexp_matches(p_range, '[[(]((?:"(?:[^"\\]|""|\\.)*"|\\.|[^])"\\])*)[])]', 'g') r (parts)
    cross join lateral pg_catalog.unnest(sync.record_texts('(' || r.parts[1] || ')')) b (value)
$$;
comment on function sync.range_bounds(text) is
  'The bounds of a range, or of all ranges of a multirange, each as text, null where there is none.';

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
comment on function sync.has_unique_keys(json) is
  'Whether no object within has a key twice. From PostgreSQL 16 on the server tells that itself: is json with unique '
  'keys.';

create function sync.fits_scalar_sql(p_name text, p_type text, p_exact text, p_padded text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select '(' || string_agg(format(c.condition, p_name, p_type, p_exact), ' and ') || ')'
    from (select '(\d{4,7}-\d\d?-\d\d?|\d{4,7}/\d\d?/\d\d?|\d{8})' as day, '\d\d?:[0-5]\d(:[0-5]\d(\.\d+)?)?' as hour,
                 'T\d\d[0-5]\d[0-5]\d(\.\d+)?' as basic, ' ?([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)' as zone, '( (bc|ad))?' as era,
                 -- PostGIS writes bytes and reads words.
                 to_regtype(p_type)::oid in (select y.oid from pg_catalog.pg_type y where y.typname in ('geometry', 'geography')) as spatial) v
    left join pg_catalog.pg_type t on t.oid = to_regtype(p_type)
    cross join lateral (values
      -- What these types read from a text they cut, round or move to another zone without an error.
      (p_type = 'real', '(p.%1$I)::real::text::numeric = (p.%1$I)::numeric'),
      (p_type = 'double precision', '(p.%1$I)::double precision::text::numeric = (p.%1$I)::numeric'),
      -- A comma of a decimal is dropped among those between thousands.
      (p_type = 'money', $c$p.%1$I ~ '^\s*[-+]?\$?(\d+|\d{1,3}(,\d{3})+)(\.\d{0,2}0*)?\s*$'$c$),
      -- Numbers read as very large ones, or by their first digits; positions that are cut; words that stand twice.
      (p_type in ('oid', 'xid', 'xid8', 'cid', 'tid', 'pg_snapshot', 'txid_snapshot', 'tsvector'), '(p.%1$I)::%2$s::text = p.%1$I'),
      -- What PostgreSQL does not bring itself it knows nothing of: such a text has to be as the type writes it.
      -- Between the numbers of a list blanks say nothing.
      (t.oid >= 16384 and t.typtype = 'b' and not v.spatial, $c$case when p.%1$I !~ '^[-+.,:;/(){}\[\]0-9eE ]*$' then (p.%1$I)::%2$s::text = p.%1$I
        else regexp_replace((p.%1$I)::%2$s::text, ' *([,:;(){}\[\]]) *', '\1', 'g') = regexp_replace(p.%1$I, ' *([,:;(){}\[\]]) *', '\1', 'g') end$c$),
      -- Texts of bytes are written in two ways, bits in three: what is meant only digits tell.
      (p_type = 'bytea', $c$p.%1$I ~ '^\\x([0-9A-Fa-f]{2})*$'$c$),
      (p_type in ('bit', 'bit varying'), $c$p.%1$I ~ '^[01]*$'$c$),
      -- Of shapes the numbers are rounded; a line is computed from its two points.
      (p_type in ('point', 'line', 'lseg', 'box', 'box[]', 'path', 'polygon', 'circle') or v.spatial,
       $c$case when p.%1$I ~ '^[0-9A-Fa-f]*$' then true else (
            select coalesce(bool_and(m.n[1]::double precision::text::numeric = m.n[1]::numeric), true)
              from regexp_matches(p.%1$I, '(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?', 'gi') m (n)) end$c$),
      (p_type = 'line', $c$p.%1$I ~ '^\s*\{'$c$),
      -- A network without a length gets one by its class, and an address of six bytes two more.
      (p_type = 'cidr', $c$p.%1$I ~ '[:/]|^(\d+\.){3}\d+$'$c$),
      (p_type = 'macaddr8', $c$length(regexp_replace(p.%1$I, '[^0-9A-Fa-f]', '', 'g')) = 16$c$),
      (p_type = 'name', '(p.%1$I)::name::text = p.%1$I'),
      (p_type = '"char"', '(p.%1$I)::"char"::text = p.%1$I'),
      -- No time is finer than a microsecond.
      (p_type in ('timestamp without time zone', 'timestamp with time zone', 'time without time zone', 'time with time zone', 'interval'),
       $c$p.%1$I !~ '\.\d{6}\d*[1-9]'$c$),
      -- Of a key that stands twice one value is dropped.
      (p_type = 'jsonb' and current_setting('server_version_num')::integer >= 160000, 'p.%1$I is json with unique keys'),
      (p_type = 'jsonb' and current_setting('server_version_num')::integer < 160000, 'sync.has_unique_keys((p.%1$I)::json)'),
      -- Days and times year first, as ISO 8601 has them: others are read in one order of several, and words (now,
      -- tomorrow) as another day at each reading. A zone stands where the type has one, and nowhere else. No minute
      -- has a sixty-first second.
      (p_type = 'date', 'p.%1$I ~* ' || quote_literal('^\s*([-+]?infinity|' || v.day || '([ T]0?0:00(:00(\.0+)?)?)?' || v.era || ')\s*$')),
      (p_type = 'time without time zone', 'p.%1$I ~ ' || quote_literal('^\s*' || v.hour || '\s*$')),
      (p_type = 'time with time zone', 'p.%1$I ~* ' || quote_literal('^\s*' || v.hour || v.zone || '\s*$')),
      (p_type = 'timestamp without time zone', 'p.%1$I ~* ' || quote_literal('^\s*([-+]?infinity|' || v.day || '([ T]' || v.hour || '|' || v.basic || ')?' || v.era || ')\s*$')),
      (p_type = 'timestamp with time zone', 'p.%1$I ~* ' || quote_literal('^\s*([-+]?infinity|' || v.day || '([ T]' || v.hour || '|' || v.basic || ')' || v.zone || v.era || ')\s*$')),
      -- A part of a year or a month is rounded; whoever means hours can say so. Two numbers are hours and minutes, or
      -- minutes and seconds.
      (p_type = 'interval', $c$p.%1$I !~* '\.\d*[1-9]\d*\s*(?!s|ago)[a-z]|(^|[^:0-9])\d+:\d+(\.\d*)?([^:.0-9]|$)'$c$),
      -- Blanks at the end would be lost among those that the type pads with, where they are not such themselves.
      (p_exact <> p_type and p_type = 'bpchar' and p_padded = 'no', 'right(p.%1$I, 1) <> '' '''),
      (p_exact <> p_type and p_type = 'bpchar' and p_padded = 'perhaps', format('length(p.%%1$I) <= %s', substring(p_exact from '\d+'))),
      -- What a modifier would cut, round or pad. Texts need no operator of the type, whose schema no search path of
      -- ours may have; only a number has more than one.
      (p_exact <> p_type and p_type <> 'numeric', '(p.%1$I)::%2$s::text = (p.%1$I)::%2$s::%3$s::text'),
      (p_exact <> p_type and p_type = 'numeric', '(p.%1$I)::%2$s = (p.%1$I)::%2$s::%3$s')) c (applies, condition)
   where c.applies
$$;
comment on function sync.fits_scalar_sql(text, text, text, text) is
  'What sync.fits_sql returns of a type that has no parts. p_padded: whether blanks at the end of the text are those '
  'with which a char(n) pads: no, yes, perhaps.';

create function sync.fits_range_sql(p_name text, p_type text) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_bound text;
begin
  select sync.fits_sql('value', d.type, d.exact, 'true') into v_bound
    from pg_catalog.pg_range r cross join lateral sync.exact_type(r.rngsubtype, -1) d
   where to_regtype(p_type) in (r.rngtypid, r.rngmultitypid);
  -- Bounds between which nothing lies are dropped.
  return '(' || format($c$(p.%1$I ~* '^\s*(empty|\{\s*\})\s*$' or not isempty((p.%1$I)::%2$s))$c$, p_name, p_type)
    || case when v_bound is null then ''
         else format(' and (select coalesce(bool_and(%s is not false), true) from (select pg_catalog.unnest(sync.range_bounds(p.%I)) as value) p)', v_bound, p_name) end || ')';
end
$$;
comment on function sync.fits_range_sql(text, text) is
  'What sync.fits_sql returns of ranges and multiranges: whether each bound is held, and something lies between '
  'them.';

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
  'SQL over the text p.<p_name>: whether a column of that type holds the value exactly, its elements and attributes, '
  'too; null where every value that can be read as the type fits. p_padded: the parts of the text (at p_path: [] '
  'elements, .n attributes) that have the blanks with which a char(n) pads, as sync.padded_parts has them, *: any '
  'other may have them, too, but for those with a ! before them, because the value is computed from such parts; '
  'null: nobody knows of any part; true: the whole text may have them, as in JSON. A char(n) of the source that is '
  'no part is read without its own. Time zone UTC.';

create function sync.padded_parts(p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp
return (select h.padded from public.sync_entity_shapes h where h.entity_id = p_entity.id);
comment on function sync.padded_parts(public.sync_entities) is
  'Which parts of the source''s values are char(n), by field, for sync.fits_sql; of a field that is missing nobody '
  'knows.';

revoke all on function sync.exact_type(oid, integer), sync.record_texts(text), sync.range_bounds(text), sync.has_unique_keys(json),
  sync.fits_scalar_sql(text, text, text, text), sync.fits_range_sql(text, text), sync.fits_sql(text, text, text, jsonb, text), sync.padded_parts(public.sync_entities) from public;
grant execute on function sync.exact_type(oid, integer), sync.record_texts(text), sync.range_bounds(text), sync.has_unique_keys(json),
  sync.fits_scalar_sql(text, text, text, text), sync.fits_range_sql(text, text), sync.fits_sql(text, text, text, jsonb, text), sync.padded_parts(public.sync_entities) to isthmus_worker;
grant execute on function sync.exact_type(oid, integer), sync.record_texts(text), sync.range_bounds(text), sync.has_unique_keys(json),
  sync.fits_scalar_sql(text, text, text, text), sync.fits_range_sql(text, text), sync.fits_sql(text, text, text, jsonb, text) to isthmus_decisions;
