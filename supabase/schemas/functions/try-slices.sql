-- Purpose: run statements over some records of a page, and name the column of a record that the database rejects.
-- Locks:   none beyond those of the statements.

create function sync.is_record_error(p_sqlstate text) returns boolean
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- 54000: a value is too long for an index; 54001: nested too deeply, or a trigger that calls itself. IS001 to
  -- IS004: ours.
  return p_sqlstate in ('54000', '54001', 'IS001', 'IS002', 'IS003', 'IS004') or p_sqlstate !~ '^IS' and sync.category_of_state(p_sqlstate) in ('record', 'parent');
end
$$;

create function sync.active_if_same(p_mapped uuid, p_id uuid) returns public.mapping_sync_status
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_mapped <> p_id then
    raise exception using errcode = 'IS002', message = 'the legacy id is already mapped to another id';
  end if;
  return 'active';
end
$$;
comment on function sync.active_if_same(uuid, uuid) is
  'One record, one UUID, forever: a mapping revives only under its own id.';

create function sync.prepare_statements(p_name text, p_statements text[]) returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_prepared text[] := '{}';
  v_name     text;
  v_bare     text;
begin
  for v_at in 1 .. cardinality(p_statements) loop
    -- A name may hold a $1, too.
    v_bare := regexp_replace(p_statements[v_at], '"[^"]*"|''[^'']*''', '', 'g');
    if v_bare ~ '\$1' then
      v_name := format('isthmus_%s_%s', p_name, v_at);
      -- A page that ended with an error leaves its own behind on the connection.
      if exists (select from pg_catalog.pg_prepared_statements s where s.name = v_name) then
        execute format('deallocate %I', v_name);
      end if;
      execute format('prepare %I%s as %s', v_name, case when v_bare ~ '\$2' then '(integer, integer)' else '(integer)' end, p_statements[v_at]);
      v_prepared := v_prepared || (format('execute %I', v_name) || case when v_bare ~ '\$2' then ' (%s, %s)' else ' (%s)' end);
    else
      v_prepared := v_prepared || p_statements[v_at];
    end if;
  end loop;
  return v_prepared;
end
$$;
comment on function sync.prepare_statements(text, text[]) is
  'Prepares statements over $1 (and $2), for this connection; returns how each is executed, with a %s for each of '
  'them. Others are returned as they are.';

