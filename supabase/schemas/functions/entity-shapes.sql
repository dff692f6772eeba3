-- Purpose: which columns, types and files the rows of an entity stood in when both sides were last compared: what
--          changes rows without writing them (columns dropped and added again, renamed or retyped, renamed members of
--          enums, attached partitions, a reload) changes these.

-- Numbers of the catalog are never given twice within a table, a type or a database, names are.
create function sync.target_shapes(p_source_id smallint, p_entities text[]) returns table (entity_id smallint, shape jsonb)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive entities as (
    select e.id, to_regclass(format('public.%I', e.target_table))::oid as root, array(select c ->> 'name' from jsonb_array_elements(e.columns) c) as owned
      from public.sync_entities e where e.source_id = p_source_id and e.entity_type = any (p_entities)
  ), members as (
    select id, root as relid from entities where root is not null
    union
    select m.id, i.inhrelid from members m join pg_inherits i on i.inhparent = m.relid
  ), fields as (
    select m.id, m.relid, a.attname, a.attnum, a.atttypid, a.atttypmod, a.attgenerated
      from entities e join members m on m.id = e.id
      join pg_attribute a on a.attrelid = m.relid and a.attname = any (e.owned) and a.attnum > 0 and not a.attisdropped
  ), made (whole, type) as (
    select distinct atttypid, atttypid from fields
    union
    -- What a value of a type is made of.
    select y.whole, part.type from made y join pg_type t on t.oid = y.type
      cross join lateral (
        select t.typbasetype as type where t.typtype = 'd'
        union all select t.typelem where t.typlen = -1 and t.typelem <> 0
        union all select r.rngsubtype from pg_range r where r.rngtypid = t.oid
        union all select a.atttypid from pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) part
  ), parts (whole, what, identity) as (
    select y.whole, 'member ' || n.oid::text, n.enumlabel::text from made y join pg_enum n on n.enumtypid = y.type
    union all select y.whole, 'attribute ' || a.attrelid::text || '.' || a.attnum::text, concat_ws('/', a.attname, a.atttypid, a.attisdropped)
      from made y join pg_type t on t.oid = y.type and t.typtype = 'c' join pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0
  ), identities (id, name, what, identity) as (
    select id, attname, 'number ' || relid, attnum::text from fields
    union all select id, attname, 'type ' || relid, concat_ws('/', atttypid, atttypmod, nullif(attgenerated, '')) from fields
    union all select f.id, f.attname, p.what, p.identity from fields f join parts p on p.whole = f.atttypid
  ), columns as (
    select c.id, jsonb_object_agg(c.name, c.identities) as identities
      from (select id, name, jsonb_object_agg(what, identity) as identities from identities group by id, name) c group by c.id
  ), files as (
    select m.id, md5(string_agg(concat_ws('/', c.oid, c.relfilenode), ' ' order by c.oid)) as rows
      from members m join pg_class c on c.oid = m.relid group by m.id
  ), called (id, function) as (
    -- What generated columns compute with; of functions whose bodies the catalog reads, what they call, too. What
    -- defaults, checks, indexes and domains call changes no row that is there.
    select m.id, d.refobjid
      from members m
      join pg_attribute a on a.attrelid = m.relid and a.attgenerated <> '' join pg_attrdef x on x.adrelid = a.attrelid and x.adnum = a.attnum
      join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = x.oid and d.refclassid = 'pg_proc'::regclass
    union
    select c.id, d.refobjid from called c
      join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = c.function and d.refclassid = 'pg_proc'::regclass
  ), bodies as (
    select c.id, md5(string_agg(concat_ws('/', p.oid, p.prosrc, pg_get_function_sqlbody(p.oid), p.probin, p.proconfig::text), ' ' order by p.oid)) as functions
      from called c join pg_proc p on p.oid = c.function group by c.id
  )
  select e.id, jsonb_build_object('columns', coalesce(c.identities, '{}'), 'files', jsonb_build_object('rows', f.rows, 'functions', coalesce(b.functions, '')))
    from entities e join files f on f.id = e.id left join columns c on c.id = e.id left join bodies b on b.id = e.id
