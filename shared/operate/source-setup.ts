import { ident } from "../db/ident.ts";
import { columnsRead } from "../entity/columns-read.ts";
import type { Entity } from "../entity/define-entity.ts";

/**
 * psql script that makes the source's role with exactly the rights that the entities need. Safe to repeat: rights of
 * an earlier time are taken back. `views`: what has no system columns.
 */
export function sourceRoleSql(entities: readonly Entity[], role: string, views: ReadonlySet<string> = new Set()): string {
  const name = ident(role);
  const literal = `'${role.replaceAll("'", "''")}'`;
  return `begin;
do $$ begin
  if not exists (select from pg_roles where rolname = ${literal}) then
    create role ${name} login connection limit 15;
  end if;
end $$;
alter role ${name} password :'reader_password';
-- A guard against mistakes, not a right: what the role may do, the grants below say.
alter role ${name} set default_transaction_read_only = on;
alter role ${name} set statement_timeout = '60s';
grant usage on schema public to ${name};
revoke all on all tables in schema public from ${name};
${readerGrants(entities, name, views).join("\n")}
commit;
`;
}

/** Of each table: the columns that entities name, and the system columns by which written rows are found. */
function readerGrants(entities: readonly Entity[], role: string, views: ReadonlySet<string>): string[] {
  const all = new Map<string, Set<string>>();
  for (const entity of entities) {
    for (const [table, columns] of columnsRead(entity)) all.set(table, new Set([...(all.get(table) ?? []), ...columns]));
  }
  return [...all]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([table, columns]) => {
      const named = [...columns].filter((column) => column !== "xmin" && column !== "ctid").map(ident);
      const system = views.has(table) ? [] : ["xmin", "ctid"];
      return `grant select (${[...system, ...named].join(", ")}) on public.${ident(table)} to ${role};`;
    });
}
