import type { Sql } from "postgres";
import { POLICY_TEXT, TRIGGER_TEXT } from "../../shared/target/objects.ts";

/** A function of ours, as a database has it. Its key in Catalog.functions is its name with the types of its arguments. */
export interface CatalogFunction {
  /** `create or replace function` with body and settings. */
  readonly definition: string;
  /** What `create or replace` cannot change: names, defaults and types of the arguments, and what is returned. */
  readonly signature: string;
  readonly comment: string | null;
  /** null: the role that applies migrations. */
  readonly owner: string | null;
  /** Whom besides its owner it lets call it; public is everybody. */
  readonly callers: readonly string[];
}

export interface Catalog {
  /** In the order in which they were made: whoever is called comes first. */
  readonly functions: ReadonlyMap<string, CatalogFunction>;
  /** By "name on table", with the whole statement. */
  readonly triggers: ReadonlyMap<string, string>;
  /** Everything else, as sentences that are equal where the things are. */
  readonly others: readonly string[];
}

/** An application has no tables of such names. */
const OURS =
  "c.relnamespace = 'sync'::regnamespace or c.relnamespace = 'public'::regnamespace and c.relname ~ '^(sync_|uuid_mappings)'";
const TYPES = "t.typnamespace = 'public'::regnamespace and t.typtype = 'e' and t.typname ~ '^(sync_|conflict_|mapping_)'";
const acl = (of: string, kind: string, owner: string) => `
  (select string_agg(coalesce(r.rolname, 'public') || ' ' || x.privilege_type || case when x.is_grantable then ' with grant option' else '' end, ', '
                     order by coalesce(r.rolname, 'public'), x.privilege_type)
     from aclexplode(coalesce(${of}, acldefault('${kind}', ${owner}))) x left join pg_roles r on r.oid = x.grantee)`;
const column = "format('column %s.%s', c.oid::regclass, a.attname)";

/** What has no statement that could be written without knowing what is in the tables. */
const OTHERS = [
  `select format('type %s (%s), rights: %s, owner %s', t.oid::regtype, string_agg(e.enumlabel, ', ' order by e.enumsortorder),
                 ${acl("t.typacl", "T", "t.typowner")}, pg_get_userbyid(t.typowner))
     from pg_type t join pg_enum e on e.enumtypid = t.oid where ${TYPES} group by t.oid`,
  `select format('%s %s, row level security %s/%s, options %s, rights: %s, owner %s', case c.relkind when 'S' then 'sequence' when 'v' then 'view' when 'm' then 'materialised view' else 'table' end,
                 c.oid::regclass, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, ${acl("c.relacl", "r", "c.relowner")}, pg_get_userbyid(c.relowner))
     from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'S') and (${OURS})`,
  // Their order is that of rows: a declared table has a new column at its end.
  `select format('%s number %s, %s%s%s%s%s%s, rights: %s', ${column}, row_number() over (partition by c.oid order by a.attnum),
                 format_type(a.atttypid, a.atttypmod),
                 (select ' collate ' || l.oid::regcollation from pg_collation l join pg_type y on y.oid = a.atttypid where l.oid = a.attcollation and l.oid <> y.typcollation),
                 case when a.attnotnull then ' not null' end, ' default ' || pg_get_expr(d.adbin, d.adrelid),
                 ' identity ' || nullif(a.attidentity::text, ''), ' generated ' || nullif(a.attgenerated::text, ''),
                 (select string_agg(coalesce(r.rolname, 'public') || ' ' || x.privilege_type, ', ' order by coalesce(r.rolname, 'public'), x.privilege_type)
                    from aclexplode(a.attacl) x left join pg_roles r on r.oid = x.grantee))
     from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum where c.relkind in ('r', 'p', 'v', 'm') and (${OURS})`,
  `select format('view %s is %s', c.oid::regclass, pg_get_viewdef(c.oid)) from pg_class c where c.relkind in ('v', 'm') and (${OURS})`,
  `select format('constraint %s on %s: %s', k.conname, c.oid::regclass, pg_get_constraintdef(k.oid))
     from pg_constraint k join pg_class c on c.oid = k.conrelid where k.contype <> 'n' and (${OURS})`,
  `select pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indrelid where ${OURS}`,
  `select ${POLICY_TEXT}
     from pg_policy p join pg_class c on c.oid = p.polrelid where ${OURS}`,
  `select format('comment on %s: %s', case when d.objsubid = 0 then format('table %s', c.oid::regclass) else ${column} end, d.description)
     from pg_class c join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = c.oid
     left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0 where ${OURS}`,
  `select format('comment on type %s: %s', t.oid::regtype, obj_description(t.oid, 'pg_type')) from pg_type t where ${TYPES} and obj_description(t.oid, 'pg_type') is not null`,
  `select format('schema %s, rights: %s, comment: %s', n.nspname, ${acl("n.nspacl", "n", "n.nspowner")}, obj_description(n.oid, 'pg_namespace'))
     from pg_namespace n where n.nspname in ('sync', 'public')`,
  `select format('default rights of %s in %s on %s: %s', pg_get_userbyid(d.defaclrole), d.defaclnamespace::regnamespace, d.defaclobjtype, ${acl("d.defaclacl", "r", "d.defaclrole")})
     from pg_default_acl d where d.defaclnamespace = 'sync'::regnamespace`,
  `select format('role %s: login %s, bypassrls %s, inherit %s, settings %s', rolname, rolcanlogin, rolbypassrls, rolinherit, rolconfig)
     from pg_roles where rolname like 'isthmus%' and rolname in ('isthmus_worker', 'isthmus_decisions')`,
  // The options of a membership differ by PostgreSQL's version, and by who has made the role.
  `select distinct format('membership: %s is a member of %s', m.member::regrole, m.roleid::regrole)
     from pg_auth_members m where 'isthmus_worker' in (pg_get_userbyid(m.member), pg_get_userbyid(m.roleid)) or 'isthmus_decisions' in (pg_get_userbyid(m.member), pg_get_userbyid(m.roleid))`,
];

