import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { attacksByAnybody, DECIDE, MARK, type Attack } from "./support/attacks.ts";
import { createTestTarget, ownerUrl, workerUrl, type TestDatabase } from "./support/databases.ts";
import { FORGERIES, GOOD_FAITH } from "./support/forgeries.ts";

/**
 * Somebody holds the connection of the worker, a reviewer, an operator, anon or service_role, and tries everything.
 * Whatever it is, it reaches nothing but what the role may write anyhow; no function of theirs runs with another's
 * rights; and nobody else does harm for them in good faith. Copied into a working tree of an older commit, with
 * support/attacks.ts and support/forgeries.ts, this file tells which attacks succeed there.
 */

const SECRET = "nobody's business";
const KEY = "sb_secret_x";
const ATTACKERS = ["isthmus_worker", "reviewer", "operator", "anon", "service_role"] as const;
type Attacker = (typeof ATTACKERS)[number];
/** What the worker writes, and what everybody tells about themselves. */
const FREE = [
  "sync_sources", "sync_entities", "sync_executions", "sync_chains", "sync_page_log", "sync_checkpoints", "sync_pending_keys", "sync_alerts", "sync_ticks", "sync_reports",
  "sync_warnings", "sync_adoption_rows", "sync_contract_checks", "sync_side_effects", "sync_brakes", "sync_identities", "uuid_mappings_enhanced", "sync_conflicts", "sync_conflict_values",
  "sync_queue_counts", "sync_changed_causes", "sync_planned_records", "sync_row_states", "sync_join_rows", "sync_audit", "witness",
  "notes", "office_log",
]; // prettier-ignore

let target: TestDatabase;
let suffix: string;
let sequences: string[];

beforeAll(async () => {
  target = await createTestTarget();
  suffix = target.name.slice(-12);
  const owner = postgres(ownerUrl(target), { max: 1, onnotice: () => undefined });
  await owner.unsafe(`
    create table public.witness (who text default current_user, session text default session_user, what text default current_query(), n bigint generated always as identity);
    grant insert on public.witness to public;
    alter table public.witness enable row level security;
    create policy anybody on public.witness for insert with check (true);
    create table public.ledger (id uuid primary key, legacy_id bigint unique, name text, amount numeric);
    alter table public.ledger enable row level security;
    revoke all on public.ledger from anon, authenticated, service_role;
    insert into public.ledger select ('00000000-0000-4000-8000-00000000000' || n)::uuid, n, '${SECRET} ' || n, 10 * n from generate_series(1, 3) n;
    create table public.notes (what text);
    grant all on public.notes to public;
    alter table public.notes enable row level security;
    create policy anybody on public.notes for insert with check (true);
    -- The application's own, written without a schema, as most are.
    create table public.office_log (what text);
    alter table public.office_log enable row level security;
    grant insert on public.office_log to isthmus_worker;
    do $$ begin if to_regrole('isthmus_decisions') is not null then grant insert on public.office_log to isthmus_decisions; end if; end $$;
    create function public.log_office() returns trigger language plpgsql as $$ begin
      insert into office_log (what) values (new.name);
      create temp table if not exists office_scratch (id uuid, what text);
      insert into office_scratch (id) values (new.id);
      return null; end $$;
    create trigger log_office after update on public.offices for each row execute function public.log_office();
    create function public.check_office() returns trigger language plpgsql as $$ begin return null; end $$;
    create constraint trigger office_checked after update on public.offices deferrable initially deferred for each row execute function public.check_office();
    select lo_from_bytea(0, '${SECRET.replace("'", "''")}');
    create schema vault; create table vault.decrypted_secrets (name text, decrypted_secret text);
    insert into vault.decrypted_secrets values ('isthmus_functions_url', 'https://a.example'), ('isthmus_secret_key', '${KEY}');
    create schema net; grant usage on schema net to public;
    create table net.http_request_queue (id bigserial, method text default 'POST', url text not null, headers jsonb, body jsonb, timeout_milliseconds integer);
    create table net._http_response (id bigint, content text);
    grant all on all tables in schema net to public; grant all on all sequences in schema net to public;
    create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 5000)
      returns bigint language sql as $$ insert into net.http_request_queue (url, headers, body) values (url, headers, body) returning id $$;
    insert into net.http_request_queue (url, headers) values ('https://a.example', '{"apikey": "${KEY}"}')
  `.replace(`'${SECRET} '`, `'${SECRET.replace("'", "''")} '`)).simple(); // prettier-ignore
  await owner.unsafe(readFileSync(resolve(import.meta.dirname, "../supabase/schemas/schedule.sql"), "utf8")).simple();
  await owner.end();
  for (const role of ["authenticated", "anon", "service_role"])
    await target.admin.unsafe(`create role "try_${role}_${suffix}" login noinherit in role ${role}`);
  await seed(target.admin);
  sequences = (
    await target.admin<{ name: string }[]>`
      select oid::regclass::text as name from pg_class where relkind = 'S' and relnamespace in ('public'::regnamespace, 'net'::regnamespace)
         and relname !~ 'witness|http_request' order by 1`
  ).map(({ name }) => (name.includes(".") ? name : `public.${name}`));
});
afterAll(async () => {
  for (const role of ["authenticated", "anon", "service_role"]) {
    await target.admin.unsafe(`drop owned by "try_${role}_${suffix}"`);
    await target.admin.unsafe(`drop role "try_${role}_${suffix}"`);
  }
  await target[Symbol.asyncDispose]();
});

