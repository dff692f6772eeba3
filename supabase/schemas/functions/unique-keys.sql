-- Purpose: the unique indexes of a target table, and which values they hold equal.

create function sync.are_owned(p_entity public.sync_entities, p_table oid, p_columns smallint[]) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select not exists (
    select from pg_catalog.pg_attribute a
     where a.attrelid = p_table and a.attnum = any (p_columns) and a.attname <> 'id'
       and not exists (select from jsonb_array_elements(p_entity.columns) c where c ->> 'name' = a.attname))
$$;
comment on function sync.are_owned(public.sync_entities, oid, smallint[]) is
  'Whether the sync owns all these columns of its target table (id is always its own).';

-- Without its schema an extension's operator is not found, and another one would compare text instead.
create function sync.equality(p_class oid) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('operator(%I.%s)', n.nspname, o.oprname)
    from pg_catalog.pg_opclass c
    join pg_catalog.pg_amop a on a.amopfamily = c.opcfamily and a.amoplefttype = c.opcintype and a.amoprighttype = c.opcintype and a.amopstrategy = 3
    join pg_catalog.pg_operator o on o.oid = a.amopopr
    join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
   where c.oid = p_class
$$;
comment on function sync.equality(oid) is 'The operator by which a B-tree of an operator class finds equal values.';

create function sync.is_hashable(p_type oid) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  execute format('select hash_record_extended(row(null::%s), 0)', format_type(p_type, null));
  return true;
exception when undefined_function then
  return false;
end
$$;
comment on function sync.is_hashable(oid) is
  'Whether equal values of a type have one hash (char(n) with and without blanks, 1.0 and 1.00, citext).';

create function sync.index_key(p_index oid, p_n integer) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- pg_get_indexdef leaves out the collation of a single column. What an expression has of itself no catalog tells.
  select pg_get_indexdef(i.indexrelid, p_n, false) || coalesce((
           select format(' collate %I.%I', n.nspname, c.collname)
             from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
            where c.oid = i.indcollation[p_n - 1]
              and not exists (select from pg_catalog.pg_attribute a where a.attrelid = i.indrelid and a.attnum = i.indkey[p_n - 1] and a.attcollation = c.oid)), '')
    from pg_catalog.pg_index i where i.indexrelid = p_index
$$;
comment on function sync.index_key(oid, integer) is
  'SQL over the columns of a table: what one of its indexes compares as its n-th column, under the collation of the '
  'index.';

create function sync.unique_keys(p_entity public.sync_entities) returns table (name text, definition text, keys text[], operators text[], types oid[], nulls_equal boolean, predicate text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.relname::text, pg_get_indexdef(i.indexrelid),
         array(select sync.index_key(i.indexrelid, k) from generate_series(1, i.indnkeyatts) k),
         array(select sync.equality(i.indclass[k - 1]) from generate_series(1, i.indnkeyatts) k),
         array(select a.atttypid from pg_catalog.pg_attribute a where a.attrelid = i.indexrelid and a.attnum <= i.indnkeyatts order by a.attnum), i.indnullsnotdistinct,
         pg_get_expr(i.indpred, i.indrelid)
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
   where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisunique and i.indisvalid
     and sync.are_owned(p_entity, i.indrelid, array(
           select k::smallint from pg_catalog.unnest(i.indkey::smallint[]) k where k <> 0
           union select d.refobjsubid::smallint from pg_catalog.pg_depend d
                  where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid and d.refobjid = i.indrelid and d.refobjsubid > 0))
   order by c.relname
$$;
comment on function sync.unique_keys(public.sync_entities) is
  'The unique indexes of an entity''s target table over columns that the sync owns.';

create function sync.holds_key_sql(p_keys text[], p_operators text[], p_nulls_equal boolean) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(format(case when p_nulls_equal then '(%1$s %3$s k._k%2$s or %1$s is null and k._k%2$s is null)' else '%1$s %3$s k._k%2$s' end, e, n, o),
                    ' and ' order by n)
    from unnest(p_keys, p_operators) with ordinality x (e, o, n)
$$;
comment on function sync.holds_key_sql(text[], text[], boolean) is
  'SQL: whether a row of the target table holds the key k (_k1, _k2, ...) of a unique index.';

create function sync.key_hashes(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Two records never share the id or the legacy key. Values that are equal may be written differently: their type
  -- hashes them, if it can.
  select 'array[' || string_agg(format('hash_record_extended(row(%L::text, %s), 0)', u.name,
                                       (select string_agg(case when sync.is_hashable(t) then k else '(' || k || ')::text' end, ', ' order by n) from unnest(u.keys, u.types) with ordinality x (k, t, n))), ', ') || ']'
    from sync.unique_keys(p_entity) u
   where u.keys <> array['id'] and u.keys <> array[quote_ident(p_entity.legacy_key)]
$$;
comment on function sync.key_hashes(public.sync_entities) is
  'SQL over the columns of the target table: one hash for each unique index. Null: there is none that two records '
  'could share.';

revoke all on function sync.is_hashable(oid), sync.index_key(oid, integer), sync.unique_keys(public.sync_entities), sync.are_owned(public.sync_entities, oid, smallint[]),
  sync.key_hashes(public.sync_entities), sync.equality(oid), sync.holds_key_sql(text[], text[], boolean) from public;
grant execute on function sync.is_hashable(oid), sync.index_key(oid, integer), sync.unique_keys(public.sync_entities), sync.are_owned(public.sync_entities, oid, smallint[]),
  sync.key_hashes(public.sync_entities), sync.equality(oid), sync.holds_key_sql(text[], text[], boolean) to isthmus_worker;
