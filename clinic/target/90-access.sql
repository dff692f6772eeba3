-- What every table of the application has: an index on each reference, row level security, and an updated_at that a
-- trigger sets.

do $$
declare
  t text;
  r record;
begin
  for r in select c.conrelid::regclass as table_name, a.attname as column_name
             from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
            where c.contype = 'f' and c.connamespace = 'public'::regnamespace
            order by 1, 2
  loop
    execute format('create index on %s (%I)', r.table_name, r.column_name);
  end loop;

  for t in select tablename from pg_tables where schemaname = 'public' order by 1 loop
    execute format('alter table public.%I enable row level security', t);
    -- The application's own rule: signed-in staff read, nobody writes through the Data API.
    execute format(
      'create policy staff_read on public.%I for select to authenticated
         using ((select auth.jwt()) -> ''app_metadata'' ->> ''role'' = ''staff'')', t);
    execute format('grant select on public.%I to authenticated', t);
    execute format(
      'create trigger touch_updated_at before update on public.%I
         for each row execute function public.touch_updated_at()', t);
  end loop;
end
$$;