/** Offices that both sides have changed, with open conflicts. */
async function seed(admin: Sql): Promise<void> {
  await admin.unsafe(`
    insert into public.sync_sources (name) values ('legacy');
    insert into public.sync_entities (source_id, entity_type, source_table, target_table, legacy_key, columns, definition_hash, adoption_epoch)
    select (select min(id) from public.sync_sources), 'offices', 'x', 'offices', 'legacy_office_id', jsonb_agg(jsonb_build_object('name', attname, 'type', format_type(atttypid, null))), 'h', 1
      from pg_attribute where attrelid = 'public.offices'::regclass and attnum > 0 and has_column_privilege('isthmus_worker', attrelid, attnum, 'update');
    insert into public.offices (legacy_office_id, name, is_active, email_notifications, notes) select n, 'target', true, true, '${SECRET.replace("'", "''")}' from generate_series(1, 6) n;
    insert into public.sync_row_states (entity_id, legacy_id, seen, "left") select e.id, legacy_office_id, '{"name": "seen"}', '{"name": "seen"}' from public.offices, public.sync_entities e;
    insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
    select e.source_id, 'offices', legacy_office_id, o.id, 'x', 'offices' from public.offices o, public.sync_entities e;
  `).simple(); // prettier-ignore
  await openConflicts(admin);
}

/** Each attack finds something to decide, whatever those before it have decided. */
async function openConflicts(admin: Sql): Promise<void> {
  await admin.unsafe(`
    delete from public.sync_conflicts where entity_type = 'offices';
    update public.offices set name = 'target';
    set local session_replication_role = replica;
    update public.sync_row_states s set seen = '{"name": "seen"}', "left" = '{"name": "seen"}', gone_at = null from public.sync_entities e where e.id = s.entity_id and e.entity_type = 'offices';
    set local session_replication_role = origin;
    insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, field, remedy, rule, source_table, target_table, entity_id, target_record_id)
    select 'open', 'offices', legacy_office_id, 'concurrent_modification', 'name', '', 'both_changed', 'x', 'offices', e.id, o.id from public.offices o, public.sync_entities e where e.entity_type = 'offices';
    insert into public.sync_conflict_values (conflict_id, seen, source, target, "left")
    select id, '{"name": "seen"}', '{"name": "source"}', '{"name": "target"}', '{"name": "seen"}' from public.sync_conflicts where entity_type = 'offices';
    discard temp;
  `).simple(); // prettier-ignore
}

/** A connection as somebody, the way they come. */
async function connect(who: Attacker | "owner"): Promise<Sql> {
  const database = who === "reviewer" || who === "operator" ? "authenticated" : who;
  const url =
    who === "owner" ? ownerUrl(target) : who === "isthmus_worker" ? workerUrl(target) : target.url(`try_${database}_${suffix}`);
  const sql = postgres(url, { max: 1, onnotice: () => undefined, fetch_types: false, prepare: false });
  if (who === "owner" || who === "isthmus_worker") return sql;
  await sql.unsafe(`set role ${database}`);
  const claims = { sub: who, email: `${who}@clinic.example`, role: database, app_metadata: { isthmus_role: who } };
  await sql`select set_config('request.jwt.claims', ${JSON.stringify(claims)}, false)`;
  return sql;
}

