import type { Sql } from "postgres";
import { Random } from "../../../clinic/dataset/random.ts";
import { ident } from "../../../shared/db/ident.ts";
import { denied } from "../../../clinic/denied.ts";
import { validateRegistry } from "../../../shared/entity/validate-registry.ts";
import { IsthmusError } from "../../../shared/errors.ts";
import { acknowledge } from "../../../shared/contract/check.ts";
import { workerGrants } from "../../../shared/operate/grants.ts";
import { tick } from "../../../shared/tick/tick.ts";
import type { BegunExecution } from "../../../shared/plan/begin.ts";
import { setHostile } from "../hostile-settings.ts";
import { createPipeline, type Pipeline } from "../pipeline.ts";
import { drawDdl } from "./ddl.ts";
import { decideSome } from "./decide.ts";
import { compareForecast } from "./forecast.ts";
import { expectedOf, judge, type Edit, type Verdict } from "./oracle.ts";
import type { HostileColumn, HostileReference, HostileSchema, HostileTable } from "./schema.ts";
import { landedRows, openSession, sourceRows, type Rows } from "./sides.ts";
import { entitiesOf, nameOf, sourcePlace, sourceSql, targetSql } from "./tables.ts";
import { attempt, create, describeSchema, exchangeSql, meetingSql, valueSql } from "./writes.ts";

const CAPTURES = ["auto", "xmin", "full", "digest", "modified"] as const;
/** What a start may refuse with, before anything is written. */
const REFUSALS = ["CONTRACT_BROKEN", "CAPTURE_IMPOSSIBLE", "SIDE_EFFECTS_UNACKNOWLEDGED"];
/** Records of a table lie on two or three pages; few as they are, any number of them may change. */
const ENV = {
  ISTHMUS_PAGE_SIZE: "6",
  ISTHMUS_PAGE_SIZE_MAX: "8",
  ISTHMUS_CHAINS_PER_ENTITY: "1",
  ISTHMUS_BRAKE_SHARE: "1",
  ISTHMUS_BRAKE_RECORDS: "1000",
};

/** More pages than any of these small executions needs. */
const ENDLESS = 400;
/** Plays a schema's history; what was done is kept in `log`, line by line. */
export class Player implements AsyncDisposable {
  readonly schema: HostileSchema;
  readonly log: string[] = [];
  /** What is wrong whatever the tables say. */
  readonly faults: string[] = [];
  readonly #random: Random;
  readonly #test: Pipeline;
  readonly #there: Sql;
  readonly #here: Sql;
  readonly #edits = new Map<string, Map<string, Map<number, Edit>>>();
  readonly #deleted = new Map<string, Set<string>>();
  /** What the source said when a run looked last. */
  readonly #seen = new Map<string, Rows>();
  /** By entity and `record field`: what the source said when both sides last said the same. */
  readonly #together = new Map<string, Map<string, string | null>>();
  readonly #undo: { readonly side: "source" | "target"; readonly statements: readonly string[] }[] = [];
  #begun: BegunExecution | undefined;
  #drawn = 0;
  readonly #meeting: Random;

  private constructor(schema: HostileSchema, random: Random, test: Pipeline, there: Sql, here: Sql) {
    this.schema = schema;
    this.#random = random;
    this.#meeting = Random.for(schema.seed, "hostile meeting");
    this.#test = test;
    this.#there = there;
    this.#here = here;
  }

  static async open(schema: HostileSchema, random: Random): Promise<Player> {
    const entities = entitiesOf(schema);
    const problems = validateRegistry(entities, denied);
    if (problems.length > 0) throw new Error(`the entities are not valid: ${problems.join(" ")}`);
    const test = await createPipeline({ entities, env: ENV });
    return new Player(schema, random, test, await openSession(test.source), await openSession(test.target));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#there.end({ timeout: 1 }), this.#here.end({ timeout: 1 })]);
    await this.#test[Symbol.asyncDispose]();
  }