create function sync.forget_statements(p_name text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_name text;
begin
  for v_name in select s.name from pg_catalog.pg_prepared_statements s where s.name ~ ('^isthmus_' || p_name || '_[0-9]+$') loop
    execute format('deallocate %I', v_name);
  end loop;
end
$$;
comment on function sync.forget_statements(text) is 'Forgets what sync.prepare_statements has prepared under a name.';

create function sync.fails_empty(p_statements text[], p_prepared boolean) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_statement text;
begin
  perform set_config('search_path', sync.application_path(), true);
  foreach v_statement in array p_statements loop
    if p_prepared then
      execute format(v_statement, 0, -1);
    else
      execute v_statement using 0, -1;
    end if;
  end loop;
  raise exception using errcode = 'IS003', message = 'only tried';
exception
  when sqlstate 'IS003' then
    return false;
  when others or assert_failure then
    return true;
end
$$;
comment on function sync.fails_empty(text[], boolean) is
  'Whether statements fail over no records at all, as those do that name what does not exist, or what the worker has '
  'no right to; nothing of them stays.';

create function sync.try_slice(p_statements text[], p_prepared boolean, p_from integer, p_to integer) returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_statement  text;
  v_state      text;
  v_constraint text;
  v_column     text;
  v_detail     text;
begin
  perform set_config('search_path', sync.application_path(), true);
  foreach v_statement in array p_statements loop
    if p_prepared then
      execute format(v_statement, p_from, p_to);
    else
      execute v_statement using p_from, p_to;
    end if;
  end loop;
  return null;
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate, v_constraint = constraint_name, v_column = column_name, v_detail = pg_exception_detail;
  -- What reads a value as a name or as SQL (regclass, tsquery, ltree, in a type, an index or a trigger) fails as a
  -- statement that is wrong does; such a statement fails for no record, too.
  if not sync.is_record_error(v_state) and (v_state !~ '^42' or v_state = '42501' or sync.category_of_state(v_state) = 'transient' or sync.fails_empty(p_statements, p_prepared)) then
    raise;
  end if;
  -- A shadow's index has a name of ours, and the real one as its comment.
  return array[v_state, coalesce(obj_description(to_regclass('pg_temp.' || quote_ident(nullif(v_constraint, ''))), 'pg_class'), nullif(v_constraint, '')), nullif(v_column, ''),
    case when v_state = 'IS004' then nullif(v_detail, '') end];
end
$$;
comment on function sync.try_slice(text[], boolean, integer, integer) is
  'Runs statements over the records n in [from, to], all or nothing: null, or {SQLSTATE, constraint, column, records '
  'n that are known to cause it, by commas} of an error that a record causes. p_prepared: as sync.prepare_statements '
  'returned them.';

create function sync.holds(p_value text, p_condition text) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_holds boolean;
begin
  execute format('select %s from (select $1 as value) p', p_condition) into v_holds using p_value;
  return v_holds;
exception
  when insufficient_privilege then
    raise;
  when data_exception or syntax_error_or_access_rule_violation or program_limit_exceeded then
    return false;
end
$$;
comment on function sync.holds(text, text) is
  'Whether an SQL condition over p.value holds for a value; false when the value has it fail.';

create function sync.name_unfit_columns(p_entity public.sync_entities, p_from integer, p_to integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_column record;
  v_holds  boolean;
  v_fits   text;
  v_padded jsonb;
begin
  if not exists (select from pg_temp.page_rejects j where j.n between p_from and p_to and j.sqlstate ~ '^(22|42|54001|IS001)' and j.column_name is null) then
    return;
  end if;
  v_padded := sync.padded_parts(p_entity);
  for v_column in
    select * from sync.field_slots(p_entity)
  loop
    v_fits := format('count((p.value)::%s) >= 0 and coalesce(bool_and(%s), true)', v_column.type,
      coalesce(sync.fits_sql('value', v_column.type, v_column.exact, v_padded -> v_column.name), 'true'));
    -- All at once: one by one only in the columns that do not hold them all.
    begin
      execute format('select %s from (select p.%s as value from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n
                                       where j.n between $1 and $2 and j.sqlstate ~ ''^(22|42|54001|IS001)'' and j.column_name is null) p', v_fits, v_column.slot)
        into v_holds using p_from, p_to;
    exception when data_exception or syntax_error_or_access_rule_violation or program_limit_exceeded then
      v_holds := false;
    end;
    if not v_holds then
      execute format('update pg_temp.page_rejects j set column_name = %1$L from pg_temp.page_rows p
                       where p.n = j.n and j.n between $1 and $2 and j.sqlstate ~ ''^(22|42|54001|IS001)'' and j.column_name is null and not sync.holds(p.%3$s, %2$L)',
        v_column.name, v_fits, v_column.slot) using p_from, p_to;
    end if;
  end loop;
end
$$;
comment on function sync.name_unfit_columns(public.sync_entities, integer, integer) is
  'Names the column that cannot take a rejected record''s value: of another type, too long, out of range, no member '
  'of its enum.';

revoke all on function sync.is_record_error(text), sync.active_if_same(uuid, uuid), sync.prepare_statements(text, text[]),
  sync.forget_statements(text), sync.fails_empty(text[], boolean), sync.try_slice(text[], boolean, integer, integer), sync.holds(text, text),
  sync.name_unfit_columns(public.sync_entities, integer, integer) from public;
grant execute on function sync.is_record_error(text), sync.active_if_same(uuid, uuid), sync.prepare_statements(text, text[]),
  sync.forget_statements(text), sync.fails_empty(text[], boolean), sync.try_slice(text[], boolean, integer, integer), sync.holds(text, text),
  sync.name_unfit_columns(public.sync_entities, integer, integer) to isthmus_worker;
grant execute on function sync.is_record_error(text), sync.holds(text, text) to isthmus_decisions;
