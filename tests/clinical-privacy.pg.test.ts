import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { unknownCode } from "../shared/entity/fields.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { sensitiveColumns } from "../shared/entity/sensitive.ts";
import { tick } from "../shared/tick/tick.ts";
import { executionState, latestExecutions } from "../shared/target/execution-state.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import {
  editTarget,
  plantedColumns,
  plantEverywhere,
  plantIn,
  plantSecrets,
  SECRET,
  showsMarker,
} from "./support/private-markers.ts";
import { planned } from "./support/plan.ts";
import { testServer } from "./support/servers.ts";

/** What may hold values: nobody is granted to read them (tests/row-level-security.pg.test.ts). */
const PRIVATE = ["sync_conflict_values", "sync_planned_records", "sync_row_states"];
const sensitive = registry.filter((entity) => Object.values(entity.fields).some((field) => field.sensitive));
const MISSING = 2_000_000_000;

/** What becomes of one record of each entity, by its legacy id. */
interface Fates {
  readonly overwritten: string;
  readonly refused: string;
  readonly parked: string;
  readonly unknown: string;
  readonly waiting: string;
}
const fates = new Map<string, Fates>();

/** The entity with a rule that warns of every record, one that parks one, and a code that it does not know in a sensitive column. */
function watched(entity: Entity): Entity {
  const hidden = sensitiveColumns(entity);
  const [name, field] =
    Object.entries(entity.fields).find(([, one]) => one.sensitive && one.columns.every((column) => hidden.has(column))) ?? [];
  const column = field?.columns[0] ?? "";
  if (name === undefined || !field) throw new Error(`${entity.name} has no sensitive field of its own`);
  const decide: typeof field.decide = (row, landedAs) =>
    row["_key"] === fates.get(entity.name)?.unknown
      ? unknownCode(entity.name, column, row[column] ?? null)
      : field.decide(row, landedAs);
  const rule = { version: 1, fields: [name], remedy: "A test." } as const;
  return {
    ...entity,
    fields: { ...entity.fields, [name]: { ...field, decide } },
    rules: [
      ...entity.rules,
      { ...rule, id: "always_warns", severity: "warn", holds: () => false },
      {
        ...rule,
        id: "parks_one",
        severity: "park",
        holds: (record) => record[entity.target.legacyKey] !== fates.get(entity.name)?.parked,
      },
    ],
  };
}

/** A reference of the record's own row that can be broken, and still it is a record. */
function breakable(entity: Entity): string | undefined {
  const { alias, key, columns, joins } = entity.source;
  const needed = Object.values(joins).flatMap((join) => (join.required === true ? Object.values(join.on) : []));
  return Object.values(entity.fields)
    .filter((field) => field.parent !== undefined)
    .map((field) => columns[field.columns[0] ?? ""])
    .filter((origin) => typeof origin === "string")
    .find((origin) => origin.startsWith(`${alias}.`) && origin !== `${alias}.${key}` && !needed.includes(origin))
    ?.split(".")[1];
}

