-- Purpose: keep what the check of both catalogs found, and what a person acknowledges of it.
-- Locks:   the rows of the check, and open alerts.

create function sync.stamp_acknowledgement() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if new.acknowledged_at is null then
    new.acknowledged_by := null;
  elsif new.acknowledged_by is null then
    new.acknowledged_by := session_user;
  end if;
  return new;
end
$$;
comment on function sync.stamp_acknowledgement() is
  'Says who acknowledged an effect where they did not say so themselves.';
create trigger stamp_acknowledgement before insert or update on public.sync_side_effects
  for each row execute function sync.stamp_acknowledgement();

create function sync.unacknowledged_effects(p_source_id smallint) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(e order by e ->> 'table', e ->> 'kind', e ->> 'name'), '[]')
    from public.sync_contract_checks c, jsonb_array_elements(c.effects) e
   where c.source_id = p_source_id
     and not exists (select from public.sync_side_effects s
                      where s.table_name = e ->> 'table' and s.kind = e ->> 'kind' and s.name = e ->> 'name'
                        and s.definition = e ->> 'definition' and s.acknowledged_at is not null)
$$;
comment on function sync.unacknowledged_effects(smallint) is
  'The effects of the last check that nobody has acknowledged as they are now. A deleted row acknowledges nothing.';

create function sync.store_contract_check(p_source_id smallint, p_check jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.sync_contract_checks as c (source_id, definitions, source_fingerprint, target_fingerprint, findings, effects, planned)
  values (p_source_id, p_check ->> 'definitions', p_check ->> 'sourceFingerprint', p_check ->> 'targetFingerprint',
          p_check -> 'findings', p_check -> 'effects', array(select jsonb_array_elements_text(p_check -> 'planned')))
  on conflict (source_id) do update
     set definitions = excluded.definitions, source_fingerprint = excluded.source_fingerprint,
         target_fingerprint = excluded.target_fingerprint, findings = excluded.findings, effects = excluded.effects,
         checked_at = now(), planned = excluded.planned;
  -- Of the tables that were looked at: those of another deployment's entities keep what was acknowledged for them.
  delete from public.sync_side_effects s
   where s.table_name in (select jsonb_array_elements_text(p_check -> 'tables'))
     and not exists (select from jsonb_array_elements(p_check -> 'effects') e
                      where s.table_name = e ->> 'table' and s.kind = e ->> 'kind' and s.name = e ->> 'name');
  insert into public.sync_side_effects as s (kind, table_name, name, does, definition)
  select e ->> 'kind', e ->> 'table', e ->> 'name', e ->> 'does', e ->> 'definition'
    from jsonb_array_elements(p_check -> 'effects') e
   order by 2, 1, 3
  on conflict (table_name, kind, name) do update
     set does = excluded.does, definition = excluded.definition, first_seen_at = now(), acknowledged_at = null
   where s.definition <> excluded.definition;
  return sync.unacknowledged_effects(p_source_id);
end
$$;
comment on function sync.store_contract_check(smallint, jsonb) is
  'Keeps a comparison and the effects it found, and returns those that nobody has acknowledged.';

create function sync.alert_contract(p_source_id smallint, p_alerts jsonb, p_mended jsonb, p_warned jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.raise_alert(n.kind, n.severity, p_source_id, null, e.id, n.message, n.details)
     from jsonb_to_recordset(p_alerts) as n (entity text, kind text, severity text, message text, details jsonb)
     join public.sync_entities e on e.source_id = p_source_id and e.entity_type = n.entity order by e.id, n.kind;
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a join public.sync_entities e on e.id = a.entity_id and e.source_id = p_source_id
     where a.closed_at is null and case a.kind
       when 'contract_broken' then e.entity_type in (select jsonb_array_elements_text(p_mended))
       when 'contract_warning' then e.entity_type not in (
         select k.finding::jsonb ->> 1 from jsonb_array_elements_text(p_warned) k (finding) where k.finding::jsonb ->> 1 is not null)
       else false end));
  update public.sync_contract_checks set warned = p_warned where source_id = p_source_id and warned <> p_warned;
end
$$;
comment on function sync.alert_contract(smallint, jsonb, jsonb, jsonb) is
  'Opens alerts of what does not fit, closes those of entities that fit again, and keeps of which warnings an alert '
  'has told.';

create function sync.acknowledge_side_effects(p_tables jsonb, p_by text) returns setof public.sync_side_effects
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_side_effects set acknowledged_at = now(), acknowledged_by = p_by
   where acknowledged_at is null and (p_tables is null or table_name in (select jsonb_array_elements_text(p_tables)))
  returning *
$$;
comment on function sync.acknowledge_side_effects(jsonb, text) is
  'Acknowledges what writes to these tables set off (null: all tables).';

revoke all on function sync.stamp_acknowledgement(), sync.unacknowledged_effects(smallint), sync.store_contract_check(smallint, jsonb),
  sync.alert_contract(smallint, jsonb, jsonb, jsonb), sync.acknowledge_side_effects(jsonb, text) from public;
grant execute on function sync.unacknowledged_effects(smallint), sync.store_contract_check(smallint, jsonb),
  sync.alert_contract(smallint, jsonb, jsonb, jsonb), sync.acknowledge_side_effects(jsonb, text) to isthmus_worker;
