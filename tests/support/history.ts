import type { Sql } from "postgres";
import type { IsthmusError } from "../../shared/errors.ts";
import type { Context } from "../../shared/context.ts";
import type { PageMessage } from "../../shared/target/sending.ts";
import type { PageOutcome } from "../../shared/page/page-outcome.ts";
import { Gate, gated } from "./gate.ts";
import { assertKept, NOTHING_WRONG, reports, wronglyLeft, type Ended, type HistoryCapture } from "./history-oracle.ts";
import type { History, Node, Step } from "./history-steps.ts";
import {
  addChain,
  askFor,
  digestReport,
  ENTITY_OF,
  hideFromXmin,
  keepTime,
  lookAtTarget,
  resetTarget,
  watermarkOf,
  type TargetState,
} from "./history-target.ts";
import type { InProcess } from "./in-process.ts";
import { differenceOf, type Difference, type Name } from "./legacy-model.ts";
import { LegacySessions, makeUsers, openSessions } from "./legacy-sessions.ts";
import { until, type ReplicatedSource } from "./replica.ts";

/** Where a history is played: a source for legacy sessions to write, and the pipeline that reads it. */
export interface Stage {
  readonly test: InProcess;
  /** How executions find changes. */
  readonly capture: HistoryCapture;
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
  /** What an execution that ran alone left undone although its capture promises it, and the other way round. */
  readonly wrong: ReturnType<typeof wronglyLeft>;
  /** What a digest was to report after it, and has. */
  readonly reports: ReturnType<typeof reports>;
  /** How both sides differ in the end, and what is still asked for or in the queue. */
  readonly left: Difference;
  readonly waits: readonly Name[];
}

const BOTH = Object.values(ENTITY_OF);

/** Opens the legacy sessions, makes the users that patients are, and runs each entity once. */
export async function openStage(
  test: InProcess,
  writerUrl: string,
  capture: HistoryCapture,
  replica?: Stage["replica"],
): Promise<Stage> {
  const sessions = openSessions(writerUrl);
  await makeUsers(sessions);
  await replica?.lag.caughtUp();
  await test.sync({ entities: ["profiles", ...BOTH], capture: "digest" });
  return { test, capture, sessions, ...(replica ? { replica } : {}) };
}

export async function closeStage({ test, sessions }: Stage): Promise<void> {
  await Promise.allSettled(sessions.map((session) => session.end({ timeout: 1 })));
  await test[Symbol.asyncDispose]();
}

/**
 * Plays a history: puts both sides at its beginning, takes the steps, ends what is open as drawn, runs an execution
 * alone, then a digest that finds nothing by xmin.
 * @throws Error when on the way a record goes back or is deleted for nothing, an execution breaks its promise, or a
 * page fails.
 */
export async function play(stage: Stage, history: History, how: Play = {}): Promise<Played> {
  await using player = new Player(stage, how);
  return await player.play(history);
}

class Player implements AsyncDisposable {
  readonly #stage: Stage;
  readonly #failover: Play["failover"];
  readonly #legacy: LegacySessions;
  readonly #strict: boolean;
  readonly #mixed: boolean;
  readonly #executions = new Map<string, Ended>();
  /** The highest version of each record that was seen in the target, and which are there. */
  readonly #landed = new Map<Name, number>();
  #there: ReadonlySet<Name> = new Set();
  #asked = new Set<Name>();
  readonly #sent: PageMessage[] = [];
  #inFlight: Promise<PageOutcome>[] = [];
  /** What the source showed when the first of the pages in flight began. */
  #pagesBegan = 0;
  #gate: Gate | undefined;
  /** The point in time that a replica shows which is paused or cut off. */
  #showsAt: number | undefined;
  #cutOffForGood = false;
  #promoted = false;

  constructor(stage: Stage, { mixedNodes = false, failover }: Play) {
    this.#stage = stage;
    this.#failover = failover;
    this.#legacy = new LegacySessions(stage.sessions);
    this.#mixed = mixedNodes;
    // Behind an address that serves two nodes a later page may show an earlier state; in the end nothing is lost.
    this.#strict = !mixedNodes;
  }

