import type { Sql as AdminSql } from "postgres";
import { describe, expect, it } from "vitest";
import { showStory } from "../cli/show-story.ts";
import { story } from "../cli/answers.ts";
import { explain } from "../shared/page/explain.ts";
import type { Context } from "../shared/context.ts";
import type { Sql } from "../shared/db/connect.ts";
import { adopt, loosen } from "./support/adoption.ts";
import { readerUrl, workerUrl } from "./support/databases.ts";
import { createFunctions, SECRET_KEY, userToken } from "./support/handlers.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const SEES = { values: true };
const told = (test: Pipeline, entity: string, id: string) => explain(test.context, entity, id, SEES);

/** What plain SQL says of the same record. */
async function plain(test: Pipeline, entity: string, table: string, id: string) {
  const [mapping] = await test.target.admin<{ uuid: string; active: boolean }[]>`
    select entity_uuid as uuid, sync_status = 'active' as active from public.uuid_mappings_enhanced
     where entity_type = ${entity} and legacy_id = ${id}`;
  const rows =
    mapping === undefined
      ? []
      : await test.target.admin<{ row: Record<string, unknown> }[]>`
          select to_jsonb(t) as row from ${test.target.admin(`public.${table}`)} t where t.id = ${mapping.uuid}`;
  const conflicts = await test.target.admin<{ id: string; state: string; rule: string; parent: string | null }[]>`
    select c.id, c.state, c.rule, c.parent_legacy_id::text as parent from public.sync_conflicts c
     where c.entity_type = ${entity} and c.source_record_id = ${id} order by c.last_seen_at desc, c.id`;
  const waiters = await test.target.admin<{ entity: string; id: string }[]>`
    select c.entity_type as entity, c.source_record_id::text as id
      from public.sync_conflicts c join public.sync_entities e on e.id = c.parent_entity_id
     where e.entity_type = ${entity} and c.parent_legacy_id = ${id} and c.state = 'waiting' order by 1, c.source_record_id`;
  const executions = await test.target.admin<{ id: string }[]>`
    select x.id from public.sync_executions x where x.id in (
      select unnest(array[execution_id, resolved_in]) from public.sync_conflicts where entity_type = ${entity} and source_record_id = ${id})
     order by x.started_at desc, x.id`;
  return {
    mapping,
    row: rows[0]?.row,
    conflicts: [...conflicts],
    waiters: [...waiters],
    executions: executions.map((x) => x.id),
  };
}

/** Compares a story with plain SQL, and gives what it says of the source and of a run. */
async function agreed(test: Pipeline, entity: string, table: string, id: string): Promise<[source: string, verdict: string]> {
  const one = await told(test, entity, id);
  const sql = await plain(test, entity, table, id);
  expect(one.mapping && { uuid: one.mapping.uuid, active: one.mapping.active }).toEqual(sql.mapping ?? null);
  expect(one.target.row).toBe(sql.row !== undefined);
  for (const { field, target } of one.fields) {
    const value = sql.row?.[field] ?? null;
    if (target !== "•••" && (value === null || ["string", "boolean"].includes(typeof value)))
      expect([field, target]).toEqual([field, value === null ? null : `${value as string | boolean}`]);
  }
  expect(one.conflicts.map((c) => ({ id: c.id, state: c.state, rule: c.rule, parent: c.parent?.id ?? null }))).toEqual(
    sql.conflicts,
  );
  expect(one.waiters).toEqual(sql.waiters);
  expect(one.executions.map((x) => x.id)).toEqual(sql.executions);
  // What the command line takes and prints.
  expect(showStory(story.parse(JSON.parse(JSON.stringify(one))))).toContain(`a run now:  ${one.run.verdict}. `);
  return [one.source.row, one.run.verdict];
}

