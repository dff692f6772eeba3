-- Purpose: what the sync would not delete, empty or overwrite without a person's word.
-- Locks:   none on existing objects.
-- Reverse: drop table public.sync_brakes; drop the functions.

create table public.sync_brakes (
  id           uuid primary key default gen_random_uuid(),
  entity_id    smallint not null references public.sync_entities (id),
  kind         text not null check (kind in ('delete', 'null', 'overwrite')),
  field        text,
  records      bigint not null,
  landed       bigint not null,
  execution_id uuid references public.sync_executions (id) on delete set null,
  created_at   timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  confirmed_by text check (btrim(confirmed_by) <> ''),
  confirmed_at timestamptz,
  closed_at    timestamptz,
  check ((kind = 'null') = (field is not null)),
  check ((confirmed_by is null) = (confirmed_at is null))
);
comment on table public.sync_brakes is
  'An execution would have deleted, emptied in a column, or overwritten more of an entity''s records than its share allows, and was stopped there. Put your name into confirmed_by, and the next execution goes on.';
comment on column public.sync_brakes.kind is 'delete: the source no longer has the records. null: the source has emptied the column in field. overwrite: the source has other values.';
comment on column public.sync_brakes.records is 'How many records it had come to. delete: a confirmation lets no more than these pass at the end of an execution; null, overwrite: it holds until an execution has succeeded.';
comment on column public.sync_brakes.landed is 'How many records of the entity had landed then.';
comment on column public.sync_brakes.confirmed_by is 'Who has looked at the source and wants it so.';
comment on column public.sync_brakes.closed_at is 'When it was done, or was no longer needed.';
create unique index sync_brakes_one_open on public.sync_brakes (entity_id, kind, field) nulls not distinct where closed_at is null;
create index sync_brakes_entity_id_idx on public.sync_brakes (entity_id);
create index sync_brakes_execution_id_idx on public.sync_brakes (execution_id);

alter table public.sync_brakes enable row level security;
create policy team_reads on public.sync_brakes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_confirm on public.sync_brakes for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_brakes from anon, authenticated, service_role;
grant select, update (confirmed_by) on public.sync_brakes to authenticated;
grant select, insert (entity_id, kind, field, records, landed, execution_id) on public.sync_brakes to isthmus_worker;
grant update (records, landed, execution_id, last_seen_at, closed_at) on public.sync_brakes to isthmus_worker;

create function sync.stamp_brake() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if new.confirmed_by is distinct from old.confirmed_by then
    if old.closed_at is not null then
      raise exception 'this brake is closed' using errcode = 'IS022', hint = 'Look for one of this entity whose closed_at is empty.';
    end if;
    new.confirmed_at := case when new.confirmed_by is not null then now() end;
  elsif new.kind = 'delete' and new.records > old.records then
    -- What was confirmed was less.
    new.confirmed_by := null;
    new.confirmed_at := null;
  end if;
  return new;
end
$$;
comment on function sync.stamp_brake() is 'Stamps a confirmation; one that was given for fewer records does not count for more.';
create trigger stamp_brake before update on public.sync_brakes for each row execute function sync.stamp_brake();

create function sync.brake_holds(p_entity_id smallint, p_kind text, p_field text) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select confirmed_at is null from public.sync_brakes
   where entity_id = p_entity_id and kind = p_kind and field is not distinct from p_field and closed_at is null
$$;
comment on function sync.brake_holds(smallint, text, text) is 'True: it was pulled, and nobody has confirmed it. False: somebody has. Null: it was not pulled.';

create function sync.braked_word(p_kind text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select case p_kind when 'delete' then 'deleted' when 'null' then 'emptied' when 'overwrite' then 'overwritten' end $$;
comment on function sync.braked_word(text) is 'What would have become of the records that a brake holds.';

create function sync.pull_brake(p_execution uuid, p_entity_id smallint, p_kind text, p_field text, p_records bigint, p_landed bigint) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_confirmed boolean;
begin
  insert into public.sync_brakes as b (entity_id, kind, field, records, landed, execution_id)
  values (p_entity_id, p_kind, p_field, p_records, p_landed, p_execution)
  on conflict (entity_id, kind, field) where closed_at is null do update
     set records = case when b.confirmed_at is null then excluded.records else greatest(b.records, excluded.records) end,
         landed = excluded.landed, execution_id = excluded.execution_id, last_seen_at = now()
  returning confirmed_at is not null into v_confirmed;
  if not v_confirmed then
    perform sync.raise_alert('brake', 'critical', null, p_execution, p_entity_id,
      'Far more records than usual would be ' || sync.braked_word(p_kind)
        || ': the execution was stopped. See sync_brakes.',
      jsonb_strip_nulls(jsonb_build_object('kind', p_kind, 'field', p_field, 'records', p_records, 'landed', p_landed)));
  end if;
  return not v_confirmed;
end
$$;
comment on function sync.pull_brake(uuid, smallint, text, text, bigint, bigint) is
  'True: stop. False: a person has confirmed that as many records are deleted, emptied or overwritten.';

revoke all on function sync.stamp_brake(), sync.brake_holds(smallint, text, text), sync.braked_word(text), sync.pull_brake(uuid, smallint, text, text, bigint, bigint) from public;
grant execute on function sync.brake_holds(smallint, text, text), sync.braked_word(text), sync.pull_brake(uuid, smallint, text, text, bigint, bigint) to isthmus_worker;
