import type postgres from "postgres";

/**
 * Runs `work` without foreign keys and their indexes, and makes them anew afterwards: each is then checked or built in
 * one pass, where millions of single checks at commit would take longer than the loading itself. Inside a transaction,
 * so that nobody sees the tables without them.
 */
export async function withoutForeignKeys(tx: postgres.ISql, work: () => Promise<void>): Promise<void> {
  const foreignKeys = await tx.unsafe<{ name: string; table: string; definition: string }[]>(`
    select quote_ident(conname) as name, conrelid::regclass::text as table, pg_get_constraintdef(oid) as definition
      from pg_constraint where contype = 'f' and connamespace = 'public'::regnamespace order by conrelid::regclass::text, conname`);
  const indexes = await tx.unsafe<{ name: string; definition: string }[]>(`
    select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition
      from pg_index i join pg_class c on c.oid = i.indrelid
     where c.relnamespace = 'public'::regnamespace and not i.indisunique order by 1`);
  const all = (statements: readonly string[]) => tx.unsafe(statements.join(";\n"));
  await all([
    ...foreignKeys.map(({ name, table }) => `alter table ${table} drop constraint ${name}`),
    ...indexes.map(({ name }) => `drop index ${name}`),
  ]);
  await work();
  await all([
    "set local maintenance_work_mem = '256MB'",
    ...indexes.map(({ definition }) => definition),
    ...foreignKeys.map(({ name, table, definition }) => `alter table ${table} add constraint ${name} ${definition}`),
  ]);
}
