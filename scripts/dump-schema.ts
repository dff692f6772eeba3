import { mkdtemp, readFile, rm } from "node:fs/promises";
import { resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { startPostgres } from "../local/postgres.ts";
import { prepareSupabase } from "../local/target/supabase.ts";
import { writeOrCheck } from "./write-or-check.ts";

/** The schema that migrations/ make, as text: every change of it shows in a diff. */
export const SCHEMA_FILE = resolve(import.meta.dirname, "../docs/schema.txt");

const OURS = "(relname like 'sync\\_%' or relname like 'uuid\\_mappings%')";

/** Tables, columns, constraints, indexes, policies, rights, comments, types and functions of ours, in a stable order. */
export async function dumpSchema(sql: Sql): Promise<string> {
  const sections: readonly (readonly [string, string])[] = [
    [
      "types",
      `select format('%s: %s', t.typname, string_agg(e.enumlabel, ', ' order by e.enumsortorder)) as line
         from pg_type t join pg_enum e on e.enumtypid = t.oid
        where t.typnamespace = 'public'::regnamespace
          and (t.typname like 'sync\\_%' or t.typname like 'conflict\\_%' or t.typname like 'mapping\\_%') group by t.typname order by 1`,
    ],
    [
      "columns",
      `select format('%s.%s %s%s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), case when a.attnotnull then ' not null' end,
                     case when a.attidentity <> '' then ' identity' end, ' default ' || pg_get_expr(d.adbin, d.adrelid)) as line
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v') and ${OURS} order by c.relname, a.attnum`,
    ],
    [
      "constraints",
      `select format('%s %s: %s', relname, conname, pg_get_constraintdef(k.oid)) as line
         from pg_constraint k join pg_class c on c.oid = k.conrelid
        where c.relnamespace = 'public'::regnamespace and k.contype <> 'n' and ${OURS} order by 1`,
    ],
    [
      "indexes",
      `select indexdef as line from pg_indexes join pg_class on relname = tablename where schemaname = 'public' and relkind = 'r' and ${OURS} order by 1`,
    ],
    [
      "row level security",
      `select format('%s: %s', relname, case when relrowsecurity then 'on' else 'OFF' end) as line
         from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' and ${OURS}
       union all
       select format('%s: %s %s for %s to %s using (%s) with check (%s)', tablename, policyname, permissive, cmd, array_to_string(roles, ', '), qual, with_check)
         from pg_policies join pg_class on relname = tablename where schemaname = 'public' and ${OURS} order by 1`,
    ],
    [
      "rights on tables and sequences",
      `select format('%s: %s to %s', relname, string_agg(x.privilege_type, ', ' order by x.privilege_type), coalesce(r.rolname, 'public')) as line
         from pg_class c cross join lateral aclexplode(c.relacl) x left join pg_roles r on r.oid = x.grantee
        where c.relnamespace = 'public'::regnamespace and ${OURS} and coalesce(r.rolname, '') <> 'postgres' group by relname, r.rolname order by 1`,
    ],
    [
      "rights on columns",
      `select format('%s.%s: %s to %s', relname, attname, string_agg(x.privilege_type, ', ' order by x.privilege_type), coalesce(r.rolname, 'public')) as line
         from pg_class c join pg_attribute a on a.attrelid = c.oid cross join lateral aclexplode(a.attacl) x left join pg_roles r on r.oid = x.grantee
        where c.relnamespace = 'public'::regnamespace and ${OURS} group by relname, attname, r.rolname order by 1`,
    ],
    [
      "functions (with a digest of the body)",
      `select format('%s(%s) returns %s%s %s', p.proname, pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid),
                     case when p.prosecdef then ' SECURITY DEFINER' end, md5(pg_get_functiondef(p.oid))) as line
         from pg_proc p where p.pronamespace = 'sync'::regnamespace order by 1`,
    ],
    [
      "rights on functions",
      `select format('%s: %s', p.proname, string_agg(coalesce(r.rolname, 'public'), ', ' order by r.rolname)) as line
         from pg_proc p cross join lateral aclexplode(p.proacl) x left join pg_roles r on r.oid = x.grantee
        where p.pronamespace = 'sync'::regnamespace and coalesce(r.rolname, '') <> 'postgres' group by p.oid, p.proname order by 1`,
    ],
    [
      "comments",
      `select format('%s%s: %s', c.relname, '.' || a.attname, d.description) as line
         from pg_class c join pg_description d on d.objoid = c.oid and d.classoid = 'pg_class'::regclass
         left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and ${OURS} order by 1`,
    ],
  ];
  const parts: string[] = ["The schema that migrations/ make. Written by `npm run schema:dump`, compared in CI."];
  for (const [title, text] of sections) {
    const rows = await sql.unsafe<{ line: string }[]>(text);
    parts.push(`\n== ${title}`, ...rows.map((row) => row.line));
  }
  return `${parts.join("\n")}\n`;
}

async function main(): Promise<void> {
  const folder = await mkdtemp(resolve(import.meta.dirname, "../.local-schema-"));
  const pg = await startPostgres({ name: "schema", dataDir: folder });
  try {
    const { owner } = await prepareSupabase(pg);
    const sql = postgres(owner, { max: 1 });
    writeOrCheck(SCHEMA_FILE, await dumpSchema(sql), process.argv);
    await sql.end();
  } finally {
    await pg.remove();
    await rm(folder, { recursive: true, force: true });
  }
}

/** What is committed. */
export function committedSchema(): Promise<string> {
  return readFile(SCHEMA_FILE, "utf8");
}

if (process.argv[1] === import.meta.filename) await main();