/** The tables and sequences, and the types, of the schema public that are ours, where only ours have such names. */
export async function namesOfOurs(sql: Sql): Promise<{ readonly tables: readonly string[]; readonly types: readonly string[] }> {
  const [row] = await sql.unsafe<{ tables: string[]; types: string[] }[]>(`
    select array(select c.relname::text from pg_class c
                   where c.relkind in ('r', 'p', 'v', 'S') and c.relnamespace = 'public'::regnamespace and (${OURS})) as tables,
           array(select t.typname::text from pg_type t where ${TYPES}) as types`);
  return row ?? { tables: [], types: [] };
}

/** What of ours a database has. It reads under a search path that qualifies every name. */
export async function readCatalog(sql: Sql): Promise<Catalog> {
  return sql.begin(async (tx) => {
    await tx.unsafe("set local search_path = pg_catalog");
    const [present] = await tx.unsafe<{ is: boolean }[]>("select to_regnamespace('sync') is not null as is");
    if (present?.is !== true) return { functions: new Map(), triggers: new Map(), others: [] };
    const functions = await tx.unsafe<(CatalogFunction & { key: string })[]>(`
      select p.oid::regprocedure::text as key, pg_get_functiondef(p.oid) as definition,
             pg_get_function_arguments(p.oid) || ' returns ' || pg_get_function_result(p.oid) as signature, obj_description(p.oid, 'pg_proc') as comment,
             nullif(pg_get_userbyid(p.proowner), pg_get_userbyid(n.nspowner)) as owner,
             array(select coalesce(r.rolname, 'public') from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x left join pg_roles r on r.oid = x.grantee
                    where x.grantee <> p.proowner order by 1) as callers
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'sync' and p.prokind in ('f', 'p') order by p.oid`);
    const triggers = await tx.unsafe<{ key: string; definition: string }[]>(`
      select format('%I on %s', t.tgname, c.oid::regclass) as key,
             ${TRIGGER_TEXT} as definition
        from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal and (${OURS}) order by 1`);
    const others: string[] = [];
    for (const text of OTHERS)
      others.push(...(await tx.unsafe<{ line: string }[]>(`select line from (${text}) x (line)`)).map(({ line }) => line));
    return {
      functions: new Map(functions.map(({ key, ...one }) => [key, one])),
      triggers: new Map(triggers.map(({ key, definition }) => [key, definition])),
      others: others.sort(),
    };
  });
}

/** One text of all of it: equal where two databases are. */
export function catalogText({ functions, triggers, others }: Catalog): string {
  return [
    ...[...functions].map(([key, one]) => `function ${key}: ${JSON.stringify(one, undefined, 1)}\n${one.definition}`).sort(),
    ...[...triggers].map(([key, definition]) => `trigger ${key}: ${definition}`),
    ...others,
  ].join("\n");
}
