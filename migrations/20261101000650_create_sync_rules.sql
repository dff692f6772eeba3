-- Purpose: business rules of records: who may land although a rule is broken, for how long, and which records do.
-- Locks:   none on existing objects.
-- Reverse: drop table public.sync_warnings, public.sync_rule_overrides; drop the functions and the type.

create type public.sync_rule_severity as enum ('park', 'warn');
revoke all on type public.sync_rule_severity from public;
grant usage on type public.sync_rule_severity to isthmus_worker;

create table public.sync_rule_overrides (
  id         uuid primary key default gen_random_uuid(),
  rule       text not null,
  severity   public.sync_rule_severity not null,
  reason     text not null check (btrim(reason) <> ''),
  valid_from timestamptz not null default now(),
  valid_to   timestamptz check (valid_to > valid_from),
  created_by text not null default session_user,
  created_at timestamptz not null default now()
);
comment on table public.sync_rule_overrides is
  'Gives a business rule another severity for a time. Records that the rule has stopped or warned of are read again at once.';
comment on column public.sync_rule_overrides.rule is 'The rule as the queue shows it, for example payments.paid_within_total@1. Another version needs a row of its own.';
comment on column public.sync_rule_overrides.severity is 'park: the record goes to the queue. warn: it lands, and sync_warnings names it.';
comment on column public.sync_rule_overrides.reason is 'Why the rule does not apply as written.';
comment on column public.sync_rule_overrides.valid_to is 'Until when; empty: until further notice. Of several that are valid, the one with the latest valid_from counts.';
create index sync_rule_overrides_rule_idx on public.sync_rule_overrides (rule, valid_from);
alter table public.sync_rule_overrides enable row level security;
create policy team_reads on public.sync_rule_overrides for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_rule_overrides from anon, authenticated, service_role;
grant select on public.sync_rule_overrides to authenticated;
grant select on public.sync_rule_overrides to isthmus_worker;

create table public.sync_warnings (
  entity_id     smallint not null references public.sync_entities (id),
  legacy_id     bigint not null,
  rule          text not null,
  execution_id  uuid references public.sync_executions (id) on delete set null,
  first_seen_at timestamptz not null default now(),
  last_seen_at  timestamptz not null default now(),
  primary key (entity_id, legacy_id, rule)
);
comment on table public.sync_warnings is 'Records that have landed although they break a rule, or otherwise than they were written (written_otherwise: the field). A row goes when its record is corrected.';
create index sync_warnings_rule_idx on public.sync_warnings (rule);
create index sync_warnings_execution_id_idx on public.sync_warnings (execution_id);
alter table public.sync_warnings enable row level security;
create policy team_reads on public.sync_warnings for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_warnings from anon, authenticated, service_role;
grant select on public.sync_warnings to authenticated;
grant select, insert, update, delete on public.sync_warnings to isthmus_worker;

alter table public.sync_entities add column rules jsonb not null default '[]';
comment on column public.sync_entities.rules is 'Its business rules, from the entity file: [{rule, severity, fields, remedy}].';

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

create function sync.apply_rule_override() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select entity_id, legacy_id, 'rule_changed'
    from (select entity_id, source_record_id as legacy_id, rule from public.sync_conflicts where state = 'open'
          union select entity_id, legacy_id, rule from public.sync_warnings) concerned
   where rule in (old.rule, new.rule)
   order by entity_id, legacy_id
  on conflict (entity_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  return null;
end
$$;
comment on function sync.apply_rule_override() is 'Has the records that a changed rule concerns read again.';

-- Not on every update: a row for a rule that is gone can still be ended.
create trigger check_rule_override before insert or update of rule on public.sync_rule_overrides
  for each row execute function sync.check_rule_override();
create trigger apply_rule_override after insert or update or delete on public.sync_rule_overrides
  for each row execute function sync.apply_rule_override();

revoke all on function sync.rule_severities(), sync.check_rule_override(), sync.apply_rule_override() from public;
grant execute on function sync.rule_severities() to isthmus_worker;
