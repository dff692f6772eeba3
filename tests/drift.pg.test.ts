import postgres, { type Sql, type TransactionSql } from "postgres";
import { describe, expect, it } from "vitest";
import { SCHEMA_VERSION } from "../shared/db/schema-version.ts";
import { checkInstallation } from "../shared/contract/check.ts";
import { driftFindings } from "../shared/contract/drift.ts";
import { DRIFT, type Finding } from "../shared/contract/finding.ts";
import { createTestTarget, ownerUrl } from "./support/databases.ts";
import { startHosted } from "./support/hosted.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const isDrift = ({ code }: Finding) => code in DRIFT;
const told = ({ findings }: { readonly findings: readonly Finding[] | null }) => (findings ?? []).filter(isDrift);
const said = (findings: readonly Finding[]) => findings.map(({ code, message }) => `${code} ${message}`);

/** Runs statements as the owner of the control tables, as in the SQL editor. */
async function asOwner(test: Pipeline, sql: string): Promise<void> {
  const owner = postgres(ownerUrl(test.target), { max: 1, onnotice: () => undefined });
  try {
    await owner.unsafe(sql).simple();
  } finally {
    await owner.end();
  }
}

/** The words of a remedy beside its SQL. */
const PROSE = /^If nobody needs it: |Things of yours.*$| Default privileges give.*$/g;

