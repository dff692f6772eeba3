import { inTransaction, queryOne } from "../db/query.ts";
import type { Sql } from "../db/connect.ts";

/** One thing of ours that a database has: a function, a trigger, a policy, a table, its row level security, a sequence, a type, a schema. */
export interface FoundObject {
  /** `trigger note_progress on public.sync_chains`: what the thing is, and under which name. */
  readonly object: string;
  /** Equal where the things are, on every version of PostgreSQL. */
  readonly digest: string;
  /** `authenticated SELECT`, `isthmus_worker UPDATE (status)`: what others than its owner may do with it. */
  readonly rights: readonly string[];
  /** Those of its rights that the owner's default privileges give on every new thing of this kind. */
  readonly byDefault: readonly string[];
}

/** A thing of ours as the release declares it, and the file of supabase/ where it stands; null: PostgreSQL makes it by itself. */
export interface DeclaredObject extends Pick<FoundObject, "object" | "digest" | "rights"> {
  readonly file: string | null;
}

export interface FoundObjects {
  /** The version that the database says of itself, read where it stands. null: it says none. */
  readonly version: string | null;
  /** Empty: nothing of ours is there. */
  readonly objects: readonly FoundObject[];
}

/** A policy, and a trigger with whether it fires. `p`, `t` and `c` are their rows of the catalog, and that of their table. */
export const POLICY_TEXT = `format('policy %s on %s: %s, %s, to %s, using %s, with check %s', p.polname, c.oid::regclass, p.polpermissive, p.polcmd,
  array(select case r when 0 then 'public' else pg_get_userbyid(r)::text end from pg_catalog.unnest(p.polroles) r order by 1),
  pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))`;
export const TRIGGER_TEXT = `pg_get_triggerdef(t.oid) || case t.tgenabled when 'O' then '' else ' -- enabled: ' || t.tgenabled::text end`;

/**
 * All of it, by the catalog alone: a function of the database could itself be changed. Everything of the schema sync
 * counts, and of public what belongs to the tables, sequences ($1) and types ($2) that are named: an application may
 * have a table whose name is like ours. It reads under a search path that qualifies every name.
 */
