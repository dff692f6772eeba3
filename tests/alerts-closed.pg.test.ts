import { describe, expect, it } from "vitest";
import { readAlerts, showAlerts, showTested, testAlerts } from "../cli/alerts.ts";
import { tick } from "../shared/tick/tick.ts";
import { workerUrl } from "./support/databases.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { createStranger, createStrangers, ENTITY, type Stranger } from "./support/stranger.ts";

const TABLES: Stranger = { source: "old", target: "new", columns: { name: { type: "text" } } };
const OTHER: Stranger = { name: "others", source: "old_other", target: "new_other", columns: { name: { type: "text" } } };

async function made(): Promise<Pipeline> {
  const test = await createStranger(TABLES);
  await test.source.admin`insert into public.old select n, 'name ' || n from generate_series(1, 3) n`;
  await test.sync();
  return test;
}
const open = async (test: Pipeline) =>
  (
    await test.target.admin<{ kind: string }[]>`
      select kind from public.sync_alerts where closed_at is null and kind not like 'tick%' order by 1`
  ).map(({ kind }) => kind);
const asWorker = (test: Pipeline, statement: string) =>
  test.target.admin.begin(async (tx) => {
    await tx.unsafe("set local role isthmus_worker");
    await tx.unsafe(statement);
  });
/** An execution of these entities that has begun and fails. */
async function fails(test: Pipeline, ...options: Parameters<Pipeline["start"]>): Promise<void> {
  const { execution } = await test.start(...options);
  await test.target
    .admin`update public.sync_chains set state = 'failed', closed_at = now(), due_at = null where execution_id = ${execution}`;
  await asWorker(test, `select sync.finish_execution('${execution}', 'failed', '[]')`);
}