$$;
comment on function sync.target_shapes(smallint, text[]) is
  'The shapes of the target tables of entities: where the values of the columns that they fill stand, and in which '
  'files, those of partitions and children too; and the bodies of the functions that their generated columns call.';

create function sync.reshaped_columns(p_before jsonb, p_now jsonb) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(distinct c.key order by c.key), '{}')
    from (
      select b.key
        from jsonb_each(p_before -> 'columns') b
        cross join lateral jsonb_each_text(b.value) w
        cross join lateral (select p_now -> 'columns' -> b.key ->> w.key as identity) n
       -- A type that changes with the file staying only reads differently.
       where n.identity <> w.value and (w.key not like 'type %' or p_before -> 'files' ->> 'rows' is distinct from p_now -> 'files' ->> 'rows')
      union
      -- What is new says nothing of older values, but for an attribute, which every value of its type has at once.
      select b.key
        from jsonb_each(p_before -> 'columns') b
        cross join lateral jsonb_each_text(p_now -> 'columns' -> b.key) n
       where n.key like 'attribute %' and not b.value ? n.key) c
$$;
comment on function sync.reshaped_columns(jsonb, jsonb) is
  'The columns of which a value may be another one in the second shape, without anybody having written it.';

create function sync.has_moved(p_before jsonb, p_now jsonb) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.reshaped_columns(p_before, p_now) <> '{}'
      or exists (select from jsonb_each(p_before -> 'files') b where p_now -> 'files' -> b.key <> b.value)
$$;
comment on function sync.has_moved(jsonb, jsonb) is
  'Whether rows may be others in the second shape than in the first, without anybody having written them.';

create function sync.look_at_shapes(p_source_id smallint, p_entities text[], p_source jsonb)
returns table (entity text, target jsonb, source jsonb, target_moved boolean, source_moved boolean)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- Entities of which some part of a value was padded by the source and is no longer, or the other way round.
  v_padded smallint[] := array(
    select e.id from public.sync_entities e join public.sync_entity_shapes h on h.entity_id = e.id
     where e.source_id = p_source_id and e.entity_type = any (p_entities) and p_source ? e.entity_type::text
       and exists (select from jsonb_each(h.padded) b where p_source -> e.entity_type::text -> 'padded' -> b.key is distinct from b.value));
begin
  -- Whether blanks belong to a value was told by what is true no longer, of records that have landed since, too;
  -- their hashes do not say it: all are read again.
  update public.sync_chains set definition_hash = 'mixed' where entity_id = any (v_padded) and closed_at is null;
  update public.sync_checkpoints k set definition_hash = 'reread:' || k.definition_hash
    from public.sync_entities e
   where e.id = any (v_padded) and k.source_id = e.source_id and k.entity_type = e.entity_type and k.definition_hash !~ '^(mixed$|unfinished$|reread:|none)';
  insert into public.sync_entity_shapes as h (entity_id, target, target_compared, padded)
  select n.entity_id, n.shape,
         -- Somebody has removed what was known of an entity that has run: then nothing is known to have been compared.
         case when k.entity_type is null then n.shape else '{"columns": {}, "files": {"rows": "unknown"}}' end,
         coalesce(p_source -> e.entity_type::text -> 'padded', '{}')
    from sync.target_shapes(p_source_id, p_entities) n join public.sync_entities e on e.id = n.entity_id
    left join public.sync_checkpoints k on k.source_id = e.source_id and k.entity_type = e.entity_type
   order by n.entity_id
  on conflict (entity_id) do update
     set target = excluded.target, padded = excluded.padded,
         -- The clock after the catalog was read: what a page has written that began later, it has written into these
         -- columns.
         reshaped = h.reshaped || (select coalesce(jsonb_object_agg(name, jsonb_build_object('at', clock_timestamp(), 'since', pg_snapshot_xmax(pg_current_snapshot())::text)), '{}')
                                     from pg_catalog.unnest(sync.reshaped_columns(h.target, excluded.target)) name)
   where h.target <> excluded.target or h.padded <> excluded.padded;
  return query
  select e.entity_type::text, h.target, (p_source -> e.entity_type::text) - 'padded', sync.has_moved(h.target_compared, h.target),
         coalesce(sync.has_moved(h.source_compared, p_source -> e.entity_type::text), false)
    from public.sync_entities e join public.sync_entity_shapes h on h.entity_id = e.id
   where e.source_id = p_source_id and e.entity_type = any (p_entities);
