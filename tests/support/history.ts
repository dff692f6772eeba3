import postgres, { type Sql } from "postgres";
import type { IsthmusError } from "../../shared/errors.ts";
import type { Context, PageMessage, PageOutcome } from "../../shared/pipeline/types.ts";
import { Gate, gated } from "./gate.ts";
import { KEYS, SESSIONS, type History, type Node, type Stamp, type Step } from "./history-steps.ts";
import type { InProcess } from "./in-process.ts";
import { differenceOf, LegacyModel, nameOf, type Difference, type Name, type Row, type Table } from "./legacy-model.ts";
import { until, type ReplicatedSource } from "./replica.ts";

/** Where a history is played: a source for legacy sessions to write, and the pipeline that reads it. */
export interface Stage {
  readonly test: InProcess;
  /** The legacy application, as the tables' owner. */
  readonly sessions: readonly Sql[];
  readonly replica?: {
    /** The same pipeline, reading the primary. */
    readonly primary: Context;
    readonly lag: Pick<ReplicatedSource, "pause" | "resume" | "caughtUp">;
  };
}

/** How a history may be played. */
export interface Play {
  /** Steps read the node that they name, as behind an address that serves both; else the standby alone. */
  readonly mixedNodes?: boolean;
  /** After the steps the primary is lost, and with it what the replica has not received since the middle of them. */
  readonly failover?: Pick<ReplicatedSource, "cutOff" | "failOver" | "standby">;
}

export interface Played {
  readonly model: LegacyModel;
  /** How both sides differed before the last execution ran, and how they do after it. */
  readonly before: Difference;
  readonly after: Difference;
  /** Records that were seen in the target at any time. */
  readonly landed: ReadonlySet<Name>;
  /** When the history began. */
  readonly since: number;
}

export const ENTITY_OF = { office: "offices", patient: "patients" } as const;
const BOTH = Object.values(ENTITY_OF);

/** A second is enough for what waits for nobody; a session that would wait has not happened. */
const LOCK_TIMEOUT_MS = 4;
/** updated_at of the history's second 0. */
const EPOCH_MS = Date.UTC(2030, 0, 1);
const timeOf = (second: number | null) => (second === null ? null : new Date(EPOCH_MS + second * 1_000).toISOString());
const secondOf = (time: string | null) => (time === null ? null : (Date.parse(time) - EPOCH_MS) / 1_000);

/** Opens the legacy sessions, and makes the users that patients are: no step touches them. */
export async function openStage(test: InProcess, writerUrl: string, replica?: Stage["replica"]): Promise<Stage> {
  const sessions = Array.from({ length: SESSIONS }, () => connection(writerUrl));
  await sessions[0]?.unsafe(`
    insert into public.auth_user (id, username, first_name, last_name, email, password, is_superuser, is_staff, is_active, date_joined)
    select id, 'user ' || id, '', '', '', '', true, false, true, now() from generate_series(1, ${KEYS.length}) id`);
  await replica?.lag.caughtUp();
  await test.sync({ entities: ["profiles"] });
  return { test, sessions, ...(replica ? { replica } : {}) };
}

export async function closeStage({ test, sessions }: Stage): Promise<void> {
  await Promise.allSettled(sessions.map((session) => session.end({ timeout: 1 })));
  await test[Symbol.asyncDispose]();
}

/**
 * Plays a history: puts both sides at its beginning, takes the steps, ends what is open as drawn, runs an execution alone.
 * @throws Error when on the way a record goes back, an execution breaks its promise, or a page fails.
 */
export async function play(stage: Stage, history: History, how: Play = {}): Promise<Played> {
  await using player = new Player(stage, how);
  return await player.play(history);
}

interface Execution {
  readonly entities: readonly string[];
  /** The legacy point in time that its reader showed when it began. */
  readonly began: number;
}

