import type { TestDatabase } from "./databases.ts";

/** A project with the application's tables, and nothing of ours. */
export async function withoutOurs(target: TestDatabase): Promise<void> {
  const tables = await target.admin<{ name: string }[]>`select unnest(sync.own_tables()) as name`;
  await target.admin.unsafe(
    `drop schema sync cascade; drop table ${tables.map(({ name }) => name).join(", ")} cascade; drop sequence public.sync_pending_keys_generation_seq`,
  );
  const types = await target.admin<{ name: string }[]>`
    select format('public.%I', typname) as name from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'
       and typname ~ '^(sync_|conflict_|mapping_)'`;
  await target.admin.unsafe(`drop type ${types.map(({ name }) => name).join(", ")}`);
  await target.admin.unsafe("drop schema supabase_migrations cascade; reassign owned by isthmus_decisions to postgres");
}