end
$$;
comment on function sync.look_at_shapes(smallint, text[], jsonb) is
  'Notes the shapes of entities'' target tables, which columns are others than before, and which parts of values are '
  'padded (where these are others, the entity is read again in full); returns the shapes, and whether either side''s '
  'is another than when it was compared last. p_source: {entity: shape of the tables that it reads, with padded}.';

create function sync.plan_shapes(p_source_id smallint, p_execution uuid, p_shapes jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_entity_shapes h
     set planned = jsonb_build_object('execution', p_execution, 'target', p.target, 'source', p.source),
         -- Of the first execution, which reads everything.
         source_compared = coalesce(h.source_compared, p.source)
    from jsonb_to_recordset(p_shapes) as p (entity text, target jsonb, source jsonb)
    join public.sync_entities e on e.source_id = p_source_id and e.entity_type = p.entity
   where h.entity_id = e.id
$$;
comment on function sync.plan_shapes(smallint, uuid, jsonb) is
  'Keeps the shapes in which an execution will have compared its entities: [{entity, target, source}].';

create function sync.keep_compared(p_execution uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_entity_shapes
     set target_compared = planned -> 'target', source_compared = planned -> 'source', planned = null
   where planned ->> 'execution' = p_execution::text
$$;
comment on function sync.keep_compared(uuid) is
  'An execution has succeeded: the shapes that it was planned with have been compared.';

create function sync.writer_sql(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- A plan's copy of a row was written by the plan.
  select case when p_schema = 'pg_temp' then format('(select isthmus_row.xmin from public.%I isthmus_row where isthmus_row.id = t.id)', p_entity.target_table)
              else 't.xmin' end
$$;
comment on function sync.writer_sql(public.sync_entities, text) is
  'SQL: which transaction has written the target row t.';

create function sync.untouched_sql(p_entity public.sync_entities, p_schema text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('(%1$s = s.written_by and age(%1$s) < %2$s)', sync.writer_sql(p_entity, p_schema),
                least(2147483647, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - x.written_since::text::bigint))
    from public.sync_sources x where x.id = p_entity.source_id
$$;
comment on function sync.untouched_sql(public.sync_entities, text) is
  'SQL: whether nobody has written the target row t since it was as the row state s says. False says nothing: then '
  'it is compared. True says nothing of columns that DDL has changed.';

create function sync.as_left_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when exists (select from public.sync_entity_shapes h where h.entity_id = p_entity.id and sync.has_moved(h.target_compared, h.target)) then 'false'
              else sync.untouched_sql(p_entity, 'public') end
$$;
comment on function sync.as_left_sql(public.sync_entities) is
  'SQL: whether the target row t is as the row state s says, because nobody has written it and no DDL has been '
  'there. False says nothing: then it is compared.';

create function sync.texts_moved(p_entity public.sync_entities) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_entity_shapes h where h.entity_id = p_entity.id and sync.has_moved(h.target_compared, h.target))
      or exists (select from public.sync_checkpoints k
                  where k.source_id = p_entity.source_id and k.entity_type = p_entity.entity_type and k.definition_hash <> p_entity.definition_hash)
$$;
comment on function sync.texts_moved(public.sync_entities) is
  'Whether texts of equal values may be others although neither the source nor anybody in the target has changed the '
  'record: by DDL, or by another definition.';

create function sync.texts_sql(p_entity public.sync_entities, p_schema text, p_all boolean) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('case when t.id is not null%s then %s end',
           -- A row that nobody has written since has the texts of the source that it was written from, but for what
           -- is told of it.
           case when p_all or sync.texts_moved(p_entity) then ''
                else format(' and (p._digest is distinct from s.source_digest or %s is not true%s)', sync.untouched_sql(p_entity, p_schema), (
                  select format($q$ or (select w.rule from public.sync_warnings w where w.entity_id = %s and w.legacy_id = p._key and w.rule like 'written\_otherwise: %%' limit 1) is not null$q$, p_entity.id)
                   where exists (select from public.sync_warnings w where w.entity_id = p_entity.id and w.rule like 'written\_otherwise: %'))) end,
           r.texts)
    from (select sync.reworded_sql(p_entity) as texts) r where r.texts is not null
$$;
comment on function sync.texts_sql(public.sync_entities, text, boolean) is
  'SQL over the new value p, target row t and row state s: sync.reworded_sql, and null where that is not asked, '
  'because nothing can have changed a text. p_all: it is asked of every row. Null: the entity has no such field.';

create function sync.reshaped_sql(p_entity public.sync_entities, p_schema text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format($q$
      cross join lateral (
        select coalesce(pg_catalog.array_agg(f.name), '{}') as fields, coalesce(bool_and(f.untouched), false) as untouched
          from (select c.name, %4$s as untouched
                  from unnest(%1$L::text[], %2$L::timestamptz[], %3$L::xid[]) c (name, at, since)
                 where s.synced_at < c.at and l.now -> c.name is distinct from l."left" -> c.name
                   and (%4$s or age(%5$s) > age(c.since))) f) d $q$,
      pg_catalog.array_agg(r.key), pg_catalog.array_agg(r.value ->> 'at'), pg_catalog.array_agg((r.value ->> 'since')::xid8::xid), sync.untouched_sql(p_entity, p_schema),
      sync.writer_sql(p_entity, p_schema))
    from public.sync_entity_shapes h, jsonb_each(h.reshaped) r
   where h.entity_id = p_entity.id
     -- Beyond that the ages of transactions are not comparable.
     and pg_snapshot_xmax(pg_current_snapshot())::text::bigint - (r.value ->> 'since')::bigint < 2147483647
  having count(*) > 0
$$;
comment on function sync.reshaped_sql(public.sync_entities, text) is
  'SQL, joined to target row t, row state s and l (now, left): d.fields, which differ from what was left by DDL as '
  'it seems, and whether d.untouched, so that it must have been. What people have written since it was noticed '
  'counts as theirs. Null: no column was changed by DDL.';

create function sync.left_or_reshaped_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case when d.fields = '{}' then l."left" when not d.untouched then l."left" - d.fields
               when s.left_hash is null then l."left" || sync.pick(l.now, d.fields) else l.now end$q$;
comment on function sync.left_or_reshaped_sql() is
  'SQL over s, l and d of sync.reshaped_sql: what the sync left. What DDL made of a row that nobody has written is '
  'nobody''s edit; of another row it is not known.';

revoke all on function sync.target_shapes(smallint, text[]), sync.reshaped_columns(jsonb, jsonb), sync.has_moved(jsonb, jsonb),
  sync.look_at_shapes(smallint, text[], jsonb), sync.plan_shapes(smallint, uuid, jsonb), sync.keep_compared(uuid),
  sync.untouched_sql(public.sync_entities, text), sync.as_left_sql(public.sync_entities), sync.writer_sql(public.sync_entities, text),
  sync.texts_moved(public.sync_entities), sync.texts_sql(public.sync_entities, text, boolean), sync.reshaped_sql(public.sync_entities, text), sync.left_or_reshaped_sql() from public;
grant execute on function sync.target_shapes(smallint, text[]), sync.reshaped_columns(jsonb, jsonb), sync.has_moved(jsonb, jsonb),
  sync.look_at_shapes(smallint, text[], jsonb), sync.plan_shapes(smallint, uuid, jsonb), sync.keep_compared(uuid),
  sync.untouched_sql(public.sync_entities, text), sync.as_left_sql(public.sync_entities), sync.writer_sql(public.sync_entities, text),
  sync.texts_moved(public.sync_entities), sync.texts_sql(public.sync_entities, text, boolean), sync.reshaped_sql(public.sync_entities, text), sync.left_or_reshaped_sql() to isthmus_worker;
