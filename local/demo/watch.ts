import cliProgress from "cli-progress";
import type { Platform } from "../platform.ts";
import { countRecords } from "./count-records.ts";

export interface EntityState {
  readonly entity: string;
  readonly capture: string | null;
  readonly chains: Readonly<Record<string, number>> | null;
  readonly counts: Readonly<
    Record<
      | "pages"
      | "read"
      | "inserted"
      | "updated"
      | "unchanged"
      | "deleted"
      | "waiting"
      | "inConflict"
      | "waived"
      | "absent"
      | "surplus",
      number
    >
  >;
}
export interface ExecutionState {
  readonly execution: string;
  readonly status: "running" | "succeeded" | "failed" | "cancelled";
  readonly startedAt: string;
  readonly completedAt: string | null;
  readonly errors: unknown;
  readonly metrics: Readonly<Record<string, number | null>>;
  readonly entities: readonly EntityState[];
  readonly queue: readonly {
    readonly entity: string;
    readonly state: string;
    readonly type: string;
    readonly rule: string;
    readonly count: number;
  }[];
  readonly waivers: readonly { readonly rule: string; readonly count: number }[];
  readonly warnings: readonly { readonly rule: string; readonly count: number }[];
}

/** How often the state is asked for while an execution runs. */
const POLL_MS = 250;

/** Starts an execution over HTTP, as production would, and shows a bar per entity until it is closed. */
export async function runAndWatch(
  platform: Platform,
  request: { entities?: readonly string[]; capture?: "auto" | "full" },
): Promise<ExecutionState> {
  const answer = await platform.call("sync-trigger", { body: request });
  const begun = (await answer.json()) as { execution: string; entities: string[]; chains: { entity: string; capture: string }[] };
  if (answer.status !== 202) throw new Error(`sync-trigger answered ${answer.status}: ${JSON.stringify(begun)}`);

  const full = new Set(begun.chains.filter((chain) => chain.capture === "full").map((chain) => chain.entity));
  const totals = await countRecords(platform.urls.sourceReader, [...full]);
  const bars = new Bars();
  for (;;) {
    const state = (await (await platform.call(`sync-trigger?execution=${begun.execution}`)).json()) as ExecutionState;
    bars.show(state.entities, totals);
    if (state.status !== "running") {
      bars.stop();
      return state;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

class Bars {
  readonly #all = new cliProgress.MultiBar(
    {
      format: "  {entity} {bar} {value}/{total} {rate} rows/s  {left}",
      hideCursor: true,
      clearOnComplete: false,
      forceRedraw: true,
      // Where the output is not a terminal, a line now and then instead of moving bars.
      noTTYOutput: true,
      notTTYSchedule: 5_000,
      emptyOnZero: true,
    },
    cliProgress.Presets.shades_classic,
  );
  readonly #bars = new Map<string, { bar: cliProgress.SingleBar; since: number; seconds?: number }>();

  #lastShown = Date.now();

  show(entities: readonly EntityState[], totals: ReadonlyMap<string, number>): void {
    for (const entity of entities) {
      if (entity.chains) this.#showOne(entity, totals.get(entity.entity));
    }
    this.#lastShown = Date.now();
  }

  #showOne(entity: EntityState, expected: number | undefined): void {
    const { read } = entity.counts;
    const done = Object.keys(entity.chains ?? {}).every((state) => !["blocked", "open"].includes(state));
    const known = this.#bars.get(entity.entity);
    if (!known && read === 0 && !done) return;
    const total = done ? read : Math.max(expected ?? read, read);
    const entry = known ?? {
      bar: this.#all.create(total, 0, { entity: entity.entity.padEnd(11), rate: "", left: "" }),
      since: this.#lastShown,
    };
    this.#bars.set(entity.entity, entry);
    entry.bar.setTotal(total);
    // Its own time: from the last look that found it not begun, to the first that found it done.
    if (done) entry.seconds ??= (Date.now() - entry.since) / 1_000;
    const seconds = entry.seconds ?? (Date.now() - entry.since) / 1_000;
    const rate = read / seconds;
    entry.bar.update(read, {
      rate: Math.round(rate).toLocaleString("en").padStart(7),
      left: done ? `in ${seconds.toFixed(1)} s` : `ETA ${Math.ceil((total - read) / rate)} s`,
    });
  }

  stop(): void {
    this.#all.stop();
  }
}
