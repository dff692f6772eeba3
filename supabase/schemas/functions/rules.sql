-- Purpose: business rules of records: which severity a rule has now, and what a changed one concerns.

create function sync.rule_severities() returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(rule, severity), '{}')
    from (select distinct on (rule) rule, severity from public.sync_rule_overrides
           where valid_from <= now() and (valid_to is null or valid_to > now())
           order by rule, valid_from desc, created_at desc) o
$$;
comment on function sync.rule_severities() is 'The severities that overrides give to rules now: {rule: severity}.';

create function sync.check_rule_override() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_known text;
begin
  if not exists (select from public.sync_entities where rules @> jsonb_build_array(jsonb_build_object('rule', new.rule))) then
    select string_agg(distinct r ->> 'rule', ', ' order by r ->> 'rule') into v_known
      from public.sync_entities cross join lateral jsonb_array_elements(rules) r;
    raise exception 'no entity has the rule %', new.rule
      using errcode = '23503', hint = format('The rules are: %s.', coalesce(v_known, 'none until the first execution'));
  end if;
  return new;
end
$$;
comment on function sync.check_rule_override() is 'A misspelled rule would override nothing, silently.';
-- Not on every update: a row for a rule that is gone can still be ended.
create trigger check_rule_override before insert or update of rule on public.sync_rule_overrides
  for each row execute function sync.check_rule_override();

create function sync.apply_rule_override() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select entity_id, legacy_id, 'rule_changed'
    from (select entity_id, source_record_id as legacy_id, rule from public.sync_conflicts where state = 'open'
          union select entity_id, legacy_id, rule from public.sync_warnings) concerned
   where rule in (old.rule, new.rule)
   order by entity_id, legacy_id
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  return null;
end
$$;
comment on function sync.apply_rule_override() is 'Has the records that a changed rule concerns read again.';
create trigger apply_rule_override after insert or update or delete on public.sync_rule_overrides
  for each row execute function sync.apply_rule_override();

revoke all on function sync.rule_severities(), sync.check_rule_override(), sync.apply_rule_override() from public;
grant execute on function sync.rule_severities() to isthmus_worker;