/** `mends`: the remedy is SQL that brings everything back. `from`: the version of PostgreSQL that has such a thing. */
const CHANGES: readonly { change: string; says: readonly RegExp[]; mends?: true; remedy?: RegExp; from?: number }[] = [
  {
    change:
      "create or replace function sync.claims() returns jsonb language sql stable set search_path = pg_catalog, pg_temp as 'select null::jsonb'",
    says: [/^target_object_changed .*: function sync\.claims\(\)\.$/],
    remedy: /supabase\/schemas\/functions\/callers\.sql .*create or replace function/,
  },
  { change: "alter function sync.claims() reset search_path", says: [/^target_object_changed .*: function sync\.claims\(\)\.$/] },
  {
    change: "alter function sync.reveal(uuid) owner to postgres",
    says: [/^target_object_changed .*: function sync\.reveal\(uuid\)\.$/],
  },
  {
    change: "drop function sync.watch_tick()",
    says: [/^target_object_missing Gone: function sync\.watch_tick\(\)\.$/],
    remedy: /supabase\/schemas\/functions\/tick-watch\.sql/,
  },
  {
    change: "create function sync.more(a integer) returns integer language sql return a",
    says: [/^target_object_added Not of the release: function sync\.more\(integer\)\.$/],
    mends: true,
  },
  {
    change: "grant execute on function sync.claims() to anon",
    says: [/^target_right_added anon may EXECUTE on function sync\.claims\(\), /],
    mends: true,
  },
  {
    change: "grant execute on all functions in schema sync to anon",
    says: [/^target_right_added anon may EXECUTE on function sync\..* and \d{3} more, /],
  },
  {
    change: "grant execute on function sync.claims() to public",
    says: [/^target_right_added Everybody may EXECUTE on function sync\.claims\(\), /],
    mends: true,
  },
  {
    change: "revoke execute on function sync.end_tick(uuid) from isthmus_worker",
    says: [/^target_right_missing isthmus_worker has lost EXECUTE on function sync\.end_tick\(uuid\), /],
    mends: true,
  },
  {
    change: "grant select, insert on public.sync_conflicts, public.sync_reports to service_role",
    says: [/^target_right_added service_role may INSERT, SELECT on table public\.sync_conflicts, public\.sync_reports, /],
    mends: true,
  },
  {
    change: "grant update on public.sync_conflicts to authenticated",
    says: [/^target_right_added authenticated may UPDATE on table public\.sync_conflicts, /],
    mends: true,
  },
  {
    change: "grant update (state) on public.sync_conflicts to authenticated",
    says: [/^target_right_added authenticated may UPDATE \(state\) on table public\.sync_conflicts, /],
    mends: true,
  },
  {
    change: "grant select on public.sync_jobs to authenticated with grant option",
    says: [
      /^target_right_added authenticated may SELECT on table public\.sync_jobs, /,
      /^target_right_missing authenticated has lost SELECT on table public\.sync_jobs, /,
    ],
    mends: true,
  },
  {
    change: "revoke update (confirmed_by) on public.sync_brakes from authenticated",
    says: [/^target_right_missing authenticated has lost UPDATE \(confirmed_by\) on table public\.sync_brakes, /],
    mends: true,
  },
  {
    change: "grant maintain on public.sync_jobs to anon",
    from: 17,
    says: [/^target_right_added anon may MAINTAIN on table public\.sync_jobs, /],
    mends: true,
  },
  {
    change: "grant usage on sequence public.sync_page_log_id_seq to anon",
    says: [/^target_right_added anon may USAGE on sequence public\.sync_page_log_id_seq, /],
    mends: true,
  },
  {
    change: "grant usage on schema sync to anon",
    says: [/^target_right_added anon may USAGE on schema sync, /],
    mends: true,
  },
  {
    change: "grant create on schema public to isthmus_worker",
    says: [/^target_right_added isthmus_worker may CREATE on schema public, /],
    mends: true,
  },
  {
    change: "revoke usage on type public.conflict_resolution_strategy from authenticated",
    says: [/^target_right_missing authenticated has lost USAGE on type public\.conflict_resolution_strategy, /],
    mends: true,
  },
  {
    change: "alter policy team_reads on public.sync_jobs using (true)",
    says: [/^target_object_changed .*: policy team_reads on public\.sync_jobs\.$/],
    remedy: /^drop policy team_reads on public\.sync_jobs; .*supabase\/schemas\/tables\/jobs-and-executions\.sql/,
  },
  {
    change: "drop policy team_reads on public.sync_jobs",
    says: [/^target_object_missing Gone: policy team_reads on public\.sync_jobs\.$/],
  },
  {
    change: "create policy more on public.sync_jobs for delete to authenticated using (true)",
    says: [/^target_object_added .*: policy more on public\.sync_jobs\.$/],
    mends: true,
  },
  {
    change: "alter table public.sync_jobs disable row level security",
    says: [/^target_object_changed .*: row level security of public\.sync_jobs\.$/],
    mends: true,
  },
  {
    change: "alter table public.sync_jobs force row level security",
    says: [/^target_object_changed .*: row level security of public\.sync_jobs\.$/],
    mends: true,
  },
  {
    change: "alter table public.sync_chains disable trigger note_progress",
    says: [/^target_object_changed .*: trigger note_progress on public\.sync_chains\.$/],
    remedy: /^If it was switched off: alter table public\.sync_chains enable trigger note_progress;/,
  },
  {
    change: "drop trigger note_progress on public.sync_chains",
    says: [/^target_object_missing Gone: trigger note_progress on public\.sync_chains\.$/],
    remedy: /supabase\/schemas\/functions\/table-guards\.sql/,
  },
  {
    change:
      "create trigger more before update on public.sync_jobs for each row execute function suppress_redundant_updates_trigger()",
    says: [/^target_object_added .*: trigger more on public\.sync_jobs\.$/],
    mends: true,
  },
  {
    change: "create rule more as on delete to public.sync_jobs do instead nothing",
    says: [/^target_object_added .*: rule more on public\.sync_jobs\.$/],
    mends: true,
  },
  {
    change: "drop table public.sync_queue_looks cascade",
    says: [/^target_object_missing Gone: table public\.sync_queue_looks\.$/],
    remedy: /supabase\/schemas\/tables\/queue-looks\.sql/,
  },
];

/** A body, a policy, row level security, a trigger, a function, a right given and a right taken. */
const SEVEN =
  /^(create or replace function sync\.claims|drop function sync\.watch_tick|grant execute on function sync\.claims\(\) to anon|revoke execute on function sync\.end_tick|alter policy team_reads|alter table public\.sync_jobs disable row|alter table public\.sync_chains disable trigger)/;

async function testOn17() {
  const target = await createTestTarget();
  return { admin: target.admin, [Symbol.asyncDispose]: () => target[Symbol.asyncDispose]() };
}

async function hostedOn15() {
  const hosted = await startHosted("drift-on-15");
  return { admin: hosted.admin, [Symbol.asyncDispose]: () => hosted[Symbol.asyncDispose]() };
}

/** Work of the owner, and looks at what it has changed, in a transaction that is rolled back. */
async function takenBack(
  admin: Sql,
  work: (tx: TransactionSql, look: () => Promise<readonly Finding[]>) => Promise<void>,
): Promise<void> {
  const back = new Error("taken back");
  const all = admin.begin(async (tx) => {
    await tx.unsafe("set local role postgres");
    const inside = { begin: (look: (within: TransactionSql) => unknown) => tx.savepoint((within) => look(within)) };
    await work(tx, async () => {
      const found = await driftFindings(inside as unknown as Sql);
      await tx.unsafe("set local search_path to default");
      return found;
    });
    throw back;
  });
  await all.catch((error: unknown) => {
    if (error !== back) throw error;
  });
}

