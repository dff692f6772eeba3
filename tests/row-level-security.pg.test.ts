import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deletesRows } from "../shared/entity/define-entity.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { asRole, databaseRole, outcomeOf, ROLES, type Role } from "./support/data-api.ts";
import { readerUrl } from "./support/databases.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

/** Who may do what. s: sees rows, -: no right or no row. A table that is not listed fails the test. */
const TEAM = { anon: "-", authenticated: "-", operator: "s", reviewer: "s", service_role: "-" } as const;
const NOBODY = { anon: "-", authenticated: "-", operator: "-", reviewer: "-", service_role: "-" } as const;
const REVIEWERS = { ...NOBODY, reviewer: "s" } as const;
const MATRIX: Readonly<Record<string, Readonly<Record<Role, "s" | "-">>>> = {
  sync_sources: TEAM,
  sync_entities: TEAM,
  sync_released_entities: TEAM,
  sync_jobs: TEAM,
  sync_executions: TEAM,
  sync_chains: TEAM,
  sync_page_log: TEAM,
  sync_checkpoints: TEAM,
  sync_pending_keys: TEAM,
  sync_changed_causes: TEAM,
  sync_alerts: TEAM,
  sync_alert_deliveries: TEAM,
  sync_alert_notes: TEAM,
  sync_alert_settings: TEAM,
  sync_ticks: TEAM,
  sync_reports: TEAM,
  sync_rule_overrides: TEAM,
  sync_warnings: TEAM,
  sync_adoption_rows: TEAM,
  sync_contract_checks: TEAM,
  sync_entity_shapes: TEAM,
  sync_side_effects: TEAM,
  sync_brakes: TEAM,
  sync_retention: TEAM,
  sync_identities: TEAM,
  uuid_mappings_enhanced: TEAM,
  sync_conflicts: REVIEWERS,
  sync_conflict_values: NOBODY,
  sync_audit: TEAM,
  sync_queue_counts: TEAM,
  sync_queue_looks: TEAM,
  sync_totals: TEAM,
  sync_row_states: NOBODY,
  sync_join_rows: NOBODY,
  sync_planned_records: NOBODY,
  sync_record_slots: TEAM,
};
/** Columns that somebody may set through the Data API, where the policies let them. */
const SETTABLE: Readonly<Record<string, readonly string[]>> = {
  sync_brakes: ["confirmed_by"],
  sync_retention: ["page_log_days", "execution_days", "report_days", "conflict_days", "alert_days", "cron_days"],
  sync_alerts: ["acknowledged_by"],
  sync_identities: ["accepted_by"],
  sync_executions: ["status", "control"],
  sync_jobs: ["control"],
  sync_entities: ["control"],
  sync_chains: ["control"],
  sync_conflicts: ["resolution_strategy", "resolution_data"],
};
/** Functions that are called as whoever asks, and those that only the role of decisions calls. */
const OF_REVIEWERS = ["actor", "caller_role", "claims", "is_leaving", "refuse_decision", "reveal"];
/** Asked by the trigger that takes a word about a job, an execution, an entity or a chain, as whoever gives it. */
const OF_OPERATORS = ["failed_chains", "why_not"];
const OF_DECISIONS = [
  ...["apply_decisions", "calling_role", "carry_out", "decide_fields", "decide_rows", "deferred_constraints", "delete_decided"],
  ...["loses_text", "read_for_text", "refuse_cancelled", "reworded_fields", "takes", "tell_decided_otherwise", "write_again"],
];
/** Of the worker and of decisions. */
const OF_BOTH = [
  ...[
    "alert_kinds",
    "altering_triggers",
    "application_path",
    "escalation_time",
    "cancelling_triggers",
    "column_types",
    "differences",
    "exact_type",
    "field_slots",
    "filled_sql",
    "finds_legacy_ids",
    "range_bounds",
    "fits_range_sql",
    "fits_scalar_sql",
    "fits_sql",
    "has_unique_keys",
    "holds",
    "category_of_state",
    "is_record_error",
    "kept_sql",
    "named_triggers",
    "note_changed_causes",
    "owned_columns",
    "pick",
    "prints_sql",
    "raise_alert",
    "put_alert",
    "count_alert",
    "note_held_alert",
    "calm_time",
    "subject_of",
    "record_texts",
    "tell_otherwise",
    "texts_kept",
    "with_types",
    "words",
  ],
  ...["referenced_sql", "released_entity", "shown_value", "unlisted"],
];
/** What only the owner of the database calls, and nobody. */
const OF_OWNER = [
  ...["call_tick", "grant_released", "has_foreign_trigger", "judge_ticks", "may_hang_triggers", "pg_net_state"],
  ...["read_secret", "read_tick_answers", "refused_tick", "release_entity", "tick_obstacle", "tick_request", "watch_tick"],
  "withdraw_entity",
  ...["remove_aged", "remove_history"],
  ...[
    "address_of",
    "alert_facts",
    "alert_name",
    "beat",
    "chat_text",
    "deliver_alerts",
    "digest_message",
    "fill_outbox",
    "hmac_sha256",
  ],
  ...["note_failed_try", "project_ref", "put_messages", "read_webhook_answers", "send_message", "send_request", "single_message"],
  ...["slot_secret", "studio_link", "tell_undelivered", "test_message", "webhook_headers"],
  ...[
    "about_line",
    "alert_codes",
    "alert_entities",
    "drop_untold_ends",
    "end_unneeded",
    "fresh_body",
    "nobody_told",
    "note_refused_message",
    "put_summary",
  ],
  ...["refuses_message", "short_message", "slots_at_rest", "slots_past_bound", "was_told"],
  ...["is_needed", "move_messages", "note_addressed", "probe_slot", "slot_of", "wake_messages"],
];
const OF_NOBODY = ["decide"];
/** What the worker may do besides reading, table by table: i insert, u update (of some column), d delete. */
const WORKER: Readonly<Record<string, string>> = {
  sync_sources: "siu",
  sync_entities: "siu",
  sync_released_entities: "s",
  sync_jobs: "su",
  sync_executions: "siu",
  sync_chains: "siu",
  sync_page_log: "si",
  sync_checkpoints: "siu",
  sync_pending_keys: "siud",
  sync_changed_causes: "siud",
  sync_alerts: "siu",
  sync_alert_deliveries: "si",
  sync_alert_notes: "siud",
  sync_alert_settings: "s",
  sync_ticks: "siud",
  sync_reports: "siu",
  sync_rule_overrides: "s",
  sync_warnings: "siud",
  sync_adoption_rows: "siud",
  sync_contract_checks: "siu",
  sync_entity_shapes: "siu",
  sync_side_effects: "siud",
  sync_brakes: "siu",
  sync_identities: "siu",
  uuid_mappings_enhanced: "siu",
  sync_conflicts: "siu",
  sync_conflict_values: "siu",
  sync_queue_counts: "sid",
  sync_queue_looks: "siu",
  sync_totals: "siu",
  sync_planned_records: "siud",
  sync_record_slots: "siu",
  sync_row_states: "siud",
  sync_join_rows: "siud",
  // Deleting only where records can leave.
  ...Object.fromEntries(registry.map((entity) => [entity.target.table, deletesRows(entity) ? "siud" : "siu"])),
};