const OBJECTS = `
  with names as (
    select array(select jsonb_array_elements_text($1::text::jsonb)) as tables, array(select jsonb_array_elements_text($2::text::jsonb)) as types,
           to_regnamespace('sync') as sync, to_regnamespace('public') as public),
  owners as (select n.nspowner as owner from pg_namespace n, names where n.oid = names.sync),
  tables as (
    select c.* from pg_class c, names
     where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and (c.relnamespace = names.sync or c.relnamespace = names.public and c.relname = any (names.tables))),
  things (object, body, owner, kind, namespace, acl) as (
    select 'function ' || p.oid::regprocedure, case p.prokind when 'a' then p.prosrc else pg_get_functiondef(p.oid) end, p.proowner, 'f',
           p.pronamespace, coalesce(p.proacl, acldefault('f', p.proowner))
      from pg_proc p, names where p.pronamespace = names.sync
    union all
    select case c.relkind when 'S' then 'sequence ' when 'v' then 'view ' else 'table ' end || c.oid::regclass,
           case c.relkind when 'v' then pg_get_viewdef(c.oid) else c.relkind::text end, c.relowner, case c.relkind when 'S' then 'S' else 'r' end,
           c.relnamespace, coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
      from tables c
    union all
    select 'row level security of ' || c.oid::regclass, format('%s/%s', c.relrowsecurity, c.relforcerowsecurity), c.relowner, null, null, null
      from tables c where c.relkind in ('r', 'p')
    union all
    select format('trigger %I on %s', t.tgname, c.oid::regclass), ${TRIGGER_TEXT}, c.relowner, null, null, null
      from pg_trigger t join tables c on c.oid = t.tgrelid where not t.tgisinternal
    union all
    select format('rule %I on %s', w.rulename, c.oid::regclass), pg_get_ruledef(w.oid), c.relowner, null, null, null
      from pg_rewrite w join tables c on c.oid = w.ev_class where w.rulename <> '_RETURN'
    union all
    select format('policy %I on %s', p.polname, c.oid::regclass), ${POLICY_TEXT}, c.relowner, null, null, null
      from pg_policy p join tables c on c.oid = p.polrelid
    union all
    select 'type ' || t.oid::regtype, (select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
           t.typowner, 'T', t.typnamespace, coalesce(t.typacl, acldefault('T', t.typowner))
      from pg_type t, names where t.typnamespace = names.public and t.typtype = 'e' and t.typname = any (names.types)
    union all
    select 'schema ' || n.nspname, '', n.nspowner, 'n', null, coalesce(n.nspacl, acldefault('n', n.nspowner))
      from pg_namespace n, names where n.oid = names.sync
    union all
    -- The schema public is the application's; of its rights those of our roles are ours.
    select 'schema public', '', null, 'n', null,
           (select pg_catalog.array_agg(makeaclitem(x.grantee, x.grantor, x.privilege_type, x.is_grantable))
              from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x join pg_roles r on r.oid = x.grantee and r.rolname in ('isthmus_worker', 'isthmus_decisions'))
      from pg_namespace n, names where n.oid = names.public and names.sync is not null),
  rights as (
    select g.object, g.privilege, exists (
             select from pg_default_acl d cross join aclexplode(d.defaclacl) y
              where d.defaclrole = g.owner and d.defaclnamespace in (0, g.namespace) and d.defaclobjtype::text = g.kind
                and y.grantee = g.grantee and y.privilege_type = g.privilege_type) as by_default
      from (select o.object, o.owner, o.kind, o.namespace, x.grantee, x.privilege_type,
                   concat_ws(' ', case x.grantee when 0 then 'public' else coalesce(quote_ident(r.rolname), x.grantee::text) end, x.privilege_type,
                             case when o.part is not null then '(' || o.part || ')' end, case when x.is_grantable then 'with grant option' end) as privilege
              from (select t.object, t.owner, t.kind, t.namespace, t.acl, null::text as part from things t where t.acl is not null
                    union all
                    select t.object, t.owner, null, null, a.attacl, quote_ident(a.attname)
                      from tables c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attacl is not null
                      join things t on t.object in ('table ' || c.oid::regclass, 'view ' || c.oid::regclass)) o
             cross join lateral aclexplode(o.acl) x left join pg_roles r on r.oid = x.grantee
             where x.grantee is distinct from o.owner) g)
  select (select substring(p.prosrc from '\\d{14}') from pg_proc p, names where p.pronamespace = names.sync and p.proname = 'schema_version' limit 1) as version,
         coalesce((
           select pg_catalog.jsonb_agg(jsonb_build_object('object', t.object,
                    'digest', left(md5(t.body || case when t.owner is distinct from (select owner from owners) then ' ' || coalesce(pg_get_userbyid(t.owner), '') else '' end), 10),
                    'rights', coalesce(r.rights, '[]'), 'byDefault', coalesce(r.by_default, '[]')) order by t.object collate "C")
             from things t
             left join (select object, pg_catalog.jsonb_agg(privilege order by privilege collate "C") as rights,
                               pg_catalog.jsonb_agg(privilege order by privilege collate "C") filter (where by_default) as by_default
                          from rights group by object) r on r.object = t.object
            where (select sync from names) is not null), '[]') as objects`;

/** What of ours a database has, with these tables, sequences and types of the schema public. */
export async function foundObjects(db: Sql, tables: readonly string[], types: readonly string[]): Promise<FoundObjects> {
  return inTransaction(db, "target", async (tx) => {
    await tx.unsafe("set local search_path = pg_catalog, pg_temp");
    return queryOne<FoundObjects>(tx, "target", OBJECTS, [JSON.stringify(tables), JSON.stringify(types)]);
  });
}
