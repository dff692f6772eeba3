-- Purpose: write the entity definitions from the code into sync_entities with the types of their columns, and
--          open an entity for minting once its target is known to hold no ids that would have to be adopted.
-- Locks:   row locks on sync_entities.

create function sync.register_entities(p_source_id smallint, p_definitions jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_entities as e
    (source_id, entity_type, source_table, target_table, legacy_key, depends_on, columns, rules, on_delete, conflicts, predicate, history,
     definition_hash)
  select p_source_id, d.body ->> 'entity_type', d.body ->> 'source_table', d.body ->> 'target_table', d.body ->> 'legacy_key',
         array(select jsonb_array_elements_text(d.body -> 'depends_on')),
         c.columns, d.body -> 'rules', d.body -> 'on_delete', d.body -> 'conflicts', nullif(d.body -> 'predicate', 'null'), d.body ->> 'history',
         d.body ->> 'definition_hash'
    from jsonb_array_elements(p_definitions) with ordinality d (body, n)
    cross join lateral (
      select jsonb_agg(o.col || jsonb_build_object('type', t.type) order by o.n) as columns
        from jsonb_array_elements(d.body -> 'columns') with ordinality o (col, n)
        left join sync.column_types(to_regclass(format('public.%I', d.body ->> 'target_table'))) t on t.name = o.col ->> 'name' offset 0) c
   where not exists (select from public.sync_entities k
                      where k.source_id = p_source_id and k.entity_type = d.body ->> 'entity_type'
                        and k.definition_hash = d.body ->> 'definition_hash' and k.columns = c.columns)
   order by d.n
  on conflict (source_id, entity_type) do update
     set source_table = excluded.source_table, target_table = excluded.target_table,
         legacy_key = excluded.legacy_key, depends_on = excluded.depends_on, columns = excluded.columns, rules = excluded.rules,
         on_delete = excluded.on_delete, conflicts = excluded.conflicts, predicate = excluded.predicate, history = excluded.history,
         definition_hash = excluded.definition_hash, updated_at = now(),
         mask_from = case when sync.hidden_fields(excluded.columns) <@ sync.hidden_fields(e.columns)
                           and sync.hidden_columns(excluded.columns) <@ sync.hidden_columns(e.columns) then e.mask_from else -9223372036854775808 end
   where e.definition_hash is distinct from excluded.definition_hash or e.columns is distinct from excluded.columns
$$;
comment on function sync.register_entities(smallint, jsonb) is
  'Writes the entity definitions that have changed, and resolves their column types from the catalog. A column that '
  'is missing has none: the check of the contract keeps its entity from running.';

create function sync.open_entity(p_entity_id smallint, p_dry_run boolean) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity public.sync_entities;
  v_any    boolean;
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id for update;
  if v_entity.adoption_epoch > 0 then
    return;
  end if;
  execute format('select exists (select from public.%I)', v_entity.target_table) into v_any;
  if v_any then
    raise exception 'entity %: public.% already holds rows whose ids have not been adopted',
      v_entity.entity_type, v_entity.target_table
      using errcode = 'IS021',
            hint = format('Nothing was written. New ids beside existing rows would double them. Look with npm run sync -- adopt %1$s --dry-run, take them over with npm run sync -- adopt %1$s; only where nobody needs these rows, empty the table instead.', v_entity.entity_type);
  end if;
  update public.sync_entities set adoption_epoch = 1, adopted_at = now() where id = p_entity_id and not p_dry_run;
end
$$;
comment on function sync.open_entity(smallint, boolean) is
  'Allows minting for an entity whose target table is empty. Raises IS021 when it holds rows nobody has adopted. '
  'p_dry_run: only tells whether it would.';

revoke all on function sync.register_entities(smallint, jsonb), sync.open_entity(smallint, boolean) from public;
grant execute on function sync.register_entities(smallint, jsonb), sync.open_entity(smallint, boolean) to isthmus_worker;