describe("row level security and grants", () => {
  let test: InProcess;
  let tables: string[];

  beforeAll(async () => {
    test = await createInProcess({ scale: 0.01 });
    await test.sync();
    const admin = test.target.admin;
    await admin`insert into public.sync_pending_keys (entity_id, legacy_id, reason) select min(id), 1, 'test' from public.sync_entities`;
    await admin`insert into public.sync_changed_causes (entity_id, legacy_id) select min(id), 1 from public.sync_entities`;
    await admin`insert into public.sync_rule_overrides (rule, severity, reason) values ('payments.paid_within_total@1', 'warn', 'test')`;
    await admin`insert into public.sync_warnings (entity_id, legacy_id, rule) select min(id), 1, 'test' from public.sync_entities`;
    await admin`insert into public.sync_adoption_rows (entity_id, legacy_id, id, undecided) select min(id), 1, gen_random_uuid(), false from public.sync_entities`;
    await admin`
      insert into public.sync_planned_records (execution_id, entity_id, legacy_id, outcome)
      select max(execution_id::text)::uuid, min(entity_id), 1, 'updated' from public.sync_page_log`;
    await admin`
      insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
      select max(execution_id::text)::uuid, min(entity_id), 1, 'test' from public.sync_page_log`;
    await admin`insert into public.sync_brakes (entity_id, kind, records, landed) select min(id), 'delete', 9, 10 from public.sync_entities`;
    await admin`insert into public.sync_alerts (kind, severity, message) values ('test', 'warning', 'test')`;
    await admin`insert into public.sync_alert_settings default values`;
    await admin`insert into public.sync_retention default values`;
    await admin`insert into public.sync_alert_notes (alert_id, closes) values (gen_random_uuid(), true)`;
    await admin`select sync.test_alert()`;
    await admin`insert into public.sync_conflict_values select id, '{}' from public.sync_conflicts limit 1`;
    await admin`insert into public.sync_audit (actor, action) values ('test', 'revealed')`;
    await admin`select sync.take_look(id, 'deliveries', 1) from public.sync_sources`;
    await admin`select sync.begin_tick(null)`;
    await admin`select sync.count_queue(id) from public.sync_sources`;
    tables = (
      await admin<{ name: string }[]>`
      select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p') order by 1`
    ).map((row) => row.name);
  });
  afterAll(() => test[Symbol.asyncDispose]());

  const as = <T>(role: Role, work: Parameters<typeof asRole<T>>[2], claims: object = {}) =>
    asRole(test.target.admin, role, work, claims);
  const refused = async (work: PromiseLike<unknown>) => {
    expect(await outcomeOf(work)).toBe("42501");
  };
  const columnsOf = async (table: string, role: string, right: string) =>
    (
      await test.target.admin<{ name: string }[]>`
      select attname as name from pg_attribute where attrelid = ${`public.${table}`}::regclass and attnum > 0 and not attisdropped
         and has_column_privilege(${role}, attrelid, attnum, ${right}) order by attnum`
    ).map((row) => row.name);

  it("covers every table of ours, and each has rows to hide", async () => {
    expect(tables.filter((name) => name.startsWith("sync_") || name.startsWith("uuid_"))).toEqual(Object.keys(MATRIX).sort());
    for (const table of Object.keys(MATRIX))
      expect((await test.target.admin.unsafe(`select from public.${table} limit 1`)).length, table).toBe(1);
    const unprotected = await test.target
      .admin`select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity`;
    expect([...unprotected]).toEqual([]);
  });

  const cells = Object.entries(MATRIX).flatMap(([table, row]) => ROLES.map((role) => ({ table, role, may: row[role] })));
  it.each(cells)("$role on $table: $may", async ({ table, role, may }) => {
    const database = databaseRole(role);
    const readable = await columnsOf(table, database, "select");
    const seen =
      readable.length === 0
        ? 0
        : (
            await as(role, (tx) =>
              tx.unsafe(`select ${readable.map((name) => `"${name}"`).join(", ")} from public.${table} limit 1`),
            )
          ).length;
    expect(seen === 1 ? "s" : "-").toBe(may);
    // Policies would refuse it too: neither may hang on the other alone.
    const [rights] = await test.target.admin<{ has: string[] }[]>`
      select array(select r from unnest(array['insert', 'references']) r where has_any_column_privilege(${database}, t, r)) ||
             array(select r from unnest(array['delete', 'truncate', 'trigger']) r where has_table_privilege(${database}, t, r)) as has
        from (select ${`public.${table}`}::regclass as t) x`;
    expect(rights?.has).toEqual([]);
    await refused(as(role, (tx) => tx.unsafe(`insert into public.${table} default values`)));
    await refused(as(role, (tx) => tx.unsafe(`delete from public.${table}`)));
    await refused(as(role, (tx) => tx.unsafe(`truncate public.${table}`)));
    expect(await columnsOf(table, database, "update")).toEqual(database === "authenticated" ? (SETTABLE[table] ?? []) : []);
  });

  it("shows nobody what a dry run asks for", async () => {
    const count = (role: Role) => as(role, async (tx) => (await tx`select from public.sync_pending_keys`).length);
    const [all] = await test.target.admin<{ n: number }[]>`
      select count(*) filter (where execution_id is null)::integer as n from public.sync_pending_keys having bool_or(execution_id is not null)`;
    expect(await count("operator")).toBe(all?.n);
  });

  it("lets an operator confirm a brake, and nobody else, the worker included", async () => {
    const confirm = async (role: Role) =>
      as(
        role,
        async (tx) => (await tx`update public.sync_brakes set confirmed_by = 'me' where closed_at is null returning id`).length,
      );
    expect(await confirm("reviewer")).toBe(0);
    expect(await confirm("authenticated")).toBe(0);
    await refused(confirm("anon"));
    await refused(test.context.target.unsafe("update public.sync_brakes set confirmed_by = 'me'"));
    expect(await confirm("operator")).toBe(1);
  });

  it("lets an operator accept another source, in the name of the sign-in, and nobody else, the worker included", async () => {
    const { target } = test.context;
    await target.unsafe(
      "insert into public.sync_identities (source_id, side, identity) select min(id), 'source', '1/1' from public.sync_sources",
    );
    const accept = async (role: Role) =>
      as(
        role,
        async (tx) =>
          (
            await tx`update public.sync_identities set accepted_by = 'Ada' where accepted_at is null returning accepted_by as by`
          ).map(({ by }) => by as string),
        { sub: "1", email: "operator@example.com" },
      );
    expect(await accept("reviewer")).toEqual([]);
    expect(await accept("authenticated")).toEqual([]);
    await refused(accept("anon"));
    await refused(target.unsafe("update public.sync_identities set accepted_by = 'Ada'"));
    await refused(target.unsafe("delete from public.sync_identities"));
    expect(await accept("operator")).toEqual(["operator@example.com"]);
  });

  it("goes by app_metadata, not by what a user can write into their own metadata", async () => {
    const count = (claims: object) =>
      as("authenticated", async (tx) => (await tx`select from public.sync_executions`).length, claims);
    expect(await count({ user_metadata: { isthmus_role: "operator" } })).toBe(0);
    expect(await count({ isthmus_role: "operator" })).toBe(0);
    expect(await count({ app_metadata: { isthmus_role: "Operator" } })).toBe(0);
    expect(await count({ app_metadata: { isthmus_role: "operator" } })).toBe(1);
  });

  // What the advisors of Supabase look for stands in advisors.pg.test.ts; they let these pass, some of them on
  // purpose.
  const LINTS: readonly { title: string; finds: string; broken: string }[] = [
    {
      title: "no policy lets everybody through, to read neither",
      finds: `select policyname as name from pg_policies where schemaname = 'public' and 'true' in (qual, with_check)`,
      broken: "create policy everybody on public.sync_conflicts for select to authenticated using (true)",
    },
    {
      title: "every policy of ours is for those who have signed in",
      finds: `select policyname as name from pg_policies where schemaname = 'public' and tablename ~ '^(sync|uuid)_' and roles <> '{authenticated}'`,
      broken: "create policy anybody on public.sync_audit for select using (sync.caller_role() = 'operator')",
    },
    {
      title: "every table of ours has a policy",
      finds: `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relname ~ '^(sync|uuid)_'
                 and oid not in (select polrelid from pg_policy)`,
      broken: "drop policy team_reads on public.sync_queue_counts",
    },
    {
      title: "every policy's table has row level security",
      finds: "select relname as name from pg_class where oid in (select polrelid from pg_policy) and not relrowsecurity",
      broken: "alter table public.sync_conflict_values disable row level security",
    },
    {
      title: "every function of ours says where it looks up names",
      finds: `select proname as name from pg_proc where pronamespace = 'sync'::regnamespace
                 and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)`,
      broken: "alter function sync.decision_sql() set search_path = public",
    },
    {
      title: "no other function runs with its owner's rights than decisions and what shows values",
      finds:
        "select proname as name from pg_proc where pronamespace = 'sync'::regnamespace and prosecdef and proname not in ('apply_decisions', 'reveal')",
      broken: "alter function sync.replay(text, text, public.conflict_type_enum) security definer",
    },
    {
      title: "what runs with more rights than its caller belongs to the role of decisions",
      finds: `select proname as name from pg_proc where pronamespace in ('sync'::regnamespace, 'public'::regnamespace) and prosecdef
                 and pg_get_userbyid(proowner) <> 'isthmus_decisions'`,
      broken: "alter function sync.reveal(uuid) owner to postgres",
    },
    {
      title: "no function of ours is everybody's",
      finds: `select proname as name from pg_proc cross join lateral aclexplode(coalesce(proacl, acldefault('f', proowner))) x
               where pronamespace = 'sync'::regnamespace and x.grantee in (0, 'anon'::regrole, 'service_role'::regrole)`,
      broken: "grant execute on function sync.call_tick() to public",
    },
    {
      title: "no sequence of ours is anybody's but the worker's",
      finds: `select relname as name from pg_class cross join lateral aclexplode(relacl) x
               where relnamespace = 'public'::regnamespace and relkind = 'S' and relname ~ '^(sync|uuid)_'
                 and x.grantee not in (relowner, 'isthmus_worker'::regrole)`,
      broken: "grant update on sequence public.sync_executions_ordinal_seq to service_role",
    },
    {
      title: "no type of ours is everybody's",
      finds: `select typname as name from pg_type cross join lateral aclexplode(coalesce(typacl, acldefault('T', typowner))) x
               where typnamespace = 'public'::regnamespace and typtype in ('e', 'd') and typname ~ '^(sync|conflict|mapping)_'
                 and x.grantee in (0, 'anon'::regrole, 'service_role'::regrole)`,
      broken: "create domain public.sync_name as text",
    },
    {
      title: "the role of decisions owns nothing but these functions",
      finds: `select relname as name from pg_class where relowner = 'isthmus_decisions'::regrole
              union all select typname from pg_type where typowner = 'isthmus_decisions'::regrole and typrelid = 0 and typelem = 0
              union all select nspname from pg_namespace where nspowner = 'isthmus_decisions'::regrole
              union all select proname from pg_proc where proowner = 'isthmus_decisions'::regrole and proname not in ('apply_decisions', 'reveal')`,
      broken: "alter function sync.carry_out(public.sync_entities, uuid[], jsonb) owner to isthmus_decisions",
    },
    {
      title: "the roles of the sync create nothing",
      finds: `select nspname as name from pg_namespace, unnest(array['isthmus_decisions', 'isthmus_worker']) role
               where nspname !~ '^pg_(temp|toast)' and has_schema_privilege(role, oid, 'create')`,
      broken: "grant create on schema sync to isthmus_decisions",
    },
    {
      title: "nobody takes on the roles of the sync but the owner of the database",
      finds: `select pg_get_userbyid(member) as name from pg_auth_members where roleid in ('isthmus_decisions'::regrole, 'isthmus_worker'::regrole)
                 and pg_get_userbyid(member) not in ('postgres', 'supabase_admin')
              union all select pg_get_userbyid(roleid) from pg_auth_members where member in ('isthmus_decisions'::regrole, 'isthmus_worker'::regrole)`,
      broken: "grant isthmus_decisions to service_role",
    },
    {
      title: "decisions may write exactly the columns that are released",
      finds: `select relname || '.' || attname as name from pg_class c join pg_attribute on attrelid = c.oid and attnum > 0 and not attisdropped
               where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relname !~ '^(sync|uuid)_'
                 and has_column_privilege('isthmus_decisions', c.oid, attnum, 'update') <> exists (
                       select from public.sync_released_entities where target_table = relname and attname = any (columns))`,
      broken: "grant update (notes) on public.offices to isthmus_decisions",
    },
    {
      title: "nobody hangs a function on a table that the sync writes",
      finds: `select relname as name from pg_class c cross join lateral aclexplode(relacl) x
               where relnamespace = 'public'::regnamespace and x.privilege_type = 'TRIGGER' and x.grantee <> relowner
                 and (relname ~ '^(sync|uuid)_' or relname in (select target_table from public.sync_released_entities))`,
      broken: "grant trigger on public.offices to anon",
    },
  ];
  it.each(LINTS)("$title", async ({ finds, broken }) => {
    expect([...(await test.target.admin.unsafe(finds))]).toEqual([]);
    const found = await test.target.admin
      .begin(async (tx) => {
        await tx.unsafe(broken);
        const { length } = await tx.unsafe(finds);
        // Nothing of it is to stay.
        throw new Error(`${length}`);
      })
      .catch((error: unknown) => (error as Error).message);
    expect(found).toBe("1");
  });

  it("a release takes the right TRIGGER from everybody but the owner, of the table and its partitions, and is of a table", async () => {
    const { admin } = test.target;
    await admin
      .begin(async (tx) => {
        await tx.unsafe(`set local role postgres;
          create table public.parted (id uuid, legacy_id bigint) partition by list (legacy_id);
          create table public.parted_rest partition of public.parted default;
          create view public.seen_parted as select * from public.parted`).simple(); // prettier-ignore
        const open = () =>
          tx`select distinct grantee::regrole::text as who from sync.may_hang_triggers('public.parted'::regclass) order by 1`;
        await tx
          .unsafe(
            "reset role; grant trigger on public.parted_rest to isthmus_worker with grant option; set local role isthmus_worker; grant trigger on public.parted_rest to public; reset role",
          )
          .simple();
        expect((await open()).length).toBeGreaterThan(3);
        await tx
          .unsafe("set local role postgres; select sync.release_entity('parted', 'parted', array['legacy_id'], false)")
          .simple();
        expect([...(await open())]).toEqual([]);
        expect(
          await outcomeOf(
            tx.savepoint((inner) => inner`select sync.release_entity('seen', 'seen_parted', array['legacy_id'], false)`),
          ),
        ).toBe("42809");
        throw new Error("nothing stays");
      })
      .catch((error: unknown) => {
        if ((error as Error).message !== "nothing stays") throw error;
      });
  });

  it("never shows the namespace of the minted ids", async () => {
    await refused(as("reviewer", (tx) => tx`select namespace from public.sync_sources`));
  });

  it("lets nobody but the worker call the functions in sync, except what policies and decisions call as whoever asks, and those of decisions nobody", async () => {
    const functions = await test.target.admin<{ name: string; trigger: boolean; roles: string[] }[]>`
      select p.proname as name, p.prorettype = 'trigger'::regtype as trigger,
             array(select r from unnest(array['anon', 'authenticated', 'service_role', 'isthmus_worker', 'isthmus_decisions']) r
                    where has_function_privilege(r, p.oid, 'execute')) as roles
        from pg_proc p where p.pronamespace = 'sync'::regnamespace order by 1`;
    expect(functions.length).toBeGreaterThan(15);
    const rolesOf = (name: string, trigger: boolean) => {
      if (OF_DECISIONS.includes(name)) return ["isthmus_decisions"];
      if (trigger || OF_OWNER.includes(name) || OF_NOBODY.includes(name)) return [];
      if (OF_OPERATORS.includes(name)) return ["authenticated", "isthmus_worker"];
      if (OF_REVIEWERS.includes(name)) return ["authenticated", "isthmus_decisions"];
      return OF_BOTH.includes(name) ? ["isthmus_worker", "isthmus_decisions"] : ["isthmus_worker"];
    };
    for (const { name, trigger, roles } of functions) expect(roles, name).toEqual(rolesOf(name, trigger));
  });

  it.each(Object.entries(WORKER))("the worker on %s: %s", async (table, rights) => {
    const [has] = await test.target.admin<{ rights: string }[]>`
      select concat(case when has_any_column_privilege('isthmus_worker', t, 'select') then 's' end, case when has_any_column_privilege('isthmus_worker', t, 'insert') then 'i' end,
                    case when has_any_column_privilege('isthmus_worker', t, 'update') then 'u' end, case when has_table_privilege('isthmus_worker', t, 'delete') then 'd' end,
                    case when has_table_privilege('isthmus_worker', t, 'truncate') then 't' end) as rights from (select ${`public.${table}`}::regclass as t) x`;
    expect(has?.rights).toBe(rights);
  });

  it("the worker has rights on nothing else, writes only columns that entities own, and is nobody special", async () => {
    const others = await test.target.admin<{ name: string }[]>`
      select c.oid::regclass::text as name from pg_class c where relkind in ('r', 'v', 'm', 'p') and relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
         and has_any_column_privilege('isthmus_worker', c.oid, 'select, insert, update') order by 1`;
    expect(others.map((row) => row.name.replace(/^public\./, "")).sort()).toEqual(Object.keys(WORKER).sort());
    expect(await columnsOf("offices", "isthmus_worker", "update")).not.toContain("notes");
    expect(await columnsOf("offices", "isthmus_worker", "insert")).not.toContain("created_at");
    expect(await columnsOf("patients", "isthmus_worker", "select")).not.toContain("medical_notes");
    const [role] = await test.target
      .admin`select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolinherit from pg_roles where rolname = 'isthmus_worker'`;
    expect(role).toEqual({ rolsuper: false, rolcreatedb: false, rolcreaterole: false, rolreplication: false, rolinherit: false });
    const worker = test.context.target;
    await refused(worker.unsafe("create table public.mine ()"));
    await refused(worker.unsafe("select auth.jwt()"));
    await refused(worker.unsafe("update public.offices set notes = 'x'"));
  });

  it("the source role reads and never writes", async () => {
    const reader = postgres(readerUrl(test.source), { max: 1, fetch_types: false });
    expect((await reader`select from public.dispatch_office limit 1`).length).toBe(1);
    expect(await outcomeOf(reader`update public.dispatch_office set name = 'x'`)).toBe("25006");
    expect(await outcomeOf(reader.begin("read write", (tx) => tx`update public.dispatch_office set name = 'x'`))).toBe("42501");
    await reader.end();
  });
});