describe("an alert closes when its cause is gone", () => {
  it("execution_failed: when an execution of all its entities has come through, not of some, not of single records, not in a plan", async () => {
    await using test = await createStrangers([TABLES, OTHER]);
    for (const { source } of [TABLES, OTHER]) await test.source.admin.unsafe(`insert into public.${source} values (1, 'x')`);
    await test.sync();
    await fails(test);
    expect(await open(test)).toEqual(["execution_failed"]);
    await test.sync({ entities: [ENTITY] });
    await test.sync({ legacyIds: { [ENTITY]: ["1"], others: ["1"] } });
    await test.sync({ dryRun: true });
    expect(await open(test)).toEqual(["execution_failed"]);
    await test.sync();
    expect(await open(test)).toEqual([]);
  });

  it("execution_failed: its message names the codes, the entities, the job and the execution", async () => {
    await using test = await createStrangers([TABLES, OTHER]);
    await test.sync();
    const { execution } = await test.start();
    await test.target
      .admin`update public.sync_chains set state = 'failed', closed_at = now(), due_at = null where execution_id = ${execution}`;
    const errors = [
      { code: "TARGET_REFUSED", entity: "others", sqlstate: "42501", hint: "SECRET_VALUE" },
      { code: "no code: a value" },
    ];
    await asWorker(test, `select sync.finish_execution('${execution}', 'failed', '${JSON.stringify(errors)}')`);
    const [told] = await test.target.admin<
      { body: { text: string; codes: string[]; entities: string[]; entityCount: number } }[]
    >`
      select sync.single_message(gen_random_uuid(), 'opened', 'first', a, null) as body from public.sync_alerts a where a.kind = 'execution_failed'`;
    expect(told?.body).toMatchObject({ codes: ["SQLSTATE 42501", "TARGET_REFUSED"], entities: ["others"], entityCount: 1 });
    expect(told?.body.text).toContain(
      `\nCodes: SQLSTATE 42501, TARGET_REFUSED. Entities: others. Execution: ${execution}.\nWhat to do: `,
    );
    expect(JSON.stringify(told)).not.toMatch(/SECRET_VALUE|a value/);
  });

  it("brake and contract: their messages name code and entity", async () => {
    await using test = await made();
    await asWorker(
      test,
      `select sync.pull_brake((select max(x.id::text)::uuid from public.sync_executions x), id, 'delete', null, 50, 100), sync.alert_contract(source_id, '[{"entity": "${ENTITY}", "kind": "contract_broken", "severity": "critical", "message": "m", "details": {"findings": [{"code": "COLUMN_GONE", "value": "SECRET_VALUE"}]}}]', '[]', '[]')
         from public.sync_entities`,
    );
    const told = await test.target.admin<{ text: string }[]>`
      select sync.single_message(gen_random_uuid(), 'opened', 'first', a, null) ->> 'text' as text from public.sync_alerts a where closed_at is null order by kind`;
    expect(told.map(({ text }) => text.split("\n")[0])).toEqual([
      `[critical] brake of ${ENTITY} (legacy)`,
      `[critical] contract_broken of ${ENTITY} (legacy)`,
    ]);
    expect(told.map(({ text }) => /\n(Codes: [A-Z_]+\.)/.exec(text)?.[1])).toEqual([
      "Codes: BRAKE_APPLIED.",
      "Codes: COLUMN_GONE.",
    ]);
    expect(JSON.stringify(told)).not.toContain("SECRET_VALUE");
  });

  it("execution_failed of single records: when such have come through", async () => {
    await using test = await made();
    await fails(test, { legacyIds: { [ENTITY]: ["1"] } });
    expect(await open(test)).toEqual(["execution_failed"]);
    await test.sync({ legacyIds: { [ENTITY]: ["2"] } });
    expect(await open(test)).toEqual([]);
  });

  it("target_restored: when each entity was compared since", async () => {
    await using test = await createStrangers([TABLES, OTHER]);
    await test.sync();
    await asWorker(test, "select sync.notice_target(id, 1000000) from public.sync_sources");
    expect(await open(test)).toEqual(["target_restored"]);
    await test.sync({ entities: [ENTITY] });
    expect(await open(test)).toEqual(["target_restored"]);
    await test.sync({ entities: ["others"] });
    expect(await open(test)).toEqual([]);
  });

  it.each(["source_restored", "source_promoted"])("%s: with an execution of its entities", async (kind) => {
    await using test = await made();
    await asWorker(
      test,
      `select sync.raise_alert('${kind}', 'critical', id, null, null, 'x', '{"entities": ["${ENTITY}"]}') from public.sync_sources`,
    );
    await test.sync({ legacyIds: { [ENTITY]: ["1"] } });
    expect(await open(test)).toEqual([kind]);
    await test.sync();
    expect(await open(test)).toEqual([]);
  });

  it("surplus: when a full pass has met none", async () => {
    await using test = await made();
    await test.target.admin`alter table public.new drop constraint new_legacy_id_key`;
    await test.target.admin`create index on public.new (legacy_id)`;
    await test.target.admin`
      with double as (insert into public.new values (gen_random_uuid(), 2, 'double') returning id)
      insert into public.sync_adoption_rows (entity_id, legacy_id, id, undecided) select e.id, 2, d.id, false from double d, public.sync_entities e`;
    await test.sync({ capture: "full" });
    expect(await open(test)).toContain("surplus");
    await test.sync({ capture: "full" });
    expect(await open(test)).toContain("surplus");
    await test.target.admin`delete from public.new where name = 'double'`;
    await test.sync();
    expect(await open(test)).toContain("surplus");
    await test.sync({ capture: "full" });
    expect(await open(test)).not.toContain("surplus");
  });

  it("written_otherwise: when no record is named for it any more", async () => {
    await using test = await made();
    await asWorker(
      test,
      `insert into public.sync_warnings (entity_id, legacy_id, rule) select id, 1, 'written_otherwise: name' from public.sync_entities;
       select sync.raise_alert('written_otherwise', 'warning', source_id, null, id, 'x', '{}') from public.sync_entities`,
    );
    await test.sync();
    expect(await open(test)).toEqual(["written_otherwise"]);
    await test.source.admin`update public.old set name = 'again' where id = 1`;
    await test.sync();
    expect(await open(test)).toEqual([]);
  });

  it("contract_warning: when the finding is gone", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync({ entities: ["offices"] });
    await test.source.admin`alter table dispatch_office add column fax text`;
    await test.sync({ entities: ["offices"] });
    expect(await open(test)).toEqual(["contract_warning"]);
    await test.sync({ entities: ["offices"] });
    expect(await open(test)).toEqual(["contract_warning"]);
    await test.source.admin`alter table dispatch_office drop column fax`;
    await test.sync({ entities: ["offices"] });
    expect(await open(test)).toEqual([]);
  });

  it("execution_stuck: when every running execution can go on", async () => {
    await using test = await made();
    await test.start();
    await test.target.admin.unsafe(
      "alter function sync.advance_execution(uuid) rename to advance; create function sync.advance_execution(uuid) returns setof uuid language plpgsql as $$ begin raise 'stuck'; end $$",
    );
    await tick(test.context);
    expect(await open(test)).toEqual(["execution_stuck"]);
    await tick(test.context);
    expect(await open(test)).toEqual(["execution_stuck"]);
    await test.target.admin.unsafe(
      "drop function sync.advance_execution(uuid); alter function sync.advance(uuid) rename to advance_execution",
    );
    await tick(test.context);
    expect(await open(test)).toEqual([]);
  });
});