describe("values of sensitive columns", () => {
  let test: InProcess;
  let logFrom = 0;
  let serverLog = "";
  const said: string[] = [];
  /** Tables of the sync in which a value was seen, before a plan reports or in the end. */
  const showing = new Set<string>();
  let looked = 0;
  /** Columns of the source that never leave it, `table.column`. */
  let secrets: string[] = [];

  beforeAll(async () => {
    serverLog = (await testServer()).log;
    logFrom = readFileSync(serverLog, "utf8").length;
    const entities = registry.map((entity) => (sensitive.includes(entity) ? watched(entity) : entity));
    const onMessage = (message: unknown) => said.push(JSON.stringify(message));
    test = await createInProcess({ scale: 0.05, entities, onLog: (line) => said.push(line), onMessage });
    const source = test.source.admin;
    secrets = await plantSecrets(source);
    for (const entity of sensitive) await plantEverywhere(source, await plantedColumns(source, entity, "a"));
    await run();
    for (const entity of sensitive) fates.set(entity.name, await chooseFates(entity));
    await refuseSome();
    for (const entity of sensitive) await drive(entity);
    const { execution } = await planned(test, {}, look);
    expect(showing).toContain("sync_planned_records");
    said.push(JSON.stringify(await executionState(test.context.target, execution)));
    await run();
    said.push(JSON.stringify(await tick(test.context)), JSON.stringify(await test.drain()));
    said.push(JSON.stringify(await latestExecutions(test.context.target, 20)));
  });
  afterAll(() => test[Symbol.asyncDispose]());

  /** What sync-trigger and sync-page answer is said too. */
  async function run(): Promise<void> {
    const begun = await test.start();
    const outcomes = await test.drain();
    const state = await executionState(test.context.target, begun.execution);
    expect(state).toMatchObject({ status: "succeeded" });
    said.push(JSON.stringify([begun, outcomes, state]));
  }

  async function look(): Promise<void> {
    const { admin } = test.target;
    const tables = await admin<{ name: string }[]>`
      select relname as name from pg_class
       where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and (relname like 'sync\_%' or relname like 'uuid\_%')`;
    for (const { name } of tables) {
      const rows = await admin.unsafe<{ text: string }[]>(`select t::text as text from public."${name}" t`);
      if (rows.some(({ text }) => showsMarker(text))) showing.add(name);
    }
    looked = tables.length;
  }

  /** Tables of the target, the application's and the sync's, in which a secret stands, and how many were searched. */
  async function tablesWithSecrets(): Promise<{ searched: number; found: string[] }> {
    const { admin } = test.target;
    const tables = await admin<{ name: string }[]>`
      select format('%I.%I', nspname, relname) as name from pg_class join pg_namespace n on n.oid = relnamespace
       where relkind in ('r', 'p', 'm') and nspname not in ('pg_catalog', 'information_schema', 'pg_toast')`;
    const found: string[] = [];
    for (const { name } of tables) {
      const [row] = await admin.unsafe<{ held: boolean }[]>(
        `select exists (select from ${name} t where position('${SECRET}' in t::text) > 0) as held`,
      );
      if (row?.held === true) found.push(name);
    }
    return { searched: tables.length, found };
  }

  async function chooseFates(entity: Entity): Promise<Fates> {
    const { table, legacyKey } = entity.target;
    const [column] = Object.entries(entity.fields).find(([, field]) => field.sensitive) ?? [];
    const rows = await test.target.admin.unsafe<{ id: string }[]>(
      `select "${legacyKey}"::text as id from public."${table}" where "${column ?? ""}" is not null order by "${legacyKey}" limit 5`,
    );
    const [overwritten, refused, parked, unknown, waiting] = rows.map(({ id }) => id);
    if (!overwritten || !refused || !parked || !unknown || !waiting) throw new Error(`too few ${entity.name} have landed`);
    return { overwritten, refused, parked, unknown, waiting };
  }

  /** The application refuses one record of each table, and says aloud what is in it. */
  async function refuseSome(): Promise<void> {
    for (const { name, target } of sensitive)
      await test.target.admin.unsafe(`
        create function public.refuse_${name}() returns trigger language plpgsql as $$
        begin
          if new."${target.legacyKey}" = ${fates.get(name)?.refused ?? ""} then
            raise exception 'refused: %', new using detail = new::text, hint = new::text;
          end if;
          return new;
        end $$;
        create trigger refuse before update on public."${target.table}" for each row execute function public.refuse_${name}()`);
  }

  async function drive(entity: Entity): Promise<void> {
    const fate = fates.get(entity.name);
    if (!fate) throw new Error("no fate");
    await editTarget(test.target.admin, entity, fate.overwritten);
    const changed = await plantedColumns(test.source.admin, entity, "b");
    for (const legacyId of Object.values(fate) as string[]) await plantIn(test.source.admin, changed, legacyId);
    const reference = breakable(entity);
    if (reference === undefined) return;
    await test.source.admin.begin(async (tx) => {
      await tx`set local session_replication_role = replica`;
      await tx`update ${tx(`public.${entity.source.table}`)} set ${tx(reference)} = ${MISSING}
                where ${tx(entity.source.key)} = ${fate.waiting}`;
    });
  }

  it.each(sensitive)("of $name have been through the queue, the waiting room, an overwriting and a warning", async (entity) => {
    const { name } = entity;
    const fate = fates.get(name);
    const { admin } = test.target;
    const queue = await admin<{ id: string; state: string; rule: string; data: string }[]>`
      select source_record_id::text as id, state::text, rule, conflict_data::text as data
        from public.sync_conflicts where entity_type = ${name}`;
    const of = (id = "") => queue.filter((one) => one.id === id).map(({ state, rule }) => `${state} ${rule}`);
    expect(of(fate?.refused)).toContain("open P0001");
    expect(of(fate?.parked)).toContain(`open ${name}.parks_one@1`);
    expect(of(fate?.overwritten)).toContain("resolved both_changed");
    if (breakable(entity) !== undefined) expect(of(fate?.waiting)).toContain("waiting parent_missing@1");
    const unknown = queue.find((one) => one.id === fate?.unknown && one.rule.endsWith("known_code@1"));
    expect(JSON.parse(unknown?.data ?? "{}")).toMatchObject({ raw: "•••" });
    const [warned] = await admin<{ n: number }[]>`
      select count(*)::integer as n from public.sync_warnings where rule = ${`${name}.always_warns@1`}`;
    expect(warned?.n).toBeGreaterThan(3);
    const [kept] = await admin<{ held: string }[]>`
      select v.target::text as held from public.sync_conflict_values v join public.sync_conflicts c on c.id = v.conflict_id
       where c.entity_type = ${name} and c.source_record_id = ${fate?.overwritten ?? ""}`;
    expect(showsMarker(kept?.held ?? "")).toBe(true);
  });

  it("are in the tables that nobody but the database's owner can read, and in no other table of the sync", async () => {
    await look();
    expect(looked).toBeGreaterThan(15);
    expect([...showing].sort()).toEqual(PRIVATE);
  });

  it("are in nothing that the functions log or answer", () => {
    expect(said.length).toBeGreaterThan(4);
    expect(said.filter(showsMarker)).toEqual([]);
  });

  it("are not in the server's own log, whatever the application's triggers say", () => {
    const log = readFileSync(serverLog, "utf8").slice(logFrom);
    expect(log.split("\n").filter(showsMarker)).toEqual([]);
  });

  it("of columns that never leave the source are in no table of the target, no message, no log and no answer", async () => {
    expect(secrets).toEqual(["auth_user.password", "dispatch_globalsetting.access_token", "dispatch_operation.card_bin"]);
    const [planted] = await test.source.admin`
      select (select count(*)::integer from public.auth_user where position(${SECRET} in password) > 0) as passwords,
             (select count(*)::integer from public.dispatch_operation where position(${SECRET} in card_bin) > 0) as cards`;
    expect(planted?.["passwords"]).toBeGreaterThan(100);
    expect(planted?.["cards"]).toBeGreaterThan(10);
    const { searched, found } = await tablesWithSecrets();
    expect(searched).toBeGreaterThan(60);
    expect(found).toEqual([]);
    expect(said.some((line) => line.includes('"chain"'))).toBe(true);
    expect(said.filter((line) => line.includes(SECRET))).toEqual([]);
    expect(readFileSync(serverLog, "utf8").slice(logFrom)).not.toContain(SECRET);
  });
});
