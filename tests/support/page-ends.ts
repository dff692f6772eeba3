import type { Sql as AdminSql } from "postgres";
import type { Sql } from "../../shared/db/connect.ts";
import { offices } from "../../clinic/entities/offices.ts";
import type { Context } from "../../shared/context.ts";
import { type PageMessage, overduePages } from "../../shared/target/sending.ts";
import type { PageOutcome } from "../../shared/page/page-outcome.ts";
import { sendPages } from "../../shared/queue/send-pages.ts";
import { stopStalled } from "../../shared/target/ends.ts";
import { readerUrl, workerUrl, type TestDatabase } from "./databases.ts";
import { Killed, seedOffices } from "./limits.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";
import { testServer } from "./servers.ts";
import { createWire, type Wire } from "./wire.ts";

/** The life of a page of records, step by step. */
export const PLACES = ["claim", "position", "detect", "slots", "read", "map", "transform", "commit", "send"] as const;
export type Place = (typeof PLACES)[number];
export type Side = "source" | "target";

/** Which server works at a place; undefined: none does. */
export const SIDE_OF: Readonly<Record<Place, Side | undefined>> = {
  claim: "target",
  position: "source",
  detect: "source",
  slots: "target",
  read: "source",
  map: "target",
  transform: undefined,
  commit: "target",
  send: undefined,
};

/** What a statement of the place waits for while somebody else holds it. */
export const LOCKED_AT: Readonly<Partial<Record<Place, string>>> = {
  claim: "sync_chains",
  detect: "dispatch_office",
  slots: "sync_record_slots",
  read: "dispatch_office",
  map: "uuid_mappings_enhanced",
  // Nearly all of the commit is done then.
  commit: "sync_page_log",
};

function placeOf(side: Side, text: string): Place | undefined {
  if (side === "source") {
    if (text.includes("r.bytes")) return "read";
    if (text.includes("octet_length")) return undefined;
    return text.includes("dispatch_office") ? "detect" : "position";
  }
  if (text.includes("sync.claim_page")) return "claim";
  if (text.includes("sync.slot_versions")) return "slots";
  if (text.includes("uuid_mappings_enhanced")) return "map";
  return text.includes("sync.commit_page") ? "commit" : undefined;
}

/** One page under way, as a way to end it sees it. */
export interface Struck {
  readonly arena: Arena;
  readonly place: Place;
  readonly side: Side | undefined;
  readonly message: PageMessage;
  /** From here on the function is dead: it reaches nothing any more. */
  readonly die: () => never;
}

/** Carries out the step (`go`), and ends it, or the page, in its way. Within a transformation it must throw at once. */
export type Strike = (struck: Struck, go: () => Promise<unknown>) => Promise<unknown>;

export interface Way {
  /** Settings of the role on the side of the place, while the step is carried out. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Throws instead of carrying out the step, which may be a transformation. */
  readonly thrown?: (struck: Struck) => never;
  readonly strike?: Strike;
  /** When the page has ended, however it did. */
  readonly after?: (arena: Arena) => Promise<void>;
}

export interface Ending {
  readonly status: string;
  readonly errors: readonly { readonly code: string; readonly remedy?: string }[];
  readonly runs: readonly PageOutcome[];
  readonly struck: number;
}

/** A pipeline over six offices in pages of four, whose connections and limits a test can break while a page is under way. */
export interface Arena extends AsyncDisposable {
  readonly test: Pipeline;
  readonly wires: Readonly<Record<Side, Wire>>;
  readonly admin: (side: Side) => AdminSql;
  /** Ends the sessions of the sync's role on one side. */
  endSessions(side: Side): Promise<void>;
  /** One full pass over offices that have all changed, each of whose pages of records is struck at a place: the first, or all. */
  run(place: Place, way: Way, often: "once" | "always"): Promise<Ending>;
}

export const RECORDS = 6;
const ROLE: Readonly<Record<Side, string>> = { source: "isthmus_reader", target: "isthmus_worker" };
/** More runs of pages and sweeps than any of these needs: what goes on beyond would go on for ever. */
const BOUND = 40;
export const TRIES = 3;