  /** The tables, their first rows, and the first load. */
  async begin(): Promise<void> {
    await create(this.log, "source", this.#there, sourceSql(this.schema));
    await create(this.log, "target", this.#here, targetSql(this.schema));
    await this.#here`
      insert into public.sync_jobs (name, schedule_type, cron_expression, configuration) values ('nightly', 'daily', '0 3 * * *', '{"capture": "digest"}')`;
    for (const table of this.schema.tables) for (const id of table.ids) await this.#insert(table, id);
    await this.#grant();
    await setHostile(this.#test, this.schema.settings);
    await acknowledge(this.#test.context, undefined, "a test");
    await this.#run("auto");
  }

  /** Edits and DDL on either side, and an execution. */
  async step(): Promise<void> {
    const random = this.#random;
    await this.#mend();
    for (let n = random.between(1, 4); n > 0; n--) {
      const table = random.pick(this.schema.tables);
      const what = random.next();
      if (what < 0.3) await this.#editSource(table);
      else if (what < 0.42) await this.#insert(table, String(random.between(40, 60)));
      else if (what < 0.48) await this.#deleteFromSource(table);
      else if (what < 0.5) await this.#renumber(table);
      else if (what < 0.58) await this.#exchange(table);
      else if (what < 0.74) await this.#editTarget(table);
      else if (what < 0.79) await this.#deleteFromTarget(table);
      else await this.#ddl(random.chance(0.5) ? "source" : "target", table);
    }
    if (this.#meeting.chance(0.4)) await this.#meet(this.#meeting.pick(this.schema.tables));
    // What changes rows without writing them is what a sync overlooks first.
    if (random.chance(0.6)) await this.#ddl(random.chance(0.5) ? "source" : "target", random.pick(this.schema.tables));
    if (random.chance(0.3)) await decideSome(this.#here, random, this.log, this.faults);
    if (random.chance(0.1)) await setHostile(this.#test, random.between(0, 8));
    const capture = random.pick(CAPTURES);
    const plan = random.chance(0.25) ? await this.#plan(capture) : undefined;
    const ran = await this.#run(capture);
    if (plan !== undefined && ran !== undefined)
      this.faults.push(...(await compareForecast(this.#test.target.admin, this.schema, plan, ran)));
    if (random.chance(0.15)) await this.#tick();
  }

  /** A digest, and what it left. */
  async end(): Promise<Map<HostileTable, Verdict>> {
    // What is left out is told, and nothing else of it is seen.
    if (this.#random.chance(0.8)) await this.#mend(1);
    await acknowledge(this.#test.context, undefined, "a test").catch(() => undefined);
    await this.#tick();
    const execution = await this.#run("digest");
    const verdicts = new Map<HostileTable, Verdict>();
    for (const table of this.schema.tables) {
      const lostOf = (one: HostileTable | undefined) => ({
        leftOut: this.#begun === undefined || this.#begun.paused.some(({ entity }) => entity === one?.entity),
        deleted: this.#deleted.get(one?.entity ?? "") ?? new Set<string>(),
      });
      const told = {
        ...lostOf(table),
        parents: table.references.map(({ parent }) => lostOf(this.schema.tables[parent])),
        edits: this.#edits.get(table.entity) ?? new Map(),
        execution,
      };
      verdicts.set(table, await judge(this.#there, this.#here, this.schema, table, told));
    }
    return verdicts;
  }

  /** The schema and what was done, to read. */
  describe(): string {
    return [describeSchema(this.schema), "history:", ...this.log].join("\n");
  }

  async #run(capture: (typeof CAPTURES)[number]): Promise<string | undefined> {
    this.#begun = await this.#start(capture, false);
    if (!this.#begun) return undefined;
    const { execution, paused } = this.#begun;
    await this.#drain(execution, paused.length > 0);
    for (const table of this.schema.tables) {
      if (paused.some(({ entity }) => entity === table.entity)) continue;
      const rows = await sourceRows(this.#there, table);
      this.#seen.set(table.entity, rows);
      const landed = await this.#landed(table);
      this.#forgetAgreed(table, rows, landed);
      this.#noteTogether(table, rows, landed);
    }
    return execution;
  }

  /** An edit that stays although the source has changed its field was retained, or both say the same: it is not followed any further. */
  #forgetAgreed(table: HostileTable, source: Rows, target: Rows): void {
    for (const [id, fields] of this.#edits.get(table.entity) ?? [])
      for (const [at, edit] of fields)
        if (source.get(id)?.[at] !== edit.seen && target.get(id)?.[at] === edit.wrote) fields.set(at, { ...edit, agreed: true });
  }

  #noteTogether(table: HostileTable, source: Rows, target: Rows): void {
    const together = this.#together.get(table.entity) ?? new Map<string, string | null>();
    this.#together.set(table.entity, together);
    for (const [id, row] of source)
      for (const [at, column] of table.columns.entries())
        if (expectedOf(column, row[at] ?? null) === target.get(id)?.[at]) together.set(`${id} ${at}`, row[at] ?? null);
  }

  async #plan(capture: (typeof CAPTURES)[number]): Promise<string | undefined> {
    const begun = await this.#start(capture, true);
    if (!begun) return undefined;
    await this.#drain(begun.execution, begun.paused.length > 0);
    return begun.execution;
  }

  async #start(capture: (typeof CAPTURES)[number], dryRun: boolean): Promise<BegunExecution | undefined> {
    const said = `${dryRun ? "plan" : "run"} ${capture}`;
    try {
      const begun = await this.#test.start({ capture, ...(dryRun ? { dryRun } : {}) });
      const out = begun.paused.map(({ entity, findings }) => `${entity} (${findings.map(({ code }) => code).join(", ")})`);
      this.log.push(`-- ${said}${out.length > 0 ? `, without ${out.join(", ")}` : ""}`);
      return begun;
    } catch (error) {
      if (!(error instanceof IsthmusError)) this.faults.push(`${said}: ${String(error)}`);
      else if (!REFUSALS.includes(error.code))
        this.faults.push(`${said} is refused: ${error.code} ${error.message} ${JSON.stringify(error.detail)}`);
      this.log.push(`-- ${said} is refused: ${error instanceof IsthmusError ? `${error.code} ${error.message}` : String(error)}`);
      return undefined;
    }
  }

  async #drain(execution: string, incomplete: boolean): Promise<void> {
    await this.#pages();
    const { status, errors } = await this.#test.status(execution);
    if (status !== (incomplete ? "incomplete" : "succeeded"))
      this.faults.push(`an execution is ${status}: ${JSON.stringify(errors)}`);
    for (const error of errors ?? [])
      if (error.entity === undefined) this.faults.push(`an error names no entity: ${JSON.stringify(error)}`);
  }

  async #tick(): Promise<void> {
    this.log.push("-- tick");
    await tick(this.#test.context);
    await this.#pages();
  }

  /** Runs the pages that are due, and those that follow, but not without an end. */
  async #pages(): Promise<void> {
    const last: string[] = [];
    for (let page = 0; this.#test.queue.length > 0; page++) {
      const outcome = await this.#test.runOne();
      if (outcome.outcome === "failed") this.faults.push(`a page failed: ${JSON.stringify(outcome.error)}`);
      last.push(JSON.stringify(outcome));
      if (page >= ENDLESS) throw new Error(`no end after ${page} pages: ${last.slice(-6).join(" ")}`);
    }
  }

  async #insert(table: HostileTable, id: string): Promise<void> {
    const columns = table.columns.filter(({ generated }) => !generated);
    const list = [
      ident(table.key),
      ...columns.map(({ source }) => ident(source)),
      ...table.references.map(({ source }) => ident(source)),
    ];
    const values = [
      id,
      ...columns.map((column) => this.#value("source", column)),
      ...(await Promise.all(table.references.map((reference) => this.#parentOf(reference, table)))),
    ];
    await this.#attempt("source", this.#there, [
      `insert into ${sourcePlace(table, id)} (${list.join(", ")}) values (${values.join(", ")})`,
    ]);
  }

  async #parentOf({ parent, required }: HostileReference, table: HostileTable): Promise<string> {
    const to = this.schema.tables[parent];
    if (!to || this.#random.chance(required ? 0.01 : 0.3)) return "null";
    if (this.#random.chance(0.01)) return "31000";
    const ids = to === table ? to.ids : await this.#ids("source", to);
    return ids.length > 0 ? `'${this.#random.pick(ids)}'` : "null";
  }

  #value(side: "source" | "target", column: HostileColumn): string {
    return valueSql(this.#random, side, column, (this.schema.seed * 1009 + ++this.#drawn) % 2 ** 31);
  }

  async #editSource(table: HostileTable): Promise<void> {
    const ids = await this.#ids("source", table);
    if (ids.length === 0) return;
    for (const id of this.#random.sample(ids, this.#random.between(1, 3))) {
      const columns = this.#random.sample(
        table.columns.filter(({ generated }) => !generated),
        this.#random.between(1, 3),
      );
      const sets = columns.map((column) => `${ident(column.source)} = ${this.#value("source", column)}`);
      for (const reference of table.references.filter(() => this.#random.chance(0.3)))
        sets.push(`${ident(reference.source)} = ${await this.#parentOf(reference, table)}`);
      if (table.modified !== undefined && this.#random.chance(0.8)) sets.push(`${ident(table.modified)} = clock_timestamp()`);
      if (sets.length > 0)
        await this.#attempt("source", this.#there, [
          `update ${nameOf(table.source)} set ${sets.join(", ")} where ${ident(table.key)} = '${id}'`,
        ]);
    }
  }

  async #deleteFromSource(table: HostileTable): Promise<void> {
    const ids = await this.#ids("source", table);
    if (ids.length > 0)
      await this.#attempt("source", this.#there, [
        `delete from ${nameOf(table.source)} where ${ident(table.key)} = '${this.#random.pick(ids)}'`,
      ]);
  }