describe("the story of a record", () => {
  it("agrees with plain SQL for a record of every kind", { timeout: 120_000 }, async () => {
    await using test = await createPipeline();
    for (const id of [1, 2, 3, 4, 5]) await test.seed.office(id);
    await test.seed.doctor(10);
    await test.seed.patient(1, { userId: 20, doctorId: 10, officeId: 1 });
    await test.seed.patient(2, { userId: 21 });
    await test.seed.user(30);
    await test.seed.operation(4, { type: null });
    await test.source.admin.begin(async (tx) => {
      await tx`set local session_replication_role = replica`;
      await tx`update public.dispatch_patient set office_id = 99 where id = 1`;
    });
    await test.sync();
    await test.target.admin`update public.offices set phone = 'by hand' where legacy_office_id in (2, 5)`;
    await test.source.admin`delete from public.dispatch_office where id = 3`;
    await test.source.admin`update public.dispatch_office set name = 'renamed' where id in (4, 5)`;
    const found = {
      landed: await agreed(test, "offices", "offices", "1"),
      edited: await agreed(test, "offices", "offices", "2"),
      gone: await agreed(test, "offices", "offices", "3"),
      changed: await agreed(test, "offices", "offices", "4"),
      both: await agreed(test, "offices", "offices", "5"),
      waiting: await agreed(test, "patients", "patients", "1"),
      awaited: await agreed(test, "offices", "offices", "99"),
      open: await agreed(test, "operations", "operations", "4"),
      waived: await agreed(test, "patients_doctors_offices", "patients_doctors_offices", "2"),
      ignored: await agreed(test, "technicians", "technicians", "30"),
      neverSeen: await agreed(test, "offices", "offices", "999"),
    };
    expect(found).toEqual({
      landed: ["present", "unchanged"],
      edited: ["present", "unchanged"],
      gone: ["absent", "gone"],
      changed: ["present", "update"],
      both: ["present", "compare"],
      waiting: ["present", "waiting"],
      awaited: ["absent", "nothing"],
      open: ["present", "open"],
      waived: ["waived", "waived"],
      ignored: ["not_a_record", "nothing"],
      neverSeen: ["absent", "nothing"],
    });
    const edited = await told(test, "offices", "2");
    expect(edited.target.asLeft).toBe(false);
    expect(edited.fields.filter((f) => f.edited).map((f) => [f.field, f.after, f.target])).toEqual([["phone", null, "by hand"]]);
    expect((await told(test, "offices", "99")).waiters).toContainEqual({ entity: "patients", id: "1" });
    // Which parent a record waits for is a value of its own: told to nobody who may not see values.
    const hidden = await explain(test.context, "patients", "1", { values: false });
    expect(hidden.run.verdict).toBe("waiting");
    expect(JSON.stringify([hidden.fields, hidden.run])).not.toMatch(/\b99\b/);
    const waits = (await told(test, "patients", "1")).fields.find((f) => f.parent?.entity === "offices");
    expect(waits?.parent).toEqual({ entity: "offices", id: "99", landed: false });
    // A decision for the target stands until the source changes the record, whatever else has changed.
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where entity_type = 'operations'`;
    expect((await told(test, "operations", "4")).run.verdict).toBe("left_alone");
    await test.source.admin`update public.dispatch_operation set type = 1 where id = 4`;
    expect((await told(test, "operations", "4")).run.verdict).toBe("insert");
    // A run reads everything again where the definition has changed.
    await test.target.admin`update public.sync_checkpoints set definition_hash = 'another' where entity_type = 'offices'`;
    expect((await told(test, "offices", "1")).run).toMatchObject({
      verdict: "compare",
      why: expect.stringContaining("definition") as string,
    });
    await test.target.admin`
      update public.sync_checkpoints k set definition_hash = e.definition_hash
        from public.sync_entities e where e.entity_type = k.entity_type and k.entity_type = 'offices'`;
    // What a run then does is what was told.
    await test.sync();
    expect((await told(test, "offices", "4")).run.verdict).toBe("unchanged");
    expect(await agreed(test, "offices", "offices", "3")).toEqual(["absent", "gone"]);
    await test.target.admin`delete from public.offices where legacy_office_id = 2`;
    expect((await told(test, "offices", "2")).run.verdict).toBe("decide");
  });

  it("judges rules as severely as overrides say", async () => {
    await using test = await createPipeline();
    await test.sync();
    await test.seed.payment(2, { total: "100.00" });
    await test.source.admin`update public.dispatch_payment set paid_price = 100.01 where id = 2`;
    expect((await told(test, "payments", "2")).run.verdict).toBe("insert");
    await test.target.admin`
      insert into public.sync_rule_overrides (rule, severity, reason) values ('payments.paid_within_total@1', 'park', 'a test')`;
    const { run, fields } = await told(test, "payments", "2");
    expect(run).toMatchObject({ verdict: "open", why: expect.stringContaining("payments.paid_within_total@1") as string });
    expect(fields.filter(({ rule }) => rule !== null).map(({ rule }) => rule)).toContain("payments.paid_within_total@1");
  });

  it("names the candidates where several target rows may be the record", async () => {
    await using test = await createPipeline();
    await loosen(test, ["offices", "legacy_office_id"]);
    await test.seed.office(1);
    const rows = await test.target.admin<{ id: string }[]>`
      insert into public.offices (legacy_office_id, name, is_active, email_notifications)
      values (1, 'one', true, true), (1, 'two', true, true) returning id`;
    await adopt(test, "offices");
    expect(await agreed(test, "offices", "offices", "1")).toEqual(["present", "open"]);
    const [conflict] = (await told(test, "offices", "1")).conflicts;
    expect([...(conflict?.candidates ?? [])].sort()).toEqual(rows.map(({ id }) => id).sort());
  });

  it("masks sensitive values for everybody, all values and the queue for who may not see them, and writes nothing", async () => {
    await using test = await createPipeline();
    await test.seed.office(1, { name: "a private name" });
    await test.seed.doctor(10);
    await test.source.admin`update public.dispatch_doctorsetting set clinical_preferences = '{"k": "a private wish"}'`;
    await test.seed.operation(4, { type: null });
    await test.sync();
    expect(JSON.stringify(await told(test, "doctors", "10"))).not.toContain("a private wish");
    const statements: Statement[] = [];
    const withheld = await explain(listening(test.context, "target", statements), "offices", "1", { values: false });
    expect(JSON.stringify(withheld)).not.toContain("a private name");
    expect(withheld.withheld).toEqual(["values", "conflicts", "executions", "waiters"]);
    expect((await explain(test.context, "operations", "4", { values: false })).conflicts).toEqual([]);
    expect(statements).toHaveLength(2);
    expect(statements.filter(({ text }) => !/^\s*select\b/.test(text))).toEqual([]);
  });

  it("is told by probes of indexes alone, on both sides", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.seed.doctor(10);
    await test.seed.patient(1, { userId: 20, doctorId: 10, officeId: 1 });
    await test.sync();
    for (const side of ["source", "target"] as const) {
      const statements: Statement[] = [];
      for (const [entity, id] of [
        ["patients", "1"],
        ["offices", "7"],
      ] as const)
        await explain(listening(test.context, side, statements), entity, id, SEES);
      expect(statements.length).toBeGreaterThanOrEqual(3);
      for (const statement of statements) expect(await walked(test[side].admin, statement)).toEqual([]);
    }
  });

  it("is given over HTTP to the secret key and to reviewers whole, to operators without values", async () => {
    await using test = await createPipeline();
    await test.seed.office(1, { name: "a private name" });
    await test.sync();
    const functions = createFunctions({
      SOURCE_DB_URL: readerUrl(test.source),
      TARGET_DB_URL: workerUrl(test.target),
      SOURCE_DB_TLS: "disable",
      TARGET_DB_TLS: "disable",
    });
    // The functions are built, and so have other hashes of their code than what has synced here: then both sides are
    // compared.
    const ask = async (headers: Record<string, string>, query = "?explain=offices&id=1") => {
      const answer = await functions.call("sync-trigger", { query, headers });
      const text = await answer.text();
      return [answer.status, text.includes("a private name"), /"verdict":"(unchanged|compare)"/.test(text)];
    };
    const signedIn = (role: string) => ({
      authorization: `Bearer ${userToken(functions.keys, { app_metadata: { isthmus_role: role } })}`,
    });
    expect(await ask({ apikey: SECRET_KEY })).toEqual([200, true, true]);
    expect(await ask(signedIn("reviewer"))).toEqual([200, true, true]);
    expect(await ask(signedIn("operator"))).toEqual([200, false, true]);
    expect((await ask(signedIn("nobody")))[0]).toBe(403);
    expect((await ask({}))[0]).toBe(401);
    expect((await ask({ apikey: SECRET_KEY }, "?id=1"))[0]).toBe(400);
    expect((await ask({ apikey: SECRET_KEY }, "?explain=office&id=1"))[0]).toBe(404);
  });

  it("says what is not there", async () => {
    await using test = await createPipeline();
    await expect(told(test, "offices", "1")).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(told(test, "office", "1")).rejects.toMatchObject({ code: "NOT_FOUND" });
    for (const id of ["", "x", "1.5", "9223372036854775808"])
      await expect(told(test, "offices", id)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  });
});

interface Statement {
  readonly text: string;
  readonly parameters: unknown[];
}

/** The same context, whose statements on one side are noted. */
function listening(context: Context, side: "source" | "target", statements: Statement[]): Context {
  const noted = context[side];
  const unsafe = (...args: Parameters<Sql["unsafe"]>) => {
    statements.push({ text: args[0], parameters: [...(args[1] ?? [])] });
    return noted.unsafe(...args);
  };
  const get = (sql: Sql, name: string | symbol): unknown => (name === "unsafe" ? unsafe : Reflect.get(sql, name));
  return { ...context, [side]: new Proxy(noted, { get }) };
}

interface Node {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Index Cond"?: string;
  readonly Plans?: readonly Node[];
}

/** Tables that a statement reads otherwise than by a condition on an index, where it has the choice. */
async function walked(db: AdminSql, { text, parameters }: Statement): Promise<string[]> {
  const plan = await db.begin(async (tx) => {
    await tx`set local enable_seqscan = off`;
    return tx.unsafe<{ "QUERY PLAN": unknown }[]>(`explain (format json) ${text}`, parameters as never[]);
  });
  const found: string[] = [];
  const look = (node: Node) => {
    const index = node["Index Name"];
    const table = node["Relation Name"];
    // A bitmap of a heap is as good as that of its index, which is a node of its own.
    const reads = index !== undefined || (table !== undefined && node["Node Type"] !== "Bitmap Heap Scan");
    if (reads && node["Index Cond"] === undefined) found.push(`${node["Node Type"]} of ${index ?? table ?? ""}`);
    node.Plans?.forEach(look);
  };
  const said = plan[0]?.["QUERY PLAN"];
  const [{ Plan }] = (typeof said === "string" ? JSON.parse(said) : said) as [{ Plan: Node }];
  look(Plan);
  return found;
}
