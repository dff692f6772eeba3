-- Purpose: which columns, types and files the rows of an entity stood in when both sides were last compared: what
--          changes rows without writing them (columns dropped and added again, renamed or retyped, renamed members of
--          enums, attached partitions, a reload) changes these.

create table public.sync_entity_shapes (
  entity_id       smallint primary key references public.sync_entities (id),
  target          jsonb not null,
  target_compared jsonb not null,
  reshaped        jsonb not null default '{}',
  source_compared jsonb,
  planned         jsonb,
  padded          jsonb not null default '{}'
);
comment on table public.sync_entity_shapes is
  'The shape of each entity''s tables: what the catalogs say of where its rows stand. Another one since the last '
  'comparison has both sides compared.';
comment on column public.sync_entity_shapes.target is
  'The target table''s, as it was seen last: {columns: {column: {what: identity}}, files: {what: identity}}.';
comment on column public.sync_entity_shapes.target_compared is
  'The one in which all rows were compared last. While it is another than target, nothing is concluded from '
  'written_by.';
comment on column public.sync_entity_shapes.reshaped is
  'Columns whose values DDL may have changed: {column: {at, since}}, when that was noticed, and the first '
  'transaction after that.';
comment on column public.sync_entity_shapes.source_compared is
  'The same of all tables that are read, {columns: {table.column: …}, files: {table: …}}, when everything was read '
  'or compared last.';
comment on column public.sync_entity_shapes.planned is
  'What the execution that runs was planned with, {execution, target, source}: what will have been compared when it '
  'succeeds.';

comment on column public.sync_entity_shapes.padded is
  'Of each field that reads one column of the source as it is: the parts of that column''s type (elements, '
  'attributes) that are char(n), {field: [path]}; with * where the field is computed from such parts, and !path of '
  'each other.';

alter table public.sync_entity_shapes enable row level security;
create policy team_reads on public.sync_entity_shapes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_entity_shapes from anon, authenticated, service_role;
grant select on public.sync_entity_shapes to authenticated;
grant select, insert, update on public.sync_entity_shapes to isthmus_worker;