describe("a tick", () => {
  it("names the parts that failed, and says that messages do not arrive where they do not", async () => {
    await using test = await made();
    const failedParts = async () =>
      (await test.target.admin<{ failed: string[] }[]>`select failed from public.sync_ticks order by created_at desc limit 1`)[0]
        ?.failed;
    await tick(test.context);
    // Nobody answers for QStash here.
    expect(await failedParts()).toEqual([expect.stringMatching(/^deliveries: QUEUE_/)]);
    await test.target.admin`revoke execute on function sync.settle_cancelled() from isthmus_worker`;
    await asWorker(test, "select sync.raise_alert('alert_undelivered', 'critical', null, null, null, 'nothing arrives', '{}')");
    const said: [string, object][] = [];
    const log = { ...test.context.log, error: (event: string, fields: object = {}) => void said.push([event, fields]) };
    await tick({ ...test.context, log });
    expect(await failedParts()).toEqual(["ends: TARGET_REFUSED"]);
    expect(said).toEqual([
      ["tick.failed", expect.objectContaining({ part: "ends" })],
      ["alerts.undelivered", { message: "nothing arrives" }],
    ]);
  });
});

describe("the command line", () => {
  it("lists what is open with what to do, and tells what became of a test message", async () => {
    await using test = await made();
    const env = { TARGET_DB_URL: workerUrl(test.target), TARGET_DB_TLS: "disable" };
    expect(showAlerts(await readAlerts(env), String)).toBe("No alert is open.\n");
    await asWorker(
      test,
      "select sync.raise_alert('surplus', 'warning', source_id, null, id, 'm1', '{}'), sync.raise_alert('job_failed', 'critical', null, null, null, 'm2', '{}') from public.sync_entities",
    );
    const open = await readAlerts(env);
    expect(open).toMatchObject([
      { severity: "critical", kind: "job_failed", entity: null, occurrences: 1, acknowledgedBy: null, message: "m2" },
      { severity: "warning", kind: "surplus", entity: ENTITY, message: "m1" },
    ]);
    expect(showAlerts(open, String)).toMatch(
      /\njob_failed: m2\n {2}What to do: Do what last_error says\..*\nsurplus things: m1\n {2}What to do: /s,
    );

    await expect(testAlerts(env, { patienceMs: 50, pauseMs: 10 })).rejects.toMatchObject({ code: "TEST_UNDELIVERED" });
    await test.target.admin`
      update public.sync_alert_deliveries set status = case slot when 'first' then 'delivered' else 'dropped' end, last_error = case slot when 'second' then 'there is none' end`;
    const sent = testAlerts(env, { pauseMs: 10 });
    await expect
      .poll(
        async () =>
          (
            await test.target.admin`
              update public.sync_alert_deliveries set status = case slot when 'first' then 'delivered' else status end, status_code = 204,
                     last_error = case slot when 'second' then 'the answer was status 500' end where status = 'waiting' returning 1`
          ).length,
      )
      .toBe(2);
    expect(showTested(await sent)).toBe(
      "The first address answered the test message with status 204. Look whether the message is there: pg_net follows redirects, and a page that only answers looks the same.\nThe second address has no test message: the answer was status 500.\n",
    );
  });
});