describe("what somebody has changed of ours in the target", () => {
  it("is told by name, with what brings it back, and nothing of an untouched target", async () => {
    await using test = await createPipeline();
    expect(said(told(await checkInstallation(test.context)))).toEqual([]);
    // What is the application's tells nothing, however like ours its names are.
    await asOwner(
      test,
      `create table public.sync_of_the_shop (id integer); create trigger t before update on public.offices for each row
         execute function suppress_redundant_updates_trigger(); grant select on public.offices to anon; create type public.sync_shop as enum ('a')`,
    );
    expect(said(told(await checkInstallation(test.context)))).toEqual([]);
  });

  it("is told by the check, one beside the other, by the worker's own look", async () => {
    await using test = await createPipeline();
    const all = CHANGES.filter(({ change }) => SEVEN.test(change));
    expect(all.length).toBe(7);
    await asOwner(test, all.map(({ change }) => change).join(";\n"));
    const check = await checkInstallation(test.context);
    const patterns = all.flatMap(({ says }) => says.map((one) => expect.stringMatching(one) as string));
    expect(said(told(check))).toEqual(expect.arrayContaining(patterns));
    expect(told(check).length).toBe(7);
    for (const { severity } of told(check)) expect(severity).toBe("warn");
    expect(check).toMatchObject({ error: null });
  });

  it.each([17, 15])("whatever it is, with what brings it back, on PostgreSQL %i", async (version) => {
    await using server = version === 15 ? await hostedOn15() : await testOn17();
    const [is] = await server.admin`select current_setting('server_version_num')::integer / 10000 as version`;
    expect(is).toMatchObject({ version });
    expect(said(await driftFindings(server.admin))).toEqual([]);
    for (const { change, says, mends, remedy } of CHANGES.filter(({ from = 15 }) => from <= version)) {
      await takenBack(server.admin, async (tx, look) => {
        await tx.unsafe(change).simple();
        const drift = await look();
        expect(said(drift), change).toEqual(says.map((one) => expect.stringMatching(one) as string));
        if (remedy) expect(drift[0]?.remedy).toMatch(remedy);
        if (!mends) return;
        await tx.unsafe(drift.map((finding) => finding.remedy.replace(PROSE, "")).join("\n")).simple();
        expect(said(await look()), change).toEqual([]);
      });
    }
  });

  it("is told also where the check fails for it", async () => {
    await using test = await createPipeline();
    await asOwner(test, "drop function sync.begin_source(text)");
    const check = await checkInstallation(test.context);
    expect(check).toMatchObject({ ok: false, error: { code: "TARGET_REFUSED" } });
    expect(said(told(check))).toEqual(["target_object_missing Gone: function sync.begin_source(text)."]);
  });

  it("is told of the function itself that says the version", async () => {
    await using test = await createPipeline();
    await asOwner(test, "drop function sync.schema_version()");
    expect(said(told(await checkInstallation(test.context)))).toContain(
      "target_object_missing Gone: function sync.schema_version().",
    );
  });

  it("is no drift in a database of another version", async () => {
    await using test = await createPipeline();
    await asOwner(
      test,
      `create or replace function sync.schema_version() returns bigint language sql immutable security invoker
         set search_path = pg_catalog, pg_temp as 'select ${SCHEMA_VERSION + 1}::bigint'; drop function sync.watch_tick()`,
    );
    expect(said(told(await checkInstallation(test.context)))).toEqual([]);
  });

  it("a right that a role of the application has by default privileges is told with them", async () => {
    await using test = await createPipeline();
    await asOwner(
      test,
      `create role drift_reader; alter default privileges in schema public grant select on tables to drift_reader;
       grant select on public.sync_jobs to drift_reader`,
    );
    const [finding, ...more] = told(await checkInstallation(test.context));
    // Roles are the server's.
    await test.target.admin.unsafe("drop owned by drift_reader; drop role drift_reader").simple();
    expect(more).toEqual([]);
    expect(finding).toMatchObject({
      code: "target_right_added",
      message: "drift_reader may SELECT on table public.sync_jobs, which the release does not give.",
      remedy: expect.stringMatching(
        /^revoke SELECT on table public\.sync_jobs from drift_reader; .*alter default privileges in schema public revoke SELECT on tables from drift_reader;/,
      ) as string,
    });
  });
});