/** Tries each; @returns all that was seen: rows and what errors say. */
async function attempt(sql: Sql, statements: readonly string[]): Promise<string> {
  const seen: string[] = [];
  for (const statement of statements) {
    try {
      seen.push(JSON.stringify(await sql.unsafe(statement).simple()));
    } catch (error) {
      const { message, detail, hint } = error as { message: string; detail?: string; hint?: string };
      seen.push(`${message} ${detail ?? ""} ${hint ?? ""}`);
    }
  }
  return seen.join("\n");
}

/** Everything that is nobody's to change but the owner's: as text that differs when any of it does. */
async function whatIsTheOwners(): Promise<Record<string, string>> {
  const { admin } = target;
  const tables = await admin<{ name: string }[]>`
    select c.oid::regclass::text as name from pg_class c where relkind in ('r', 'p') and relnamespace in ('public'::regnamespace, 'vault'::regnamespace, 'net'::regnamespace)
       and relname <> all (${[...FREE, "sync_jobs", "offices", "http_request_queue"]}) order by 1`;
  const kept: Record<string, string> = {};
  const keep = async (name: string, query: string) => {
    const [row] = await admin.unsafe<{ digest: string }[]>(
      `select coalesce(string_agg(r::text, e'\\n' order by r::text collate "C"), '') as digest from (${query}) r`,
    );
    kept[name] = row?.digest ?? "";
  };
  for (const { name } of tables) await keep(name, `select * from ${name}`);
  await keep("jobs", "select name, schedule_type, cron_expression, time_zone, enabled, configuration from public.sync_jobs");
  await keep("columns that the sync does not own", "select legacy_office_id, id, notes, created_at from public.offices");
  await keep("queued key", "select url, headers from net.http_request_queue where headers ? 'apikey'");
  await keep("large objects", "select loid, data from pg_largeobject");
  await keep("marks", `select sequencename from pg_sequences where last_value >= ${MARK} or start_value >= ${MARK}`);
  await keep(
    "tables",
    "select oid::regclass, relowner, relacl, relrowsecurity, relhastriggers from pg_class where relnamespace in ('public'::regnamespace, 'sync'::regnamespace, 'net'::regnamespace) and relname <> 'notes'",
  );
  await keep("columns", "select attrelid::regclass, attname, attacl from pg_attribute where attacl is not null");
  await keep(
    "functions",
    "select oid::regprocedure, proowner, proacl, prosecdef, proconfig, prosrc from pg_proc where pronamespace in ('public'::regnamespace, 'sync'::regnamespace, 'net'::regnamespace)",
  );
  await keep(
    "triggers",
    "select tgrelid::regclass, tgname, tgenabled from pg_trigger where not tgisinternal and tgrelid not in (select oid from pg_class where relpersistence = 't' or relname = 'notes')",
  );
  await keep(
    "types",
    "select oid::regtype, typowner, typacl from pg_type where typnamespace in ('public'::regnamespace, 'sync'::regnamespace)",
  );
  await keep("policies", "select * from pg_policies");
  await keep("rules", "select schemaname, tablename, rulename from pg_rules where schemaname !~ '^pg_temp'");
  await keep("schemas", "select nspname, nspowner, nspacl from pg_namespace where nspname !~ '^pg_(toast_)?temp'");
  await keep(
    "roles",
    "select rolname, rolsuper, rolcanlogin, rolbypassrls, rolcreaterole, rolconfig from pg_roles where rolname !~ '^try_'",
  );
  await keep("members", "select roleid::regrole, member::regrole from pg_auth_members where member::regrole::text !~ 'try_'");
  await keep("extensions", "select extname from pg_extension");
  await keep(
    "defaults",
    "select defaclrole, defaclnamespace, defaclacl from pg_default_acl where defaclrole = 'postgres'::regrole",
  );
  return kept; // prettier-ignore
}

const open = async () =>
  (
    await target.admin<
      { id: string }[]
    >`select id from public.sync_conflicts where state = 'open' order by first_seen_at desc, source_record_id limit 30`
  ).map(({ id }) => id);