export async function createArena(): Promise<Arena> {
  const { port } = await testServer();
  const wires = { source: await createWire(port), target: await createWire(port) };
  const through = (url: string, wire: Wire) => url.replace(`:${port}/`, `:${wire.port}/`);
  let transforms: () => void = () => undefined;
  const { city } = offices.fields;
  if (!city) throw new Error("offices have no city");
  const struckOffices = {
    ...offices,
    fields: {
      ...offices.fields,
      city: {
        ...city,
        decide: (...args: Parameters<typeof city.decide>) => {
          transforms();
          return city.decide(...args);
        },
      },
    },
  };
  const test = await createPipeline({
    entities: [struckOffices],
    env: { ISTHMUS_PAGE_SIZE: "4", ISTHMUS_CHAINS_PER_ENTITY: "1", ISTHMUS_POOL_SIZE: "1", ISTHMUS_PAGE_TRIES: String(TRIES) },
    sourceUrl: (db) => through(readerUrl(db), wires.source),
    targetUrl: (db) => through(workerUrl(db), wires.target),
  });
  await seedOffices(test, RECORDS);
  await test.sync({ entities: ["offices"] });
  const databases: Readonly<Record<Side, TestDatabase>> = { source: test.source, target: test.target };
  const endSessions = async (side: Side) => {
    const { admin, name } = databases[side];
    const ended = () =>
      admin`select pg_terminate_backend(pid, 1000) from pg_stat_activity where datname = ${name} and usename = ${ROLE[side]}`;
    while ((await ended()).length > 0);
  };
  /** Sessions that begin now have the settings, or no longer; the driver has noticed that the old one is gone. */
  const limit = async (side: Side, settings: Readonly<Record<string, string>>, set: boolean, lost = false) => {
    for (const [name, value] of Object.entries(settings)) {
      await databases[side].admin.unsafe(
        `alter role ${ROLE[side]} in database "${databases[side].name}" ${set ? `set ${name} = '${value}'` : `reset ${name}`}`,
      );
    }
    // What a server said when it ended the session is for the page to hear.
    if (lost) return;
    await endSessions(side);
    for (let open = false; !open;) open = await test.context[side].unsafe("select 1").then(() => true, () => false); // prettier-ignore
  };
  let changes = 0;

  /** The page's context: its step at the place is struck, and once it has died nothing of it works. */
  const contextOf = (message: PageMessage, place: Place, strike: Strike): { context: Context; struck: Struck } => {
    let dead = false;
    const die = () => {
      dead = true;
      throw new Killed();
    };
    const struck: Struck = { arena, place, side: SIDE_OF[place], message, die };
    const step = async <T>(here: Place | undefined, go: () => PromiseLike<T>): Promise<T> => {
      if (dead) throw new Killed();
      const done = here === place ? ((await strike(struck, async () => go())) as T) : await go();
      if (dead) throw new Killed();
      return done;
    };
    const stepped = (side: Side, sql: Sql) =>
      Object.assign(Object.create(sql) as Sql, {
        unsafe: (...args: Parameters<Sql["unsafe"]>) => step(placeOf(side, args[0]), () => sql.unsafe(...args)),
      });
    const { source, target, queue } = test.context;
    const send = (messages: readonly PageMessage[]) => step("send", () => queue.send(messages));
    return {
      struck,
      context: { ...test.context, source: stepped("source", source), target: stepped("target", target), queue: { send } },
    };
  };

  /** What a minute's tick does about pages, after as much time as makes everything overdue. */
  const sweep = async () => {
    await test.target.admin`
      update public.sync_chains set due_at = due_at - interval '6 minutes', lease_until = lease_until - interval '6 minutes',
             moved_at = moved_at - interval '6 minutes'`;
    await test.target
      .admin`update public.sync_executions set started_at = started_at - interval '6 minutes' where status = 'running'`;
    const { target, config } = test.context;
    await stopStalled(target, config.ISTHMUS_PAGE_TRIES, config.ISTHMUS_STALLED_MINUTES);
    await sendPages(test.context, await overduePages(target, 100));
  };

  const run: Arena["run"] = async (place, way, often) => {
    changes += 1;
    await test.source.admin`update public.dispatch_office set city = ${`city ${changes}`}`;
    const { execution } = await test.start({ entities: ["offices"], capture: "full" });
    const side = SIDE_OF[place];
    let hits = 0;
    const spared = () => often === "once" && hits > 0;
    const strike: Strike = async (struck, go) => {
      const [ofRecords] = await test.target
        .admin`select from public.sync_chains where id = ${struck.message.chain} and capture = 'full'`;
      if (!ofRecords || spared()) return go();
      hits += 1;
      if (way.thrown) return way.thrown(struck);
      if (!side || !way.settings) return way.strike?.(struck, go);
      await limit(side, way.settings, true);
      let lost = false;
      try {
        return await way.strike?.(struck, go);
      } catch (error) {
        lost = (error as { code?: unknown }).code === "CONNECTION_CLOSED";
        throw error;
      } finally {
        await limit(side, way.settings, false, lost);
      }
    };
    const runs: PageOutcome[] = [];
    for (let turns = 0; (await test.status(execution)).status === "running"; turns++) {
      if (turns > BOUND) throw new Error(`no end after ${JSON.stringify(runs.slice(-3))}`);
      const message = test.queue.shift();
      if (!message) {
        await sweep();
        continue;
      }
      const { context, struck } = contextOf(message, place, strike);
      transforms = () => {
        if (place !== "transform" || spared()) return;
        hits += 1;
        way.thrown?.(struck);
      };
      // A function that fails, or is killed, answers nothing that anybody listens to: its page is overdue after its
      // lease.
      runs.push(await test.run(message, context).catch((): PageOutcome => ({ outcome: "stale" })));
      await way.after?.(arena);
    }
    transforms = () => undefined;
    const { status, errors } = await test.status(execution);
    return { status, errors: errors ?? [], runs, struck: hits };
  };

  const arena: Arena = {
    test,
    wires,
    admin: (side) => databases[side].admin,
    endSessions,
    run,
    [Symbol.asyncDispose]: async () => {
      await test[Symbol.asyncDispose]();
      await Promise.all([wires.source[Symbol.asyncDispose](), wires.target[Symbol.asyncDispose]()]);
    },
  };
  return arena;
}