class Player implements AsyncDisposable {
  readonly #stage: Stage;
  readonly #failover: Play["failover"];
  #sessions: readonly Sql[];
  readonly #strict: boolean;
  readonly #mixed: boolean;
  readonly #model = new LegacyModel();
  readonly #executions = new Map<string, Execution>();
  readonly #landed = new Map<Name, number>();
  readonly #sent: PageMessage[] = [];
  #inFlight: Promise<PageOutcome>[] = [];
  #gate: Gate | undefined;
  #version = 0;
  #second = 0;
  /** The point in time that a replica shows which is paused or cut off. */
  #showsAt: number | undefined;
  #cutOffForGood = false;
  #promoted = false;

  constructor(stage: Stage, { mixedNodes = false, failover }: Play) {
    this.#stage = stage;
    this.#failover = failover;
    this.#sessions = stage.sessions;
    this.#mixed = mixedNodes;
    // Behind an address that serves two nodes a later page may show an earlier state; in the end nothing is lost.
    this.#strict = !mixedNodes;
  }

  async play({ landed, steps, ends }: History): Promise<Played> {
    const { test } = this.#stage;
    await this.#reset();
    const since = this.#model.now;
    if (landed) {
      await this.#start(BOTH, "standby");
      await this.#drain();
    }
    const middle = Math.floor(steps.length / 2);
    for (const step of steps.slice(0, middle)) await this.#take(step);
    const lose = await this.#cutOff();
    for (const step of steps.slice(middle)) await this.#take(step);
    await this.#failOver(lose);

    await this.#endAll(ends);
    await this.#take({ do: "resume" });
    await this.#drain();
    const before = await this.#difference();
    await this.#readerIsReady();
    await test.sync({ entities: BOTH });
    await this.#observe();
    return {
      model: this.#model,
      before,
      after: await this.#difference(),
      landed: new Set(this.#landed.keys()),
      since,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#gate?.open();
    await Promise.allSettled(this.#inFlight);
    if (!this.#cutOffForGood) await this.#take({ do: "resume" });
    for (const session of this.#sessions) await session.unsafe("rollback");
    const [first] = this.#sessions;
    const left = await first?.unsafe<{ gid: string }[]>("select gid from pg_prepared_xacts where database = current_database()");
    for (const { gid } of left ?? []) await first?.unsafe(`rollback prepared '${gid}'`);
    if (this.#promoted) await Promise.all(this.#sessions.map((session) => session.end({ timeout: 1 })));
  }

  /**
   * Two offices and three patients in the source, and nothing in the target, which remembers nothing of earlier histories
   * but where they ended. All rows are written anew, so the next execution finds them, whatever it is.
   */
  async #reset(): Promise<void> {
    const { test, replica } = this.#stage;
    test.queue.length = 0;
    const stamp = ++this.#second;
    const version = ++this.#version;
    for (const key of [1, 2]) this.#model.write(0, nameOf("office", key), { version, office: null, stamp: null });
    for (const key of [1, 2, 3]) this.#model.write(0, nameOf("patient", key), { version, office: key === 3 ? null : key, stamp });
    await this.#session(0).unsafe(`
      delete from public.dispatch_patient; delete from public.dispatch_office;
      insert into public.dispatch_office (id, name, valid, emails) select k, 'v${version}', true, true from generate_series(1, 2) k;
      insert into public.dispatch_patient (id, user_id, office_id, sex, suffix, status, archived, suspended, updated_at)
      select k, k, nullif(k, 3), 1, 'v${version}', 1, false, false, '${timeOf(stamp) ?? ""}' from generate_series(1, 3) k`);
    await test.target.admin.unsafe(`
      delete from public.patients; delete from public.offices;
      delete from public.uuid_mappings_enhanced where entity_type in ('offices', 'patients');
      delete from public.sync_row_states where entity_id in (${ENTITY_IDS});
      delete from public.sync_conflicts; delete from public.sync_pending_keys; delete from public.sync_alerts;
      delete from public.sync_page_log; delete from public.sync_reports; delete from public.sync_chains;
      update public.sync_executions set status = 'failed' where status = 'running';
      delete from public.sync_executions e where not exists (select from public.sync_checkpoints k where k.execution_id = e.id);`);
    await replica?.lag.caughtUp();
  }

  async #take(step: Step): Promise<void> {
    switch (step.do) {
      case "begin":
        if (this.#model.inTransaction(step.session)) return;
        await this.#session(step.session).unsafe("begin");
        this.#model.begin(step.session);
        return;
      case "insert":
        return this.#insert(step);
      case "update":
        return this.#update(step);
      case "delete":
        return this.#write(step, `delete from public.${SOURCE[step.table]} where id = ${step.key}`, [], null);
      case "savepoint":
      case "rollback to":
      case "release":
        return this.#savepoint(step.session, step.do);
      case "commit":
      case "rollback":
      case "prepare":
        return this.#end(step.session, step.do);
      case "commit prepared":
      case "rollback prepared": {
        const name = pick(this.#model.prepared, step.nth);
        if (name !== undefined) await this.#endPrepared(name, step.do === "commit prepared");
        return;
      }
      case "vacuum":
        return this.#vacuum(step);
      case "start":
        return this.#start(step.entities, step.node);
      case "page": {
        const [message] = this.#stage.test.queue.splice(step.nth % Math.max(1, this.#stage.test.queue.length), 1);
        if (message) await this.#page(message, step.node);
        return;
      }
      case "page again": {
        const message = pick(this.#sent, step.nth);
        if (message) await this.#page(message, "standby");
        return;
      }
      case "drain":
        return this.#drain();
      case "ask":
        await this.#open();
        return this.#ask(step.table, step.keys);
      case "second chain":
        await this.#open();
        return this.#secondChain(step.table, step.keys);
      case "hold":
        return this.#hold(step.nth, step.statements);
      case "open":
        return this.#open();
      case "pause":
        if (!this.#stage.replica || this.#showsAt !== undefined || this.#promoted) return;
        await this.#stage.replica.lag.caughtUp();
        await this.#stage.replica.lag.pause();
        this.#showsAt = this.#model.now;
        return;
      case "resume":
        if (this.#showsAt === undefined || this.#cutOffForGood) return;
        await this.#stage.replica?.lag.resume();
        this.#showsAt = undefined;
    }
  }

  // The legacy application.

  #session(number: number): Sql {
    const session = this.#sessions[number];
    if (!session) throw new Error(`no session ${number}`);
    return session;
  }

  async #insert(step: Step & { do: "insert" | "update" }): Promise<void> {
    const { table, key } = step;
    const row = this.#row(step, undefined);
    const [text, values] =
      table === "office"
        ? [`insert into public.dispatch_office (id, name, valid, emails) values (${key}, $1, true, true)`, [`v${row.version}`]]
        : [
            `insert into public.dispatch_patient (id, user_id, office_id, sex, suffix, status, archived, suspended, updated_at)
             values (${key}, ${key}, $2::integer, 1, $1, 1, false, false, $3::timestamptz)`,
            [`v${row.version}`, row.office, timeOf(row.stamp)],
          ];
    return this.#write(step, text, values, row, this.#model.sees(step.session, nameOf(table, key)) === undefined);
  }

  async #update(step: Step & { do: "insert" | "update" }): Promise<void> {
    const { table, key } = step;
    const row = this.#row(step, this.#model.sees(step.session, nameOf(table, key)));
    const [text, values] =
      table === "office"
        ? [`update public.dispatch_office set name = $1 where id = ${key}`, [`v${row.version}`]]
        : [
            `update public.dispatch_patient set suffix = $1, office_id = $2::integer, updated_at = $3::timestamptz where id = ${key}`,
            [`v${row.version}`, row.office, timeOf(row.stamp)],
          ];
    return this.#write(step, text, values, row);
  }

  /** The row that a step writes over `old`. Office 0 stands for none. */
  #row({ table, office, stamp }: { table: Table; office: number; stamp: Stamp }, old: Row | undefined): Row {
    const version = ++this.#version;
    if (table === "office") return { version, office: null, stamp: null };
    this.#second += stamp === "future" ? 100 : 1;
    const stamps = { now: this.#second, future: this.#second, bypass: old?.stamp ?? 1, null: null, past: this.#second - 50 };
    if (stamp === "future") this.#second -= 99;
    return { version, office: office === 0 ? null : office, stamp: stamps[stamp] };
  }

  /** Runs a write that changes one row if the session sees it, and in the model what it did. */
  async #write(
    { session, table, key }: { session: number; table: Table; key: number },
    text: string,
    values: (string | number | null)[],
    row: Row | null,
    expected = this.#model.sees(session, nameOf(table, key)) !== undefined,
  ): Promise<void> {
    const count = await this.#happens(session, async () => (await this.#session(session).unsafe(text, values)).count);
    if (count === undefined) return;
    if (count !== (expected ? 1 : 0)) throw new Error(`The oracle is wrong about ${table} ${key}: ${count} rows`);
    if (count === 1) this.#model.write(session, nameOf(table, key), row);
  }

  /**
   * What would wait for another session, or break a constraint, has not happened: back to the last savepoint, or to
   * before the transaction.
   */
  async #happens<Result>(session: number, work: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!NOT_HAPPENED.has((error as { code?: string }).code ?? "")) throw error;
      const savepoints = this.#model.savepoints(session);
      if (savepoints > 0) {
        await this.#session(session).unsafe(`rollback to savepoint s${savepoints}`);
        this.#model.rollbackToSavepoint(session);
      } else if (this.#model.inTransaction(session)) {
        await this.#session(session).unsafe("rollback");
        this.#model.rollback(session);
      }
      return undefined;
    }
  }

  async #savepoint(session: number, what: "savepoint" | "rollback to" | "release"): Promise<void> {
    const savepoints = this.#model.savepoints(session);
    if (!this.#model.inTransaction(session) || (what !== "savepoint" && savepoints === 0)) return;
    const name = `s${what === "savepoint" ? savepoints + 1 : savepoints}`;
    const statement = { savepoint: "savepoint", "rollback to": "rollback to savepoint", release: "release savepoint" }[what];
    await this.#session(session).unsafe(`${statement} ${name}`);
    if (what === "savepoint") this.#model.savepoint(session);
    else if (what === "release") this.#model.releaseSavepoint(session);
    else this.#model.rollbackToSavepoint(session);
  }

  async #end(session: number, how: "commit" | "rollback" | "prepare"): Promise<void> {
    if (!this.#model.inTransaction(session)) return;
    const name = `history ${++transactions}`;
    try {
      await this.#session(session).unsafe(how === "prepare" ? `prepare transaction '${name}'` : how);
    } catch (error) {
      // A deferred foreign key: the transaction is rolled back as a whole.
      if (!NOT_HAPPENED.has((error as { code?: string }).code ?? "")) throw error;
      this.#model.rollback(session);
      return;
    }
    if (how === "prepare") this.#model.prepare(session, name);
    else if (how === "commit") this.#model.commit(session);
    else this.#model.rollback(session);
  }

  async #endPrepared(name: string, commits: boolean): Promise<void> {
    // From a session that has not made it, if one is free.
    const free = this.#sessions.findIndex((_, number) => !this.#model.inTransaction(number));
    if (free < 0) return;
    await this.#session(free).unsafe(`${commits ? "commit" : "rollback"} prepared '${name}'`);
    if (commits) this.#model.commitPrepared(name);
    else this.#model.rollbackPrepared(name);
  }

  async #endAll(ends: readonly boolean[]): Promise<void> {
    await this.#open();
    for (let session = 0; session < SESSIONS; session++) await this.#end(session, ends[session] === true ? "commit" : "rollback");
    for (const [index, name] of this.#model.prepared.entries()) {
      await this.#endPrepared(name, ends[(SESSIONS + index) % ends.length] === true);
    }
  }

  async #vacuum({ how, table }: { how: "" | "full" | "freeze"; table: Table }): Promise<void> {
    const free = this.#sessions.findIndex((_, number) => !this.#model.inTransaction(number));
    if (free < 0) return;
    await this.#happens(free, () => this.#session(free).unsafe(`vacuum ${how === "" ? "" : `(${how})`} public.${SOURCE[table]}`));
  }

  /** From here on the replica receives nothing. @returns what makes the model forget all that it has not received. */
  async #cutOff(): Promise<(() => void) | undefined> {
    if (!this.#failover) return undefined;
    await this.#take({ do: "resume" });
    await this.#failover.cutOff();
    this.#showsAt = this.#model.now;
    this.#cutOffForGood = true;
    return this.#model.received();
  }

  /** The primary is gone with its sessions; new ones write to the replica that takes its place. */
  async #failOver(forget: (() => void) | undefined): Promise<void> {
    if (!this.#failover || !forget) return;
    await this.#open();
    await this.#failover.failOver();
    await Promise.allSettled(this.#sessions.map((session) => session.end({ timeout: 0 })));
    forget();
    const url = this.#failover.standby.superuserUrl("legacy");
    this.#sessions = this.#sessions.map(() => connection(url));
    this.#promoted = true;
    this.#cutOffForGood = false;
    this.#showsAt = undefined;
  }

  // The sync.

  #context(node: Node): Context {
    const { test, replica } = this.#stage;
    return this.#mixed && replica && node === "primary" ? replica.primary : test.context;
  }

  async #start(entities: readonly string[], node: Node): Promise<void> {
    await this.#open();
    await this.#readerIsReady();
    const began = this.#showsAt ?? this.#model.now;
    try {
      const { execution } = await this.#stage.test.start({ entities }, this.#context(node));
      this.#executions.set(execution, { entities, began });
    } catch (error) {
      if (!REFUSALS.has((error as IsthmusError).code)) throw error;
    }
    await this.#observe();
  }

  /** A replica that is not paused is a few milliseconds behind, which no step waits for by itself. */
  async #readerIsReady(): Promise<void> {
    if (this.#showsAt === undefined && !this.#promoted) await this.#stage.replica?.lag.caughtUp();
  }

  async #page(message: PageMessage, node: Node): Promise<void> {
    if (this.#inFlight.length > 1) await this.#open();
    await this.#readerIsReady();
    this.#sent.push(message);
    const page = this.#judged(message, this.#stage.test.run(message, this.#context(node)));
    if (this.#inFlight.length === 0) await page;
    else {
      this.#inFlight.push(page);
      await this.#endsOrWaits(page);
    }
    await this.#observe();
  }

  /** A page beside one that is held ends, or waits for that one's locks. */
  async #endsOrWaits(page: Promise<PageOutcome>): Promise<void> {
    let ended = false;
    const end = () => (ended = true);
    page.then(end, end);
    await until("the page ends or waits", async () => {
      const waiting = await this.#stage.test.target.admin`
        select from pg_stat_activity
         where datname = current_database() and usename = 'isthmus_worker' and wait_event_type = 'Lock'`;
      return ended || waiting.length > 0;
    });
  }

  /** A page may fail only because the replica lags, and its message comes again; or because another server has taken over. */
  async #judged(message: PageMessage, page: Promise<PageOutcome>): Promise<PageOutcome> {
    const outcome = await page;
    if (outcome.outcome !== "failed") return outcome;
    if (this.#promoted && outcome.error.code === "SOURCE_CHANGED") return outcome;
    if (outcome.error.code !== "SOURCE_BEHIND" || outcome.retrySeconds === null)
      throw new Error(`A page failed: ${JSON.stringify(outcome.error)}`);
    this.#stage.test.queue.push(message);
    return outcome;
  }

  async #hold(nth: number, statements: number): Promise<void> {
    await this.#open();
    const { test } = this.#stage;
    const [message] = test.queue.splice(nth % Math.max(1, test.queue.length), 1);
    if (!message) return;
    await this.#readerIsReady();
    this.#sent.push(message);
    const gate = new Gate(statements);
    this.#gate = gate;
    const page = this.#judged(message, test.run(message, gated(test.context, gate)));
    this.#inFlight.push(page);
    await Promise.race([gate.reached, page]);
  }

  async #open(): Promise<void> {
    if (!this.#gate) return;
    this.#gate.open();
    this.#gate = undefined;
    const ended = await Promise.allSettled(this.#inFlight);
    this.#inFlight = [];
    for (const one of ended) if (one.status === "rejected") throw one.reason;
    await this.#observe();
  }

  /** Runs what is queued; what must wait for the replica, once. */
  async #drain(): Promise<void> {
    await this.#open();
    const { queue } = this.#stage.test;
    for (let pages = 0; queue.length > 0; pages++) {
      if (pages > ENDLESS) throw new Error("The queue never empties");
      const waits = queue.length;
      const message = queue.shift();
      if (message) await this.#page(message, "standby");
      if (this.#showsAt !== undefined && queue.length >= waits && queue.at(-1) === message) return;
    }
  }

  async #ask(table: Table, keys: readonly number[]): Promise<void> {
    await this.#stage.test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason)
      select e.id, k, 'history' from public.sync_entities e, unnest(${[...keys]}::bigint[]) k where e.entity_type = ${ENTITY_OF[table]}
      on conflict (entity_id, legacy_id) do update set generation = excluded.generation`;
  }

  /** Explicit keys beside the chains of a running execution, over the same records. */
  async #secondChain(table: Table, keys: readonly number[]): Promise<void> {
    const { target, queue } = this.#stage.test;
    const [chain] = await target.admin<{ execution: string; id: string }[]>`
      insert into public.sync_chains (execution_id, entity_id, capture, state, due_at, definition_hash, page_size)
      select c.execution_id, c.entity_id, 'keys', 'open', now(), c.definition_hash, 2
        from public.sync_chains c join public.sync_entities e on e.id = c.entity_id
       where e.entity_type = ${ENTITY_OF[table]} and c.state = 'open' and c.capture <> 'keys' limit 1
      returning execution_id as execution, id`;
    if (!chain) return;
    await this.#ask(table, keys);
    queue.push({ execution: chain.execution, chain: chain.id, page: 0 });
  }

  // The judgement.

  /** Looks at the target: no record may go back, and an execution that succeeded has found what was committed before it. */
  async #observe(): Promise<void> {
    const seen = await this.#target();
    for (const [name, { version }] of seen.rows) {
      const before = this.#landed.get(name) ?? 0;
      if (this.#strict && version < before) throw new Error(`${name} went back from version ${before} to ${version}`);
      this.#landed.set(name, version);
    }
    for (const { id, status } of seen.ended) {
      const execution = this.#executions.get(id);
      if (!execution) continue;
      this.#executions.delete(id);
      if (status !== "succeeded" && !this.#promoted) throw new Error(`An execution ended as ${status}`);
      if (status === "succeeded" && this.#strict) this.#keptItsPromise(execution, seen);
    }
  }

  #keptItsPromise({ entities, began }: Execution, { rows, waiting }: TargetState): void {
    const deleted = new Set(this.#model.changesSince(began).flatMap(({ name, row }) => (row ? [] : [name])));
    for (const [name, { version }] of this.#model.rows(began)) {
      if (!entities.some((entity) => name.startsWith(entity.slice(0, -1))) || deleted.has(name) || waiting.has(name)) continue;
      const landed = rows.get(name)?.version ?? 0;
      if (landed < version) throw new Error(`${name} is at version ${landed}, but ${version} was committed before the execution`);
    }
  }

  /** How the target differs from what was committed; first of all the oracle from the source itself. */
  async #difference(): Promise<Difference> {
    const committed = this.#model.rows();
    const wrong = differenceOf(committed, await sourceRows(this.#session(0)));
    if (Object.values(wrong).flat().length > 0) throw new Error(`The oracle is wrong: ${JSON.stringify(wrong)}`);
    return differenceOf(committed, (await this.#target()).rows);
  }

  async #target(): Promise<TargetState> {
    const running = [...this.#executions.keys()];
    const [row] = await this.#stage.test.target.admin<
      { rows: RawRow[] | null; waiting: Name[] | null; ended: { id: string; status: string }[] | null }[]
    >`
      select (select json_agg(r) from (
                select 'office' as "table", legacy_office_id::integer as key, name as version, null::integer as office, null::timestamptz as stamp
                  from public.offices
                union all
                select 'patient', p.legacy_patient_id, p.suffix, o.legacy_office_id, p.source_updated_at
                  from public.patients p left join public.offices o on o.id = p.assigned_office_id) r) as rows,
             (select json_agg(case entity_type when 'offices' then 'office ' else 'patient ' end || source_record_id)
                from (select entity_type, source_record_id from public.sync_conflicts where state in ('waiting', 'open')
                      union all select e.entity_type, k.legacy_id
                        from public.sync_pending_keys k join public.sync_entities e on e.id = k.entity_id) w) as waiting,
             (select json_agg(json_build_object('id', id, 'status', status))
                from public.sync_executions where id = any (${running}::uuid[]) and status <> 'running') as ended`;
    return { rows: rowsOf(row?.rows ?? []), waiting: new Set(row?.waiting), ended: row?.ended ?? [] };
  }
}

interface TargetState {
  readonly rows: ReadonlyMap<Name, Row>;
  /** Waits for its parent, or has been asked for: released since, for one. */
  readonly waiting: ReadonlySet<Name>;
  readonly ended: readonly { readonly id: string; readonly status: string }[];
}

interface RawRow {
  readonly table: Table;
  readonly key: number;
  readonly version: string;
  readonly office: number | null;
  readonly stamp: string | null;
}

function rowsOf(rows: readonly RawRow[]): Map<Name, Row> {
  return new Map(
    rows.map(({ table, key, version, office, stamp }) => [
      nameOf(table, key),
      { version: Number(version.slice(1)), office, stamp: secondOf(stamp) },
    ]),
  );
}

async function sourceRows(source: Sql): Promise<Map<Name, Row>> {
  const [row] = await source<{ rows: RawRow[] | null }[]>`
    select json_agg(r) as rows from (
      select 'office' as "table", id as key, name as version, null::integer as office, null::timestamptz as stamp from public.dispatch_office
      union all select 'patient', id, suffix, office_id, updated_at from public.dispatch_patient) r`;
  return rowsOf(row?.rows ?? []);
}

function connection(url: string): Sql {
  return postgres(url, {
    max: 1,
    prepare: false,
    fetch_types: false,
    onnotice: () => undefined,
    connection: { lock_timeout: LOCK_TIMEOUT_MS },
  });
}

const pick = <T>(from: readonly T[], nth: number): T | undefined => from[nth % Math.max(1, from.length)];

/** Names of prepared transactions are the server's. */
let transactions = 0;

const SOURCE = { office: "dispatch_office", patient: "dispatch_patient" } as const;
const ENTITY_IDS = "select id from public.sync_entities where entity_type in ('offices', 'patients')";
/** More pages than any history needs. */
const ENDLESS = 300;
/** A lock that another session holds, a key that is taken, a foreign key. */
const NOT_HAPPENED = new Set(["55P03", "23505", "23503"]);
/** Nothing has begun: another execution covers the entity, or the replica has not come as far yet. */
const REFUSALS = new Set(["EXECUTION_ACTIVE", "SOURCE_BEHIND"]);
