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

/** Starts an execution over HTTP, as production would, and shows its progress until it is closed. */
export async function runAndWatch(
  platform: Platform,
  request: { entities?: readonly string[]; capture?: "auto" | "full"; conflictStrategy?: "manual_review" },
): Promise<ExecutionState> {
  const answer = await platform.call("sync-trigger", { body: request });
  const begun = (await answer.json()) as { execution: string; entities: string[]; chains: { entity: string; capture: string }[] };
  if (answer.status !== 202) throw new Error(`sync-trigger answered ${answer.status}: ${JSON.stringify(begun)}`);

  const full = new Set(begun.chains.filter((chain) => chain.capture === "full").map((chain) => chain.entity));
  const totals = await countRecords(platform.urls.sourceReader, [...full]);
  const bars = new Bars([...new Set(begun.chains.map((chain) => chain.entity))], totals);
  for (;;) {
    const state = (await (await platform.call(`sync-trigger?execution=${begun.execution}`)).json()) as ExecutionState;
    bars.show(state.entities);
    if (state.status !== "running") {
      bars.stop();
      return state;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** So many entities have a bar of their own; the others share one. */
const LARGEST = 10;
const OTHERS = "the others";

class Bars {
  readonly #all = new cliProgress.MultiBar(
    {
      format: "  {entity} {bar} {value}/{total} {rate} rows/s  {left}",
      hideCursor: true,
      clearOnComplete: false,
      forceRedraw: true,
      // Where the output is not a terminal, a line now and then instead of moving bars.
      noTTYOutput: true,
      notTTYSchedule: 20_000,
      emptyOnZero: true,
      // A line fits into 80 columns.
      barsize: 16,
    },
    cliProgress.Presets.shades_classic,
  );
  readonly #bars = new Map<string, { bar: cliProgress.SingleBar; since: number; seconds?: number }>();
  readonly #own: ReadonlySet<string>;
  readonly #totals: ReadonlyMap<string, number>;
  readonly #width: number;

  #lastShown = Date.now();

  constructor(entities: readonly string[], totals: ReadonlyMap<string, number>) {
    this.#own = new Set([...entities].sort((a, b) => (totals.get(b) ?? 0) - (totals.get(a) ?? 0)).slice(0, LARGEST));
    this.#totals = totals;
    this.#width = Math.max(...[...this.#own, OTHERS].map((name) => name.length));
  }

  show(states: readonly EntityState[]): void {
    const lines = new Map<string, EntityState[]>();
    for (const state of states) {
      if (!state.chains) continue;
      const name = this.#own.has(state.entity) ? state.entity : OTHERS;
      lines.set(name, [...(lines.get(name) ?? []), state]);
    }
    for (const [name, group] of lines) this.#showOne(name, group);
    this.#lastShown = Date.now();
  }

  #showOne(name: string, group: readonly EntityState[]): void {
    const read = group.reduce((sum, { counts }) => sum + counts.read, 0);
    const done = group.every(isDone);
    const known = this.#bars.get(name);
    if (!known && read === 0 && !done) return;
    const total = group.reduce(
      (sum, state) =>
        sum + (isDone(state) ? state.counts.read : Math.max(this.#totals.get(state.entity) ?? 0, state.counts.read)),
      0,
    );
    const entry = known ?? {
      bar: this.#all.create(total, 0, { entity: name.padEnd(this.#width), rate: "", left: "" }),
      since: this.#lastShown,
    };
    this.#bars.set(name, entry);
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

function isDone({ chains }: EntityState): boolean {
  return Object.keys(chains ?? {}).every((state) => !["blocked", "open"].includes(state));
}
