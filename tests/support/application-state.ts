import type { Sql } from "postgres";

const OBJECTS = `
  select 'object ' || o.type || ' ' || o.identity as line
    from (select 'pg_class'::regclass as classid, oid as objid from pg_class where relkind in ('r', 'v', 'm', 'S', 'i')
          union all select 'pg_proc'::regclass, oid from pg_proc union all select 'pg_type'::regclass, oid from pg_type
          union all select 'pg_trigger'::regclass, oid from pg_trigger where not tgisinternal union all select 'pg_policy'::regclass, oid from pg_policy
          union all select 'pg_constraint'::regclass, oid from pg_constraint union all select 'pg_namespace'::regclass, oid from pg_namespace
          union all select 'pg_extension'::regclass, oid from pg_extension) n
    cross join lateral pg_identify_object(n.classid, n.objid, 0) o
   where coalesce(o.schema, '') not like 'pg\\_%' and o.identity not like 'pg\\_%'`;

/** Of everybody, and of every role. */
const RIGHTS = `
  select format('right on %s of %s: %s', a.subject, case a.grantee when 0 then 'everybody' else a.grantee::regrole::text end, a.privilege_type)
    from (select c.oid::regclass::text as subject, x.* from pg_class c cross join lateral aclexplode(c.relacl) x
          union all select a.attrelid::regclass || '.' || a.attname, x.* from pg_attribute a cross join lateral aclexplode(a.attacl) x
          union all select 'schema ' || n.nspname, x.* from pg_namespace n
                      cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
          union all select p.oid::regprocedure::text, x.* from pg_proc p
                      cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x where p.oid >= 16384 or p.proacl is not null
          union all select t.oid::regtype::text, x.* from pg_type t cross join lateral aclexplode(t.typacl) x
          union all select format('new %s in %s', d.defaclobjtype, d.defaclnamespace), x.* from pg_default_acl d cross join lateral aclexplode(d.defaclacl) x
          union all select 'database ' || d.datname, x.* from pg_database d cross join lateral aclexplode(d.datacl) x) a
   where a.subject !~ '^(schema )?pg_(toast|temp)'
     -- What a release and the schedule take, and what stays taken (docs/deployment.md): TRIGGER on tables that the
     -- sync writes, and pg_net's tables.
     and not (a.privilege_type = 'TRIGGER' and a.grantee::regrole::text in ('anon', 'authenticated', 'service_role'))
     and a.subject !~ '^net\\.(http_request_queue|_http_response)'`;

const ROLES = `
  select format('%s is a member of %s', m.member::regrole, m.roleid::regrole) from pg_auth_members m
  union all select 'role ' || rolname from pg_roles`;

const ROWS = `
  select format('migration %s %s', version, name) from supabase_migrations.schema_migrations
  union all select format('note %s', text) from public.notes union all select format('user %s', email) from auth.users`;

const SCHEDULE = `
  select format('job %s %s', jobname, active) from cron.job union all select format('secret %s', name) from vault.secrets`;

/**
 * All that the application has in its database: objects, rights, roles, history, rows, and where there are pg_cron
 * and Vault, jobs and secrets. Without roles of ours where those stand in the server beforehand: version 15 lets only
 * a superuser make them, and a hosted project its own role.
 */
export async function applicationState(admin: Sql): Promise<readonly string[]> {
  const [is] = await admin<{ scheduled: boolean; version: number }[]>`
    select to_regclass('cron.job') is not null as scheduled, current_setting('server_version_num')::int / 10000 as version`;
  const parts = [OBJECTS, RIGHTS, ROLES, ROWS, ...(is?.scheduled === true ? [SCHEDULE] : [])];
  const rows = await admin.unsafe<{ line: string }[]>(`${parts.join(" union all ")} order by 1`);
  const lines = rows.map(({ line }) => line);
  return (is?.version ?? 0) < 16 ? lines.filter((line) => !/^role isthmus_|is a member of isthmus_/.test(line)) : lines;
}
