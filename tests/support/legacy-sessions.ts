import postgres, { type Sql } from "postgres";
import { KEYS, SESSIONS, type Stamp, type Step } from "./history-steps.ts";
import { FUTURE, LegacyModel, nameOf, type Name, type Row, type Table } from "./legacy-model.ts";

/** A step of the legacy application. */
type LegacyStep = Extract<
  Step,
  {
    readonly do:
      | "begin"
      | "savepoint"
      | "rollback to"
      | "release"
      | "commit"
      | "rollback"
      | "prepare"
      | "commit prepared"
      | "rollback prepared"
      | "insert"
      | "update"
      | "delete"
      | "vacuum";
  }
>;

const SOURCE = { office: "dispatch_office", patient: "dispatch_patient" } as const;
/** A second is enough for what waits for nobody; a session that would wait has not happened. */
const LOCK_TIMEOUT_MS = 4;
/** A lock that another session holds, a key that is taken, a foreign key. */
const NOT_HAPPENED = new Set(["55P03", "23505", "23503"]);
/** Second 0 of a history's clock. It stands behind the servers' own, so that these have reached all but FUTURE stamps. */
const EPOCH_MS = Date.UTC(2000, 0, 1);

export const timeOf = (second: number | null) => (second === null ? null : new Date(EPOCH_MS + second * 1_000).toISOString());
export const secondOf = (time: string | null) => (time === null ? null : (Date.parse(time) - EPOCH_MS) / 1_000);

/** Connections of the legacy application, as the tables' owner. */
export function openSessions(url: string): Sql[] {
  return Array.from({ length: SESSIONS }, () =>
    postgres(url, {
      max: 1,
      prepare: false,
      fetch_types: false,
      onnotice: () => undefined,
      connection: { lock_timeout: LOCK_TIMEOUT_MS },
    }),
  );
}

/** Users that patients are: no step touches them. */
export async function makeUsers([session]: readonly Sql[]): Promise<void> {
  await session?.unsafe(`
    insert into public.auth_user (id, username, first_name, last_name, email, password, is_superuser, is_staff, is_active, date_joined)
    select id, 'user ' || id, '', '', '', '', true, false, true, now() from generate_series(1, ${KEYS.length}) id`);
}

/** The legacy application in one history: what its sessions do, and in the model what came of it. */
export class LegacySessions {
  readonly model = new LegacyModel();
  #sessions: readonly Sql[];
  /** Closed in the end. */
  #own = false;
  #version = 0;
  #second = 0;

  constructor(sessions: readonly Sql[]) {
    this.#sessions = sessions;
  }

  /** The history's clock. */
  get second(): number {
    return this.#second;
  }