let before: Record<string, string>;
/** Runs an attack and what others then do in good faith while the attacker is still there. */
async function run(who: Attacker, { statements }: Attack): Promise<void> {
  await openConflicts(target.admin);
  before ??= await whatIsTheOwners();
  const [mark] = await target.admin<{ n: string }[]>`select coalesce(max(n), 0) as n from public.witness`;
  const attacker = await connect(who);
  const seen = await attempt(attacker, statements);
  const [reviewer, owner] = [await connect("reviewer"), await connect("owner")];
  const ids = await open();
  await attempt(reviewer, GOOD_FAITH.reviewer(ids));
  await attempt(owner, GOOD_FAITH.owner(ids));
  await Promise.all([attacker.end(), reviewer.end(), owner.end()]);

  const after = await whatIsTheOwners();
  const was = before;
  before = after;
  for (const [name, text] of Object.entries(was)) expect(after[name], name).toBe(text);
  const own =
    who === "isthmus_worker"
      ? [who]
      : [who === "reviewer" || who === "operator" ? "authenticated" : who, `try_${who}_${suffix}`, `try_authenticated_${suffix}`];
  const witnessed = await target.admin<
    { who: string; session: string }[]
  >`select distinct who, session from public.witness where n > ${mark?.n ?? 0}`;
  expect(witnessed.filter((ran) => !own.includes(ran.who) || !own.includes(ran.session))).toEqual([]);
  expect(seen).not.toContain(SECRET);
  expect(seen).not.toContain(KEY);
  expect(seen).not.toContain("root:x:");
  const forged = await target.admin`
    select actor from public.sync_audit where actor like '%isthmus_worker%' union all
    select resolved_by from public.sync_conflicts where resolved_by = 'Ann' and id not in (select conflict_id from public.sync_audit where conflict_id is not null)
    union all select confirmed_by from public.sync_brakes where confirmed_by = 'Ann' and records > 99998`;
  expect([...forged]).toEqual([]);
}

describe("a decision on an entity that is defined beyond what was released", () => {
  it.each([
    ["has columns more", `columns = columns || '[{"name": "notes", "type": "text"}]'`, /: the release lacks notes$/],
    ["fills another table", "target_table = 'ledger'", /: it is released for another table$/],
    ["has another name", "entity_type = 'ledger'", /: nobody has released it$/],
  ])("is refused, and says why: %s", async (_, set, says) => {
    const decided = target.admin.begin(async (tx) => {
      await tx.unsafe(`update public.sync_entities set ${set} where entity_type = 'offices'`);
      await tx`select set_config('request.jwt.claims', '{"sub": "1", "app_metadata": {"isthmus_role": "reviewer"}}', true)`;
      await tx.unsafe("set local role authenticated");
      await tx`update public.sync_conflicts set resolution_strategy = 'source_wins' where source_record_id = 6 and entity_type = 'offices'`;
    });
    await expect(decided).rejects.toMatchObject({ code: "IS022", message: expect.stringMatching(says) as string });
  });
});

describe.each(ATTACKERS)("who holds the connection of %s", (who) => {
  for (const [index, { title }] of attacksByAnybody([]).entries())
    it(`gains nothing by ${title}`, { timeout: 120_000 }, async () => {
      const attack = attacksByAnybody(sequences)[index];
      if (!attack) throw new Error("no attack");
      await run(who, attack);
    });
});

describe("who holds the worker's connection", () => {
  it.each(FORGERIES.map((forgery) => ({ ...forgery })))(
    "gains nothing by forging $title",
    { timeout: 120_000 },
    async (forgery) => {
      await run("isthmus_worker", { ...forgery, statements: [...forgery.statements, ...DECIDE] });
    },
  );
});

describe("who may not see values", () => {
  it("a user of the database who is a member of authenticated, or of nothing, is no reviewer", async () => {
    const name = `try_member_${suffix}`;
    await target.admin.unsafe(`create role "${name}" login inherit in role authenticated`);
    const member = postgres(target.url(name), { max: 1, onnotice: () => undefined });
    const seen = await attempt(member, [
      `select sync.reveal(id) from (select '${(await open())[0] ?? "00000000-0000-4000-8000-000000000001"}'::uuid as id) c`,
      "set role none; select sync.reveal(gen_random_uuid())",
      `select set_config('request.jwt.claims', '{"app_metadata": {"isthmus_role": "reviewer"}}', false)`,
      "select sync.reveal(gen_random_uuid())",
    ]);
    await member.end();
    await target.admin.unsafe(`drop role "${name}"`);
    expect(seen.match(/only reviewers see unmasked values/g)).toHaveLength(3);
  });
});
