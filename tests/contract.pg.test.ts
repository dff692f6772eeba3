import { describe, expect, it } from "vitest";
import { IsthmusError } from "../shared/errors.ts";
import { checkContract } from "../shared/contract/check-contract.ts";
import { acknowledge } from "../shared/contract/check.ts";
import { start as startSync } from "../shared/plan/start.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const alerts = (test: Pipeline) => test.target.admin<
  { kind: string; entity: string; severity: string; open: boolean; occurrences: number; codes: string[] }[]
>`
  select a.kind, e.entity_type as entity, a.severity, a.closed_at is null as open, a.occurrences,
         array(select f ->> 'code' from jsonb_array_elements(a.details -> 'findings') f) as codes
    from public.sync_alerts a join public.sync_entities e on e.id = a.entity_id where a.kind like 'contract%' order by 1, 2`;

const refusal = async (work: Promise<unknown>) => {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof IsthmusError)) throw new Error("was not refused");
  const findings = error.detail["findings"] as { code: string; entity: string; message: string; remedy: string }[];
  return { code: error.code, message: error.message, findings };
};

const executions = async (test: Pipeline) => (await test.target.admin`select from public.sync_executions`).length;

/** The context with every statement to both databases written down. */
function listening(context: Context): { context: Context; statements: string[] } {
  const statements: string[] = [];
  const spy = (db: Context["source"]) =>
    new Proxy(db, {
      get: (real, name) => {
        const value = Reflect.get(real, name) as unknown;
        if (name !== "unsafe") return value;
        return (text: string, parameters?: never[]) => {
          statements.push(text);
          return real.unsafe(text, parameters);
        };
      },
    });
  return { context: { ...context, source: spy(context.source), target: spy(context.target) }, statements };
}

describe("an entity that a catalog does not fit any more", () => {
  it("is left out alone, is named in the answer, the report and an alert, and runs again when it is mended", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.seed.office(2);
    await test.seed.office(3);
    await test.seed.operation(1);
    await test.sync();
    await test.source.admin`alter table dispatch_operation rename column card_brand to brand`;
    await test.source.admin`update dispatch_office set name = 'Moved' where id = 1`;

    const begun = await test.sync({ entities: ["offices", "operations"] });
    expect(begun.entities).toEqual(["offices"]);
    expect(begun.paused).toMatchObject([
      {
        entity: "operations",
        findings: [
          { code: "source_column_missing", column: "card_brand" },
          { code: "source_column_new", column: "brand" },
        ],
      },
    ]);
    const [office] = await test.target.admin<{ name: string }[]>`select name from public.offices where legacy_office_id = 1`;
    expect(office?.name).toBe("Moved");
    const [report] = await test.target.admin<
      { paused: { entity: string }[] }[]
    >`select body -> 'paused' as paused from public.sync_reports where execution_id = ${begun.execution} and kind = 'contract'`;
    expect(report?.paused.map(({ entity }) => entity)).toEqual(["operations"]);
    const [ended] = await test.target.admin`select status, errors from public.sync_executions where id = ${begun.execution}`;
    expect(ended).toMatchObject({ status: "incomplete", errors: [{ code: "ENTITY_LEFT_OUT", entity: "operations" }] });
    const broken = { kind: "contract_broken", entity: "operations", severity: "critical" };
    expect([...(await alerts(test))]).toMatchObject([{ ...broken, open: true, occurrences: 1 }]);

    await test.sync({ entities: ["offices", "operations"] });
    expect([...(await alerts(test))]).toMatchObject([{ ...broken, open: true, occurrences: 2 }]);
    await test.source.admin`alter table dispatch_operation rename column brand to card_brand`;
    const mended = await test.sync({ entities: ["offices", "operations"] });
    expect(mended.paused).toEqual([]);
    const [whole] = await test.target.admin`select status, errors from public.sync_executions where id = ${mended.execution}`;
    expect(whole).toEqual({ status: "succeeded", errors: null });
    expect([...(await alerts(test))]).toMatchObject([{ ...broken, open: false }]);
  });

  it("is refused where nothing else was asked for, with its findings, and nothing is begun", async () => {
    await using test = await createPipeline();
    await test.target.admin`alter table public.operations alter card_last set not null, add column batch text not null`;
    await test.target.admin`alter table public.operations drop column card_brand`;
    const { code, message, findings } = await refusal(test.start({ entities: ["operations"] }));
    expect(code).toBe("CONTRACT_BROKEN");
    expect(message).toContain("public.operations has no column card_brand.");
    expect(findings.map((finding) => finding.code)).toEqual(["target_column_missing", "target_column_required"]);
    expect(await executions(test)).toBe(0);
    expect((await alerts(test)).length).toBe(1);
    expect((await test.start({ entities: ["offices"] })).entities).toEqual(["offices"]);
  });

  it("leaves its children running: their records wait for parents that have not landed", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.seed.patient(1, { userId: 10, officeId: 1, status: 1 });
    await test.target.admin`alter table public.offices drop constraint offices_legacy_office_id_key`;
    const begun = await test.sync();
    expect(begun.paused).toMatchObject([
      { entity: "offices", findings: [{ code: "target_legacy_key_not_unique", severity: "fatal" }, {}] },
    ]);
    expect(begun.entities).toContain("patients");
    expect(await test.live("patients")).toMatchObject([{ state: "waiting", parent: "offices", parentId: 1 }]);

    await test.target.admin`alter table public.offices add unique (legacy_office_id)`;
    await test.sync();
    expect(await test.live("patients")).toEqual([]);
  });

  it("is not read by a release either, while others are", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.seed.operation(1);
    await test.sync({ entities: ["offices", "operations"] });
    await test.target.admin`insert into public.sync_pending_keys (entity_id, legacy_id, reason)
      select id, 1, 'test' from public.sync_entities where entity_type in ('offices', 'operations')`;
    await test.source.admin`alter table dispatch_office rename column name to title`;
    expect((await tick(test.context)).released).toEqual(["operations"]);
    await test.drain();
    expect((await tick(test.context)).released).toEqual([]);
    await test.source.admin`alter table dispatch_office rename column title to name`;
    expect((await tick(test.context)).released).toEqual(["offices"]);
  });
});

