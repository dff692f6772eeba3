import postgres from "postgres";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connect } from "../shared/db/connect.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { offices as officeEntity } from "../clinic/entities/offices.ts";
import { IsthmusError } from "../shared/errors.ts";
import { checkInstallation } from "../shared/contract/check.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import type { SelectionRequest } from "../shared/plan/plan-selection.ts";
import { partiesOf } from "../shared/contract/identities.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import { beginExecution, beginSource } from "../shared/target/plan.ts";
import { sourcePosition } from "../shared/source/position.ts";
import { createTestSource, readerUrl, workerUrl, type TestDatabase } from "./support/databases.ts";
import { createSeeds } from "./support/legacy-seeds.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const offices: Entity = { ...officeEntity, onDelete: "hard" };
const only = { entities: ["offices"] };
const CONNECTION = {
  tls: "disable",
  ca: undefined,
  poolSize: 1,
  idleTimeoutSeconds: 5,
  connectTimeoutSeconds: 10,
  applicationName: "test",
} as const;

let test: Pipeline;
let ends: (() => Promise<unknown>)[];
beforeEach(async () => {
  ends = [];
  test = await createPipeline({ entities: [offices] });
  await test.target.admin.unsafe(workerGrants([offices]));
  await test.target.admin`update public.sync_jobs set enabled = false`;
  for (const id of [1, 2, 3]) await test.seed.office(id, { name: `office ${id}` });
  await test.sync(only);
});
afterEach(async () => {
  for (const end of ends) await end();
  await test[Symbol.asyncDispose]();
});

/** A copy of the source on the same server, where records were changed, and deleted. */
async function staging(): Promise<Context> {
  const copy = await createTestSource();
  const seed = createSeeds(copy.admin);
  for (const id of [1, 2]) await seed.office(id, { name: `office ${id} of staging` });
  const source = connect({ ...CONNECTION, side: "source", url: readerUrl(copy) });
  ends.push(
    () => source.end({ timeout: 1 }),
    () => Promise.resolve(copy[Symbol.asyncDispose]()),
  );
  return { ...test.context, source };
}

/** Runs the queued pages over another context. */
const drain = async (using: Context) => {
  for (let message = test.queue.shift(); message; message = test.queue.shift()) await test.run(message, using);
};
const refusal = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof IsthmusError)) throw new Error("it was not refused", { cause: error });
  return error;
};
/** Everything that is written but the question, its alert and jobs. */
const everything = async () => {
  const found: Record<string, unknown> = {};
  const tables = await test.target.admin<{ name: string }[]>`
    select c.relname as name from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
       and c.relname not in ('sync_identities', 'sync_alerts', 'sync_jobs', 'sync_queue_counts') order by 1`;
  for (const { name } of tables)
    found[name] = [
      ...(await test.target.admin.unsafe(`select to_jsonb(t) - 'updated_at' as row from public.${name} t order by 1`)),
    ];
  return found;
};
const questions = async () =>
  (
    await test.target.admin<{ id: string; side: string; refused: number; by: string | null }[]>`
      select id::text, side, refused, accepted_by as by from public.sync_identities where refused > 0 order by first_seen_at`
  ).map((row) => ({ ...row }));
const alerts = async () =>
  (
    await test.target.admin<{ kind: string }[]>`
      select kind from public.sync_alerts where kind like '%_unknown' and closed_at is null order by 1`
  ).map(({ kind }) => kind);
const names = async () =>
  (await test.target.admin<{ name: string }[]>`select name from public.offices order by legacy_office_id`).map(
    ({ name }) => name,
  );
const accept = () =>
  test.target.admin`update public.sync_identities set accepted_by = 'Ada' where accepted_at is null returning accepted_by`;