  /** Two offices and three patients, of one stamp; written anew, so that whoever looks for written rows finds them. */
  async begin(): Promise<void> {
    const stamp = ++this.#second;
    const version = ++this.#version;
    for (const key of [1, 2]) this.model.write(0, nameOf("office", key), { version, office: null, stamp: null });
    for (const key of [1, 2, 3]) this.model.write(0, nameOf("patient", key), { version, office: key === 3 ? null : key, stamp });
    await this.#session(0).unsafe(`
      delete from public.dispatch_patient; delete from public.dispatch_office;
      insert into public.dispatch_office (id, name, valid, emails) select k, 'v${version}', true, true from generate_series(1, 2) k;
      insert into public.dispatch_patient (id, user_id, office_id, sex, suffix, status, archived, suspended, updated_at)
      select k, k, nullif(k, 3), 1, 'v${version}', 1, false, false, '${timeOf(stamp) ?? ""}' from generate_series(1, 3) k`);
  }

  async take(step: LegacyStep): Promise<void> {
    switch (step.do) {
      case "begin":
        if (this.model.inTransaction(step.session)) return;
        await this.#session(step.session).unsafe("begin");
        this.model.begin(step.session);
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
        const name = this.model.prepared[step.nth % Math.max(1, this.model.prepared.length)];
        if (name !== undefined) await this.#endPrepared(name, step.do === "commit prepared");
        return;
      }
      case "vacuum":
        return this.#vacuum(step.how, step.table);
    }
  }

  /** Ends what is open: each session, then each prepared transaction, as drawn. */
  async endAll(commits: readonly boolean[]): Promise<void> {
    for (let session = 0; session < SESSIONS; session++) {
      await this.#end(session, commits[session] === true ? "commit" : "rollback");
    }
    for (const [index, name] of this.model.prepared.entries()) {
      await this.#endPrepared(name, commits[(SESSIONS + index) % commits.length] === true);
    }
  }

  /** The server is gone with its sessions: new ones, to another. */
  async moveTo(url: string): Promise<void> {
    await Promise.allSettled(this.#sessions.map((session) => session.end({ timeout: 0 })));
    this.#sessions = openSessions(url);
    this.#own = true;
  }

  /** The committed rows as the source has them. */
  async rows(): Promise<Map<Name, Row>> {
    const [row] = await this.#session(0)<{ rows: RawRow[] | null }[]>`
      select json_agg(r) as rows from (
        select 'office' as "table", id as key, name as version, null::integer as office, null::timestamptz as stamp from public.dispatch_office
        union all select 'patient', id, suffix, office_id, updated_at from public.dispatch_patient) r`;
    return rowsOf(row?.rows ?? []);
  }

  /** Rolls back what is open. */
  async close(): Promise<void> {
    for (const session of this.#sessions) await session.unsafe("rollback");
    const first = this.#session(0);
    const left = await first.unsafe<{ gid: string }[]>("select gid from pg_prepared_xacts where database = current_database()");
    for (const { gid } of left) await first.unsafe(`rollback prepared '${gid}'`);
    if (this.#own) await Promise.all(this.#sessions.map((session) => session.end({ timeout: 1 })));
  }

  #session(number: number): Sql {
    const session = this.#sessions[number];
    if (!session) throw new Error(`no session ${number}`);
    return session;
  }

  async #insert(step: LegacyStep & { do: "insert" | "update" }): Promise<void> {
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
    return this.#write(step, text, values, row, this.model.sees(step.session, nameOf(table, key)) === undefined);
  }

  async #update(step: LegacyStep & { do: "insert" | "update" }): Promise<void> {
    const { table, key } = step;
    const row = this.#row(step, this.model.sees(step.session, nameOf(table, key)));
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
    if (stamp === "now") this.#second++;
    const stamps: Record<Stamp, number | null> = {
      now: this.#second,
      "the same": this.#second,
      bypass: old ? old.stamp : this.#second,
      null: null,
      past: this.#second - 50,
      ahead: this.#second + 3,
      future: FUTURE + this.#second,
    };
    return { version, office: office === 0 ? null : office, stamp: stamps[stamp] };
  }

  /** Runs a write that changes one row if the session sees it, and in the model what it did. */
  async #write(
    { session, table, key }: { session: number; table: Table; key: number },
    text: string,
    values: (string | number | null)[],
    row: Row | null,
    expected = this.model.sees(session, nameOf(table, key)) !== undefined,
  ): Promise<void> {
    const count = await this.#happens(session, async () => (await this.#session(session).unsafe(text, values)).count);
    if (count === undefined) return;
    if (count !== (expected ? 1 : 0)) throw new Error(`The model is wrong about ${table} ${key}: ${count} rows`);
    if (count === 1) this.model.write(session, nameOf(table, key), row);
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
      const savepoints = this.model.savepoints(session);
      if (savepoints > 0) {
        await this.#session(session).unsafe(`rollback to savepoint s${savepoints}`);
        this.model.rollbackToSavepoint(session);
      } else if (this.model.inTransaction(session)) {
        await this.#session(session).unsafe("rollback");
        this.model.rollback(session);
      }
      return undefined;
    }
  }

  async #savepoint(session: number, what: "savepoint" | "rollback to" | "release"): Promise<void> {
    const savepoints = this.model.savepoints(session);
    if (!this.model.inTransaction(session) || (what !== "savepoint" && savepoints === 0)) return;
    const name = `s${what === "savepoint" ? savepoints + 1 : savepoints}`;
    const statement = { savepoint: "savepoint", "rollback to": "rollback to savepoint", release: "release savepoint" }[what];
    await this.#session(session).unsafe(`${statement} ${name}`);
    if (what === "savepoint") this.model.savepoint(session);
    else if (what === "release") this.model.releaseSavepoint(session);
    else this.model.rollbackToSavepoint(session);
  }

  async #end(session: number, how: "commit" | "rollback" | "prepare"): Promise<void> {
    if (!this.model.inTransaction(session)) return;
    const name = `history ${++transactions}`;
    try {
      await this.#session(session).unsafe(how === "prepare" ? `prepare transaction '${name}'` : how);
    } catch (error) {
      // A deferred foreign key: the transaction is rolled back as a whole.
      if (!NOT_HAPPENED.has((error as { code?: string }).code ?? "")) throw error;
      this.model.rollback(session);
      return;
    }
    if (how === "prepare") this.model.prepare(session, name);
    else if (how === "commit") this.model.commit(session);
    else this.model.rollback(session);
  }

  async #endPrepared(name: string, commits: boolean): Promise<void> {
    // From a session that has not made it, if one is free.
    const free = this.#sessions.findIndex((_, number) => !this.model.inTransaction(number));
    if (free < 0) return;
    await this.#session(free).unsafe(`${commits ? "commit" : "rollback"} prepared '${name}'`);
    if (commits) this.model.commitPrepared(name);
    else this.model.rollbackPrepared(name);
  }

  async #vacuum(how: "" | "full" | "freeze", table: Table): Promise<void> {
    const free = this.#sessions.findIndex((_, number) => !this.model.inTransaction(number));
    if (free < 0) return;
    await this.#happens(free, () => this.#session(free).unsafe(`vacuum ${how === "" ? "" : `(${how})`} public.${SOURCE[table]}`));
  }
}

/** A record of either side, as its query gives it. */
export interface RawRow {
  readonly table: Table;
  readonly key: number;
  readonly version: string;
  readonly office: number | null;
  readonly stamp: string | null;
}

export function rowsOf(rows: readonly RawRow[]): Map<Name, Row> {
  return new Map(
    rows.map(({ table, key, version, office, stamp }) => [
      nameOf(table, key),
      { version: Number(version.slice(1)), office, stamp: secondOf(stamp) },
    ]),
  );
}

/** Names of prepared transactions are the server's. */
let transactions = 0;