  /** A record gets another key: to the sync, one that is gone and one that is new. */
  async #renumber(table: HostileTable): Promise<void> {
    const [id] = this.#random.sample(await this.#ids("source", table), 1);
    if (id !== undefined)
      await this.#attempt("source", this.#there, [
        `update ${nameOf(table.source)} set ${ident(table.key)} = ${ident(table.key)} + 200 where ${ident(table.key)} = '${id}'`,
      ]);
  }

  async #exchange(table: HostileTable): Promise<void> {
    const [one, other] = this.#random.sample(await this.#ids("source", table), 2);
    const statement = one !== undefined && other !== undefined ? exchangeSql(table, one, other) : undefined;
    if (statement !== undefined) await this.#attempt("source", this.#there, [statement]);
  }

  async #editTarget(table: HostileTable): Promise<void> {
    const ids = await this.#ids("target", table);
    if (ids.length === 0) return;
    for (const id of this.#random.sample(ids, this.#random.between(1, 2))) {
      const columns = this.#random.sample(table.columns, this.#random.between(1, 2));
      const sets = columns.map((column) => `${ident(column.target)} = ${this.#value("target", column)}`);
      await this.#writeTarget(table, [
        `update ${nameOf(table.target)} set ${sets.join(", ")} where ${ident(table.legacyKey)} = '${id}'`,
      ]);
    }
  }

  async #meet(table: HostileTable): Promise<void> {
    const [id] = this.#meeting.sample(await this.#ids("target", table), 1);
    const both = id === undefined ? undefined : meetingSql(this.#meeting, table, id);
    if (!both) return;
    await this.#writeTarget(table, [both.target]);
    await this.#attempt("source", this.#there, [both.source]);
  }

  async #deleteFromTarget(table: HostileTable): Promise<void> {
    const ids = await this.#ids("target", table);
    if (ids.length > 0)
      await this.#writeTarget(table, [
        `delete from ${nameOf(table.target)} where ${ident(table.legacyKey)} = '${this.#random.pick(ids)}'`,
      ]);
  }

  /** A person writes: what comes of it in any table, actions of foreign keys included, are the person's edits. */
  async #writeTarget(table: HostileTable, statements: readonly string[]): Promise<void> {
    const before = new Map<HostileTable, Rows>();
    for (const one of this.schema.tables) before.set(one, await this.#landed(one));
    await this.#attempt("target", this.#here, statements);
    for (const [one, rows] of before) this.#note(one, rows, await this.#landed(one));
  }

  async #ids(side: "source" | "target", table: HostileTable): Promise<string[]> {
    const sql = side === "source" ? this.#there : this.#here;
    const key = side === "source" ? table.key : table.legacyKey;
    const rows = await sql.unsafe<{ id: string }[]>(`select ${ident(key)}::text as id from ${nameOf(table[side])} order by 1`);
    return rows.map(({ id }) => id);
  }

  #landed(table: HostileTable): Promise<Rows> {
    return landedRows(this.#here, this.schema, table);
  }

  #note({ entity }: HostileTable, before: Rows, after: Rows): void {
    const edits = this.#edits.get(entity) ?? new Map<string, Map<number, Edit>>();
    const deleted = this.#deleted.get(entity) ?? new Set<string>();
    this.#edits.set(entity, edits);
    this.#deleted.set(entity, deleted);
    for (const [id, row] of before) {
      const now = after.get(id);
      if (!now) {
        deleted.add(id);
        // Whoever deletes a row deletes what was edited in it.
        edits.delete(id);
      }
      for (const [at, was] of row.entries()) {
        // Whose parent is gone without a foreign key has not been edited.
        if (!now || now.length === 0 || now[at] === was || now[at] === "nobody" || was === "nobody") continue;
        const fields = edits.get(id) ?? new Map<number, Edit>();
        const seen = this.#seen.get(entity)?.get(id)?.[at] ?? null;
        const together = this.#together.get(entity)?.get(`${id} ${at}`);
        const known = together === undefined ? {} : { together };
        edits.set(id, fields.set(at, { wrote: now[at] ?? null, seen, held: was, ...known }));
      }
    }
  }

  async #ddl(side: "source" | "target", table: HostileTable): Promise<void> {
    const ddl = drawDdl(this.#random, side, this.schema, table);
    if (!ddl) return;
    this.log.push(`-- DDL on the ${side}: ${ddl.name}`);
    const write = () => this.#attempt(side, side === "source" ? this.#there : this.#here, ddl.statements, ddl.alone);
    if (ddl.loads) await this.#writeTarget(table, ddl.statements);
    else await write();
    if (ddl.undo) this.#undo.push({ side, statements: ddl.undo });
    if (side === "target")
      for (const edits of this.#edits.get(table.entity)?.values() ?? [])
        for (const [at, edit] of edits) edits.set(at, { ...edit, disturbed: true });
    await this.#grant();
    if (this.#random.chance(0.8))
      await acknowledge(this.#test.context, undefined, "a test").catch((error: unknown) =>
        this.faults.push(`acknowledge: ${String(error)}`),
      );
  }

  /** Most of what DDL has made impossible is put back. */
  async #mend(share = 0.8): Promise<void> {
    const all = this.#undo.splice(0);
    const now = all.filter(() => this.#random.chance(share));
    this.#undo.push(...all.filter((one) => !now.includes(one)));
    for (const { side, statements } of now) await this.#attempt(side, side === "source" ? this.#there : this.#here, statements);
    if (now.length > 0) await this.#grant();
  }

  /** Rights as the owner gives them, of what is there. */
  async #grant(): Promise<void> {
    for (const table of this.schema.tables) {
      await this.#there.unsafe(`grant select on ${nameOf(table.source)} to isthmus_reader`).catch(() => undefined);
      await this.#here.unsafe(`alter table ${nameOf(table.target)} owner to postgres`).catch(() => undefined);
      const entity = this.#test.context.entities.get(table.entity);
      if (entity) await this.#here.unsafe(workerGrants([entity])).catch(() => undefined);
    }
  }

  #attempt(side: string, sql: Sql, statements: readonly string[], alone = false): Promise<void> {
    return attempt(this.log, side, sql, statements, alone);
  }
}