describe("a source that is another database than the known one", () => {
  const requests: readonly (readonly [string, Partial<SelectionRequest>])[] = [
    ["a run of what has changed", only],
    ["a full run", { ...only, capture: "full" }],
    ["a digest", { ...only, capture: "digest" }],
    ["a selection", { legacyIds: { offices: ["1"] } }],
    ["an adoption", { ...only, adopt: true }],
  ];
  it.each(requests)("is refused to %s, with what to do, and nothing but the question is written", async (_, request) => {
    const other = await staging();
    const before = await everything();
    for (const times of [1, 2]) {
      const { code, detail } = await refusal(test.start(request, other));
      expect(code).toBe("SOURCE_UNKNOWN");
      const [question] = await questions();
      expect(question).toMatchObject({ side: "source", refused: times, by: null });
      expect(detail["hint"]).toContain(
        `update sync_identities set accepted_by = '<your name>' where id in ('${question?.id ?? ""}')`,
      );
    }
    expect(await everything()).toEqual(before);
    expect(await alerts()).toEqual(["source_unknown"]);
  });

  it("is told by a plan, which shows what a run would change, and by the check", async () => {
    const other = await staging();
    const begun = await test.start({ ...only, dryRun: true, capture: "full" }, other);
    expect(begun.warnings).toMatchObject([{ code: "source_unknown", severity: "fatal", entity: null }]);
    await drain(other);
    const [report] = await test.target.admin<{ counts: object }[]>`
      select body -> 'entities' -> 0 -> 'counts' as counts from public.sync_reports where execution_id = ${begun.execution} and kind = 'plan'`;
    expect(report?.counts).toMatchObject({ updated: 2, deleted: 1 });
    const { ok, findings } = await checkInstallation(other);
    expect(ok).toBe(false);
    expect(findings).toMatchObject([{ code: "source_unknown" }]);
    expect(await names()).toEqual(["office 1", "office 2", "office 3"]);
  });

  it("fails a job once, until its next time", async () => {
    const other = await staging();
    await test.target.admin`
      insert into public.sync_jobs (name, schedule_type, cron_expression, configuration, next_execution_at)
      values ('nightly', 'cron', '0 0 1 1 *', '{"entities": ["offices"]}', now())`;
    for (let minute = 0; minute < 3; minute++) expect((await tick(other)).started).toEqual([]);
    const [job] = await test.target.admin`
      select status, attempts, last_error ->> 'code' as code, next_execution_at > now() + interval '1 hour' as later from public.sync_jobs where name = 'nightly'`;
    expect(job).toEqual({ status: "failed", attempts: 1, code: "SOURCE_UNKNOWN", later: true });
    expect(await names()).toEqual(["office 1", "office 2", "office 3"]);
  });

  it("is not read by the tick for what waits", async () => {
    const other = await staging();
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 1, 'test' from public.sync_entities where entity_type = 'offices'`;
    // As if nothing were known of it yet.
    await test.target.admin`delete from public.sync_checkpoints`;
    expect((await tick(other)).released).toEqual([]);
    expect(test.queue).toEqual([]);
  });

  it("becomes the known one when a person accepts it, who is named; then the one before is asked about", async () => {
    const other = await staging();
    await refusal(test.start(only, other));
    const worker = test.context.target;
    await expect(worker.unsafe("update public.sync_identities set accepted_by = 'me'")).rejects.toMatchObject({ code: "42501" });
    await expect(
      worker.unsafe(
        "insert into public.sync_identities (source_id, side, identity, accepted_by, accepted_at) select id, 'source', 'x', 'me', now() from public.sync_sources",
      ),
    ).rejects.toMatchObject({ code: "42501" });
    const [accepted] = await accept();
    expect(accepted).toEqual({ accepted_by: "Ada (supabase_admin)" });
    await expect(
      test.target.admin`update public.sync_identities set accepted_by = 'Eve' where side = 'source'`,
    ).rejects.toMatchObject({ code: "IS022" });
    expect((await test.start(only, other)).chains).toMatchObject([{ capture: "full" }]);
    await drain(other);
    expect(await names()).toEqual(["office 1 of staging", "office 2 of staging"]);
    expect(await alerts()).toEqual([]);
    expect((await refusal(test.start(only))).code).toBe("SOURCE_UNKNOWN");
    expect(await alerts()).toEqual(["source_unknown"]);
    await accept();
    await test.sync(only);
    expect(await names()).toEqual(["office 1", "office 2", "office 3"]);
  });

  it("is refused beside a known one, under a name of its own", async () => {
    const other = await staging();
    const named = { ...other, config: { ...other.config, SOURCE_NAME: "staging" } };
    expect((await refusal(test.start(only, named))).code).toBe("SOURCE_UNKNOWN");
    expect(await names()).toEqual(["office 1", "office 2", "office 3"]);
  });

  it("that comes between the question and the commit begins nothing", async () => {
    const other = await staging();
    const begin = async () =>
      beginExecution(test.context.target, await sourcePosition(other.source), {
        kind: "sync",
        source_id: await beginSource(test.context.target, "legacy"),
        job_id: null,
        triggered_by: "test",
        request: {},
        entities: ["offices"],
        page_size: 10,
        chains: [],
        idle: [],
        brake: { share: 0.1, records: 100, overwriteShare: 0.25, overwriteRecords: 1_000 },
        parties: partiesOf(test.context),
      });
    expect((await refusal(begin())).code).toBe("SOURCE_CHANGED");
  });

  it("is none when nothing is known yet, and no start that is refused for another reason makes it known", async () => {
    const other = await staging();
    await test.target.admin`delete from public.sync_identities`;
    expect((await checkInstallation(other)).findings).toEqual([]);
    expect((await test.target.admin`select from public.sync_identities`).length).toBe(0);
    await test.sync(only);
    const known = await test.target.admin`select side, accepted_by from public.sync_identities order by side`;
    expect(known.map((row) => ({ ...row }))).toEqual(
      ["installation", "source", "source_address", "target", "target_address"].map((side) => ({
        side,
        accepted_by: "first use",
      })),
    );
  });
});

describe("a target that is a copy of the known one", () => {
  /** The copy has everything that the target has, a running execution and a due job too. */
  async function copied(): Promise<{ here: Context; copy: TestDatabase["admin"] }> {
    const name = `${test.target.name}_copy`;
    const url = (role: string) =>
      workerUrl(test.target).replace("isthmus_worker:local-worker", role).replace(test.target.name, name);
    const server = postgres(test.target.superuserUrl.replace(test.target.name, "postgres"), {
      max: 1,
      onnotice: () => undefined,
    });
    await server`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${test.target.name} and pid <> pg_backend_pid()`;
    await server.unsafe(`create database "${name}" template "${test.target.name}" owner postgres`);
    const copy = postgres(url("supabase_admin"), { max: 1, onnotice: () => undefined });
    const target = connect({ ...CONNECTION, side: "target", url: url("isthmus_worker:local-worker") });
    ends.push(
      () => copy.end({ timeout: 1 }),
      () => target.end({ timeout: 1 }),
      () => server.unsafe(`drop database "${name}" with (force)`),
      () => server.end({ timeout: 1 }),
    );
    return { here: { ...test.context, target }, copy };
  }

  it("is asked about: no start, no tick and no page of a running execution works there until a person has accepted it", async () => {
    await test.source.admin`update public.dispatch_office set name = 'renamed' where id = 1`;
    const begun = await test.start(only);
    const [message] = test.queue.splice(0);
    if (!message) throw new Error("no page");
    const { here, copy } = await copied();
    const now = async () =>
      (await copy<{ name: string }[]>`select name from public.offices order by legacy_office_id`).map(({ name }) => name);
    await copy`update public.sync_jobs set enabled = true, next_execution_at = now()`;
    await copy`update public.sync_chains set due_at = now() - interval '1 hour' where state = 'open'`;
    expect(await tick(here)).toEqual({ started: [], resent: 0, stopped: [], released: [] });
    expect((await refusal(test.run(message, here))).code).toBe("TARGET_UNKNOWN");
    await copy`update public.sync_executions set status = 'cancelled' where id = ${begun.execution}`;
    expect((await refusal(test.start(only, here))).code).toBe("TARGET_UNKNOWN");
    expect((await refusal(test.start({ ...only, dryRun: true }, here))).code).toBe("TARGET_UNKNOWN");
    expect(await now()).toEqual(["office 1", "office 2", "office 3"]);
    expect([...(await copy`select kind from public.sync_alerts where closed_at is null`)]).toEqual([{ kind: "target_unknown" }]);

    await copy`update public.sync_jobs set enabled = false`;
    await copy`update public.sync_identities set accepted_by = 'Ada' where accepted_at is null`;
    await test.start(only, here);
    await drain(here);
    expect(await now()).toEqual(["renamed", "office 2", "office 3"]);
    expect([...(await copy`select kind from public.sync_alerts where kind = 'target_unknown' and closed_at is null`)]).toEqual(
      [],
    );
    // Where it was copied from, all goes on.
    expect(await test.run(message)).toMatchObject({ outcome: "committed" });
  });
});

describe("another installation of the functions at a known target", () => {
  const elsewhere = (): Context => ({
    ...test.context,
    config: { ...test.context.config, FUNCTIONS_URL: "https://abcdefghij.supabase.co/functions/v1" },
  });

  it("begins nothing and sends nothing until a person has accepted it", async () => {
    await test.source.admin`update public.dispatch_office set name = 'renamed' where id = 1`;
    const error = await refusal(test.start(only, elsewhere()));
    expect([error.code, error.message]).toEqual([
      "INSTALLATION_UNKNOWN",
      expect.stringContaining("abcdefghij, instead of 127-0-0-1"),
    ]);
    await test.start(only);
    test.queue.splice(0);
    await test.target.admin`update public.sync_chains set due_at = now() - interval '1 hour' where state = 'open'`;
    expect((await tick(elsewhere())).resent).toBe(0);
    expect((await tick(test.context)).resent).toBe(1);
    await accept();
    expect((await tick(test.context)).resent).toBe(0);
    await test.target.admin`update public.sync_chains set due_at = now() - interval '1 hour' where state = 'open'`;
    expect((await tick(elsewhere())).resent).toBe(1);
  });
});

describe("a known database at another address, as a copy of its files has it", () => {
  const at = (side: "SOURCE_DB_URL" | "TARGET_DB_URL"): Context => ({
    ...test.context,
    config: { ...test.context.config, [side]: test.context.config[side].replace("127.0.0.1", "elsewhere.example.com") },
  });

  it("is asked about on the side of the source; a plan shows what would come, and addresses that were accepted stay known", async () => {
    const there = at("SOURCE_DB_URL");
    const before = await everything();
    const error = await refusal(test.start(only, there));
    expect(error).toMatchObject({
      code: "SOURCE_UNKNOWN",
      message: expect.stringMatching(
        /elsewhere\.example\.com:\d+\/\w+, instead of 127\.0\.0\.1:\d+\/\w+\. A copy of its files/,
      ) as string,
    });
    expect(error.message).not.toContain("@");
    expect(await everything()).toEqual(before);
    expect(await alerts()).toEqual(["source_address_unknown"]);
    expect((await test.start({ ...only, dryRun: true }, there)).warnings).toMatchObject([{ code: "source_address_unknown" }]);
    await drain(there);
    expect(await accept()).toHaveLength(1);
    for (const context of [there, test.context, there]) {
      await test.start(only, context);
      await drain(context);
    }
    expect(await alerts()).toEqual([]);
  });

  it("is not read by a page of an execution that runs, nor written, until it is accepted; a plan's page is", async () => {
    await test.source.admin`update public.dispatch_office set name = 'renamed' where id = 1`;
    await test.start(only);
    const [message] = test.queue.splice(0);
    if (!message) throw new Error("no page");
    expect((await refusal(test.run(message, at("SOURCE_DB_URL")))).code).toBe("SOURCE_UNKNOWN");
    expect((await refusal(test.run(message, at("TARGET_DB_URL")))).code).toBe("TARGET_UNKNOWN");
    expect(await names()).toEqual(["office 1", "office 2", "office 3"]);
    expect(await test.run(message)).toMatchObject({ outcome: "committed" });
    await test.drain();
    expect(await names()).toEqual(["renamed", "office 2", "office 3"]);
  });

  it("is asked about on the side of the target, by the tick too", async () => {
    await test.source.admin`update public.dispatch_office set name = 'renamed' where id = 1`;
    const there = at("TARGET_DB_URL");
    expect((await refusal(test.start(only, there))).code).toBe("TARGET_UNKNOWN");
    await test.start(only);
    test.queue.splice(0);
    await test.target.admin`update public.sync_chains set due_at = now() - interval '1 hour' where state = 'open'`;
    expect((await tick(there)).resent).toBe(0);
    expect(await accept()).toHaveLength(1);
    expect((await tick(there)).resent).toBe(1);
  });
});