describe("what the catalogs say", () => {
  it.each<[string, string, "source" | "target", string, RegExp]>([
    [
      "source_not_readable",
      "operations",
      "source",
      "revoke select on dispatch_operation from isthmus_reader",
      /grant select \("xmin", "ctid", "id", .*\) on public\."dispatch_operation"/,
    ],
    ["source_rows_hidden", "operations", "source", "alter table dispatch_operation enable row level security", /bypassrls/],
    // Whether its key repeats, its rows would have to be asked.
    [
      "source_rows_hidden",
      "operations",
      "source",
      "create table more () inherits (dispatch_operation); alter table dispatch_operation enable row level security",
      /bypassrls/,
    ],
    [
      "source_column_type",
      "operations",
      "source",
      "alter table dispatch_operation alter type type text using type::text",
      /schema:types/,
    ],
    ["source_table_missing", "operations", "source", "alter table dispatch_operation rename to operation", /Restore/],
    [
      "source_table_missing",
      "operations",
      "source",
      'create schema "Sales"; alter table dispatch_operation set schema "Sales"',
      /alter table "Sales"."?dispatch_operation"? set schema public/,
    ],
    [
      "target_table_missing",
      "operations",
      "target",
      "create schema sales; alter table public.operations set schema sales",
      /alter table "?sales"?."?operations"? set schema public/,
    ],
    [
      "target_grant_missing",
      "operations",
      "target",
      "revoke update (card_last) on public.operations from isthmus_worker",
      /grant select/,
    ],
    [
      "target_primary_key",
      "operations",
      "target",
      "alter table public.operations drop constraint operations_pkey",
      /primary key/,
    ],
    [
      "target_column_generated",
      "operations",
      "target",
      "alter table public.operations drop column attempts, add column attempts integer generated always as (1) stored",
      /ordinary/,
    ],
    [
      "target_foreign_key_elsewhere",
      "operations",
      "target",
      "alter table public.operations drop constraint operations_payment_id_fkey, add foreign key (payment_id) references public.orders",
      /foreign key/,
    ],
    ["target_column_type", "operations", "target", "alter table public.operations alter amount type integer using 0", /type/],
    [
      "target_enum_member_missing",
      "operations",
      "target",
      "alter type public.operation_type rename value 'refund' to 'refunded'",
      /alter type .*add value 'refund'/,
    ],
  ])("tells %s of %s", async (code, entity, side, statement, remedy) => {
    await using test = await createPipeline();
    await test[side].admin.unsafe(statement);
    const { findings } = await refusal(test.start({ entities: [entity] }));
    expect(findings.map((finding) => finding.code)).toContain(code);
    expect(findings.find((finding) => finding.code === code)?.remedy).toMatch(remedy);
    // What it does about it, an operator can run.
    const cure = findings.find((finding) => finding.code === code)?.remedy ?? "";
    if (/^(alter|grant|revoke)/.test(cure)) {
      for (const sql of cure.split(/(?<=;) /)) await test[side].admin.unsafe(sql);
      expect((await test.start({ entities: [entity] })).entities).toEqual([entity]);
    }
  });

  it("is asked for as the source role: a statement that the source would refuse pauses its entity, unseen by names", async () => {
    await using test = await createPipeline();
    const operations = test.context.entities.get("operations");
    if (!operations) throw new Error("no such entity");
    const where = "no_such_function(o.id)".replace("o.", `${operations.source.alias}.`);
    const entities = new Map([["operations", { ...operations, source: { ...operations.source, where } }]]);
    const context = { ...test.context, entities };
    await test.start({ entities: ["offices"] });
    const { findings } = await checkContract(context, 1, { fresh: true });
    expect(findings).toMatchObject([
      {
        code: "source_refused",
        entity: "operations",
        message: expect.stringContaining("(SQLSTATE 42883 at no_such_function)") as string,
      },
    ]);
    expect((await checkContract(test.context, 1, { fresh: true })).findings).toEqual([]);
  });

  it("of a statement that the source refuses is asked again at each start, because no catalog tells when that ends", async () => {
    await using test = await createPipeline();
    const operations = test.context.entities.get("operations");
    if (!operations) throw new Error("no such entity");
    const entities = new Map([
      ["operations", { ...operations, source: { ...operations.source, where: `public.wanted(${operations.source.alias}.id)` } }],
    ]);
    const context = { ...test.context, entities };
    const start = () => startSync(context, { triggeredBy: "http:test", entities: ["operations"] });
    await expect(start()).rejects.toMatchObject({ code: "CONTRACT_BROKEN" });
    await test.source.admin.unsafe(
      "create function public.wanted(integer) returns boolean language sql immutable as 'select true'",
    );
    expect(await start()).toMatchObject({ paused: [] });
  });

  it("is compared once: while nothing changes, a start costs one statement per side", async () => {
    await using test = await createPipeline();
    await test.start();
    const { context, statements } = listening(test.context);
    expect(await checkContract(context, 1)).toMatchObject({ compared: false, findings: [] });
    expect(statements).toHaveLength(2);
    expect(statements.filter((text) => text.includes("sync_contract_checks"))).toHaveLength(1);
    const row = () =>
      test.target.admin`select source_fingerprint, target_fingerprint, checked_at from public.sync_contract_checks`;
    const before = [...(await row())];

    // Neither reads nor writes of rows change a catalog.
    await test.seed.office(1);
    await test.seed.office(2);
    expect((await checkContract(test.context, 1)).compared).toBe(false);
    expect([...(await row())]).toEqual(before);

    await test.source.admin`alter table dispatch_office add column fax text`;
    expect((await checkContract(test.context, 1)).compared).toBe(true);
    expect((await checkContract(test.context, 1)).compared).toBe(false);
    await test.target.admin`alter table public.offices alter name drop not null`;
    expect((await checkContract(test.context, 1)).compared).toBe(true);
    const other = { ...test.context, hashes: new Map([...test.context.hashes, ["offices", "another definition"]]) };
    expect((await checkContract(other, 1)).compared).toBe(true);
  });

  it("asks the source about the entities of the start, of each once while its catalog stays the same", async () => {
    await using test = await createPipeline();
    const explained = async (...names: readonly string[]) => {
      const { context, statements } = listening(test.context);
      const requested = names.flatMap((name) => test.context.entities.get(name) ?? []);
      const { findings } = await checkContract(context, 1, { requested });
      return [statements.filter((text) => text.startsWith("explain")).length > 0, findings.map(({ code }) => code)];
    };
    await test.start({ entities: ["offices"] });
    expect(await explained("offices")).toEqual([false, []]);
    expect(await explained("offices", "operations")).toEqual([true, []]);
    expect(await explained("operations")).toEqual([false, []]);
    // Another catalog of the target changes nothing of what the source has answered.
    await test.target.admin`alter table public.offices alter name drop not null`;
    expect(await explained("offices", "operations")).toEqual([false, []]);
    await test.source.admin`alter table dispatch_office add column fax text`;
    expect(await explained("offices")).toEqual([true, ["source_column_new"]]);
    // What a key's rows have answered is asked again while it stands.
    await test.source.admin`alter table public.dispatch_operation drop constraint dispatch_operation_pkey cascade`;
    await test.source.admin`insert into public.dispatch_operation (id, type) values (1, 1), (1, 1)`;
    expect((await explained("operations"))[1]).toContain("source_key_repeated");
    await test.source.admin`delete from public.dispatch_operation`;
    expect((await explained("operations"))[1]).not.toContain("source_key_repeated");
  });

  it("warns of a column that the source got while the sync runs, once, by its name", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync({ entities: ["offices"] });
    await test.source.admin`alter table dispatch_office add column fax text`;
    const begun = await test.sync({ entities: ["offices"] });
    expect(begun).toMatchObject({ paused: [], warnings: [{ code: "source_column_new", entity: "offices", column: "fax" }] });
    const warning = { kind: "contract_warning", entity: "offices", severity: "warning", codes: ["source_column_new"] };
    expect([...(await alerts(test))]).toMatchObject([{ ...warning, occurrences: 1 }]);
    // It stays in every answer and report; the alert, once closed, does not come back for the same column.
    await test.target.admin`update public.sync_alerts set closed_at = now()`;
    expect((await test.sync({ entities: ["offices"] })).warnings).toHaveLength(1);
    expect([...(await alerts(test))]).toMatchObject([{ ...warning, open: false }]);
    await test.source.admin`alter table dispatch_office add column telex text`;
    await test.sync({ entities: ["offices"] });
    // So soon after, it is the same alert.
    expect([...(await alerts(test))]).toMatchObject([{ ...warning, open: true, occurrences: 2 }]);
  });

  it("warns of a column of a table that is only joined, once, by the first entity that reads it", async () => {
    await using test = await createPipeline();
    await test.source.admin`alter table dispatch_doctorsetting add column pager text`;
    const warning = { code: "source_column_new", entity: "doctors", table: "dispatch_doctorsetting", column: "pager" };
    expect((await test.sync({ entities: ["doctors", "profiles"] })).warnings).toMatchObject([warning]);
    expect((await test.sync({ entities: ["doctors", "profiles"] })).warnings).toMatchObject([warning]);
    expect([...(await alerts(test))]).toMatchObject([{ kind: "contract_warning", entity: "doctors", occurrences: 1 }]);
  });
});