  async play({ landed, steps, ends }: History): Promise<Played> {
    const { test, replica } = this.#stage;
    test.queue.length = 0;
    await this.#legacy.begin();
    await resetTarget(test);
    await replica?.lag.caughtUp();
    if (landed) {
      await this.#start(BOTH, "standby");
      await this.#drain();
    }
    const middle = Math.floor(steps.length / 2);
    for (const step of steps.slice(0, middle)) await this.#take(step);
    const lose = await this.#cutOff();
    for (const step of steps.slice(middle)) await this.#take(step);
    await this.#failOver(lose);

    await this.#open();
    await this.#legacy.endAll(ends);
    await this.#take({ do: "resume" });
    await this.#drain();
    return this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#gate?.open();
    await Promise.allSettled(this.#inFlight);
    if (!this.#cutOffForGood) await this.#take({ do: "resume" });
    await this.#legacy.close();
  }

  /** The executions that run alone, and how both sides stand before and after each. */
  async #end(): Promise<Played> {
    const { test, capture } = this.#stage;
    const { model } = this.#legacy;
    const before = await this.#difference();
    const watermark = await watermarkOf(test);
    const askedEver = this.#asked;
    this.#asked = new Set([...before.state.asked, ...before.state.queued]);
    let [wrong, after] = [NOTHING_WRONG, before];
    if (capture !== "digest") {
      const { compared } = await this.#alone(capture);
      after = await this.#difference();
      wrong = wronglyLeft(capture, model, {
        before: before.difference,
        after: after.difference,
        compared,
        watermark,
        askedInIt: this.#asked,
        askedEver: new Set([...askedEver, ...this.#asked]),
        landed: new Set(this.#landed.keys()),
      });
    }
    await hideFromXmin(test);
    const { execution } = await this.#alone("digest");
    const { difference: left, state } = await this.#difference();
    return {
      wrong,
      reports: reports(model, after.state, await digestReport(test, execution)),
      left,
      waits: [...state.asked, ...state.queued],
    };
  }

  async #take(step: Step): Promise<void> {
    switch (step.do) {
      case "start":
        await this.#start(step.entities, step.node);
        return;
      case "page": {
        const [message] = this.#stage.test.queue.splice(step.nth % Math.max(1, this.#stage.test.queue.length), 1);
        if (message) await this.#page(message, step.node);
        return;
      }
      case "page again": {
        const message = this.#sent[step.nth % Math.max(1, this.#sent.length)];
        if (message) await this.#page(message, "standby");
        return;
      }
      case "drain":
        return this.#drain();
      case "ask":
        await this.#open();
        await askFor(this.#stage.test, step.table, step.keys);
        return this.#observe();
      case "second chain":
        await this.#open();
        if (await addChain(this.#stage.test, step.table)) await askFor(this.#stage.test, step.table, step.keys);
        return this.#observe();
      case "hold":
        return this.#hold(step.nth, step.statements);
      case "open":
        return this.#open();
      case "pause":
        if (!this.#stage.replica || this.#showsAt !== undefined || this.#promoted) return;
        await this.#stage.replica.lag.caughtUp();
        await this.#stage.replica.lag.pause();
        this.#showsAt = this.#legacy.model.now;
        return;
      case "resume":
        if (this.#showsAt === undefined || this.#cutOffForGood) return;
        await this.#stage.replica?.lag.resume();
        this.#showsAt = undefined;
        return;
      default:
        return this.#legacy.take(step);
    }
  }

  /** From here on the replica receives nothing. @returns what makes the model forget all that it has not received. */
  async #cutOff(): Promise<(() => void) | undefined> {
    if (!this.#failover) return undefined;
    await this.#take({ do: "resume" });
    await this.#failover.cutOff();
    this.#showsAt = this.#legacy.model.now;
    this.#cutOffForGood = true;
    return this.#legacy.model.received();
  }

  /** The primary is gone; new sessions write to the replica that takes its place. */
  async #failOver(forget: (() => void) | undefined): Promise<void> {
    if (!this.#failover || !forget) return;
    await this.#open();
    await this.#failover.failOver();
    await this.#legacy.moveTo(this.#failover.standby.superuserUrl("legacy"));
    forget();
    this.#promoted = true;
    this.#cutOffForGood = false;
    this.#showsAt = undefined;
  }

  #context(node: Node): Context {
    const { test, replica } = this.#stage;
    return this.#mixed && replica && node === "primary" ? replica.primary : test.context;
  }

  /** What the node shows that is read. */
  get #shown(): number {
    return this.#showsAt ?? this.#legacy.model.now;
  }

  /** @returns the execution, and which entities it compares whole; undefined: nothing could begin. */
  async #start(entities: readonly string[], node: Node, capture = this.#stage.capture): Promise<Begun | undefined> {
    await this.#open();
    await this.#readerIsReady();
    const began = this.#shown;
    try {
      const request = { entities, capture: capture === "xmin" ? "auto" : capture } as const;
      const { execution, warnings } = await this.#stage.test.start(request, this.#context(node));
      await keepTime(this.#stage.test, execution, this.#legacy.second);
      // The rows of a table that was rewritten may be others.
      const compared = new Set(warnings.flatMap(({ code, entity }) => (code.endsWith("_reshaped") && entity ? [entity] : [])));
      this.#executions.set(execution, { entities, compared, began, capture });
      return { execution, compared };
    } catch (error) {
      if (!REFUSALS.has((error as IsthmusError).code)) throw error;
      return undefined;
    } finally {
      await this.#observe();
    }
  }

  /** An execution over everything while nothing else happens. */
  async #alone(capture: HistoryCapture): Promise<Begun> {
    const begun = await this.#start(BOTH, "standby", capture);
    await this.#drain();
    if (!begun || this.#executions.has(begun.execution)) throw new Error("An execution that ran alone has not ended");
    return begun;
  }

  /** A replica that is not paused is a few milliseconds behind, which no step waits for by itself. */
  async #readerIsReady(): Promise<void> {
    if (this.#showsAt === undefined && !this.#promoted) await this.#stage.replica?.lag.caughtUp();
  }

  async #page(message: PageMessage, node: Node): Promise<void> {
    if (this.#inFlight.length > 1) await this.#open();
    await this.#readerIsReady();
    this.#sends(message);
    const page = this.#judged(message, this.#stage.test.run(message, this.#context(node)));
    if (this.#inFlight.length === 0) await page;
    else {
      this.#inFlight.push(page);
      await this.#endsOrWaits(page);
    }
    await this.#observe();
  }

  #sends(message: PageMessage): void {
    this.#sent.push(message);
    if (this.#inFlight.length === 0) this.#pagesBegan = this.#shown;
    const execution = this.#executions.get(message.execution);
    if (execution) execution.paged ??= this.#shown;
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
    this.#sends(message);
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

  /** Looks at the target: what has become of records, and of executions. */
  async #observe(): Promise<void> {
    const state = await lookAtTarget(this.#stage.test, [...this.#executions.keys()]);
    for (const name of state.asked) this.#asked.add(name);
    for (const [name, { version }] of state.rows) {
      const before = this.#landed.get(name) ?? 0;
      if (this.#strict && version < before) throw new Error(`${name} went back from version ${before} to ${version}`);
      this.#landed.set(name, version);
    }
    const { model } = this.#legacy;
    for (const name of this.#there) {
      if (state.rows.has(name) || !this.#strict || this.#promoted || !model.stayed(name, this.#pagesBegan)) continue;
      throw new Error(`${name} was deleted although the source has it`);
    }
    this.#there = new Set(state.rows.keys());
    for (const { id, status } of state.ended) {
      const execution = this.#executions.get(id);
      if (!execution) continue;
      this.#executions.delete(id);
      if (status !== "succeeded" && !this.#promoted) throw new Error(`An execution ended as ${status}`);
      if (status === "succeeded" && this.#strict) assertKept(execution, model, state);
    }
  }

  /** How the target differs from what was committed; first of all the model from the source itself. */
  async #difference(): Promise<{ difference: Difference; state: TargetState }> {
    const committed = this.#legacy.model.rows();
    const wrong = differenceOf(committed, await this.#legacy.rows());
    if (Object.values(wrong).flat().length > 0) throw new Error(`The model is wrong: ${JSON.stringify(wrong)}`);
    const state = await lookAtTarget(this.#stage.test, []);
    return { difference: differenceOf(committed, state.rows), state };
  }
}

type Begun = Pick<Ended, "compared"> & { readonly execution: string };

/** More pages than any history needs. */
const ENDLESS = 300;
/** Nothing has begun: another execution covers the entity, or the replica has not come as far yet. */
const REFUSALS = new Set(["EXECUTION_ACTIVE", "SOURCE_BEHIND"]);