describe("what a write to the target sets off", () => {
  const WEBHOOK = `
    create schema supabase_functions;
    create function supabase_functions.http_request() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger send_mail after insert on public.offices for each row
      execute function supabase_functions.http_request('https://mail.example/hook', 'POST', '{"authorization": "secret"}');
    create publication supabase_realtime for table public.offices`;

  it("stops the first execution until it is acknowledged, and nothing is written", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.seed.office(2);
    await test.target.admin.unsafe(WEBHOOK);
    const { code, message, findings } = await refusal(test.start({ entities: ["offices"] }));
    expect(code).toBe("SIDE_EFFECTS_UNACKNOWLEDGED");
    expect(message).toContain("webhook send_mail on offices: after insert, for each row: supabase_functions.http_request");
    expect(message).toContain("publication supabase_realtime on offices: Realtime sends every insert, update, delete.");
    expect(JSON.stringify(findings)).not.toMatch(/mail\.example|secret/);
    expect(findings[0]?.remedy).toContain("npm run sync -- acknowledge offices");
    expect(await executions(test)).toBe(0);
    expect((await test.target.admin`select from public.offices`).length).toBe(0);
    expect([...(await alerts(test))]).toMatchObject([
      { kind: "contract_broken", entity: "offices", codes: ["side_effect", "side_effect"] },
    ]);

    const { acknowledged } = await acknowledge(test.context, ["offices"], "ada");
    expect(acknowledged.map(({ kind, name }) => [kind, name])).toEqual([
      ["publication", "supabase_realtime"],
      ["webhook", "send_mail"],
    ]);
    await test.sync({ entities: ["offices"] });
    expect((await test.target.admin`select from public.offices`).length).toBe(2);
  });

  it("is acknowledged by a row that somebody edits, which is stamped; a changed effect has to be acknowledged again", async () => {
    await using test = await createPipeline();
    await test.target.admin.unsafe(WEBHOOK);
    await refusal(test.start({ entities: ["offices"] }));
    await test.target.admin`update public.sync_side_effects set acknowledged_at = now() where acknowledged_at is null`;
    const [row] = await test.target.admin<
      { by: string }[]
    >`select acknowledged_by as by from public.sync_side_effects where kind = 'webhook'`;
    expect(row?.by).toBe("supabase_admin");
    expect((await test.start({ entities: ["offices"] })).entities).toEqual(["offices"]);
    await test.drain();

    await test.target.admin`delete from public.sync_checkpoints where entity_type = 'offices'`;
    await test.target.admin.unsafe(
      "create or replace function supabase_functions.http_request() returns trigger language plpgsql as $$ begin perform 1; return new; end $$",
    );
    expect(await refusal(test.start({ entities: ["offices"] }))).toMatchObject({
      code: "SIDE_EFFECTS_UNACKNOWLEDGED",
      findings: [{ message: expect.stringContaining("send_mail") as string }],
    });
    // A row that was deleted acknowledges nothing.
    await acknowledge(test.context, undefined, "ada");
    await test.target.admin`delete from public.sync_side_effects where kind = 'webhook'`;
    expect((await refusal(test.start({ entities: ["offices"] }))).code).toBe("SIDE_EFFECTS_UNACKNOWLEDGED");
  });

  it("is a warning and an alert when it is new after the first load, and the entity runs on", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync({ entities: ["offices"] });
    await test.target.admin`create publication everything for all tables`;
    const begun = await test.sync({ entities: ["offices"] });
    expect(begun).toMatchObject({ entities: ["offices"], paused: [], warnings: [{ code: "side_effect", entity: "offices" }] });
    expect(begun.warnings[0]?.message).toContain("the publication covers all tables");
    expect([...(await alerts(test))]).toMatchObject([{ kind: "contract_warning", entity: "offices", codes: ["side_effect"] }]);
    // Another entity's first load is stopped by it.
    expect((await refusal(test.start({ entities: ["operations"] }))).code).toBe("SIDE_EFFECTS_UNACKNOWLEDGED");
  });

  it("is the fixture's own triggers too, which its platform has acknowledged, and not a disabled one", async () => {
    await using test = await createPipeline();
    await test.target.admin`update public.sync_side_effects set acknowledged_at = null where table_name = 'offices'`;
    const { findings } = await refusal(test.start({ entities: ["offices"] }));
    expect(findings.map(({ message }) => message)).toEqual([
      "trigger touch_updated_at on offices: before update, for each row: public.touch_updated_at.",
    ]);
    await test.target.admin`alter table public.offices disable trigger touch_updated_at`;
    expect((await test.start({ entities: ["offices"] })).entities).toEqual(["offices"]);
  });
});

describe("a foreign key of the target to a table that no entity feeds", () => {
  it("keeps the entity out while that table is empty, and is told alone when it has rows", async () => {
    await using test = await createPipeline();
    await test.target.admin.unsafe(`
      create schema auth_of_test; create table auth_of_test.users (id uuid primary key, mail text unique);
      alter table public.offices add constraint offices_user foreign key (id) references auth_of_test.users (id)`);
    await test.seed.office(1);
    const { code, findings } = await refusal(test.start({ entities: ["offices"] }));
    expect([code, findings.map((finding) => finding.code)]).toEqual(["CONTRACT_BROKEN", ["target_reference_unfed"]]);
    expect(findings[0]?.message).toContain("offices.id refers to auth_of_test.users, which no entity feeds");
    await test.target.admin`insert into auth_of_test.users (id) values (gen_random_uuid())`;
    await test.sync({ entities: ["offices"] });
    expect(await test.live("offices")).toMatchObject([{ id: 1, rule: "offices_user" }]);
    expect([...(await alerts(test))].filter(({ open }) => open)).toMatchObject([
      { kind: "contract_warning", codes: ["target_reference_unfed"] },
    ]);
  });
});
