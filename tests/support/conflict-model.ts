import type { History, Strategy } from "../../shared/entity/define-entity.ts";
import { mergeObjects, same, type Json } from "./json-merge.ts";

/** By field; a field that is missing is not known. */
export type Values = Readonly<Record<string, Json>>;
export type Decision = Exclude<Strategy, "manual_review">;

/** A row of the queue, as the model expects it. */
export interface Entry {
  state: "open" | "resolved" | "superseded";
  readonly fields: readonly string[];
  strategy: Decision | null;
  by: "policy" | "sync" | "person" | null;
  attempts: number;
  decisions: number;
  /** The execution that has put the record into the queue. */
  readonly since: number;
  readonly seen: Values;
  readonly source: Values;
  readonly target: Values;
  readonly left: Values;
  after: Values | null;
}

/** What the model alone remembers of an entry: the whole record, and what was remembered of it before the decision. */
interface Hidden {
  record: Values;
  before?: { readonly seen: Values; readonly left: Values };
}

export const REFUSALS = {
  superseded: "a newer row of this record says what stops it now",
  undecided: "it was resolved without a decision",
  stopped: "something else stops this record by now",
  edited: "the target holds other values than it shows",
  changed: "the source has gone on since",
} as const;
export type Refusal = keyof typeof REFUSALS;

/**
 * The policy and people's decisions for one record, from what they mean: what the target holds, and what the queue
 * has of it.
 *
 * Of an entity that keeps hashes only whole records can be compared: one that has changed counts as changed in every
 * field, one that was edited as edited in every field, and what either held before is not known.
 */
export class ConflictModel {
  source: Values;
  now: Values;
  readonly entries: Entry[] = [];
  private seen: Values;
  private left: Values;
  private readonly hidden = new Map<Entry, Hidden>();

  constructor(
    readonly history: History,
    readonly strategies: Readonly<Record<string, Strategy>>,
    landed: Values,
  ) {
    this.source = this.now = this.seen = this.left = landed;
  }

  get open(): Entry | undefined {
    return this.entries.find(({ state }) => state === "open");
  }

  /** What an execution does with the record. `asked`: the strategy of the request. */
  execute(execution: number, asked?: Strategy): "updated" | "unchanged" | "in_conflict" {
    const seen = this.known(this.seen, this.source);
    const left = this.known(this.left, this.now);
    const before = this.now;
    const decided: Record<string, string> = {};
    const written: Record<string, Json> = {};
    for (const field of Object.keys(this.source)) {
      const [source, target] = [this.source[field] ?? null, this.now[field] ?? null];
      if (same(source, seen[field])) continue;
      const merged = mergeObjects({ seen: seen[field], source, target, left: left[field] });
      decided[field] = ((): string => {
        if (same(source, target)) return "agree";
        if (same(target, left[field]) || (left[field] === undefined && target === null)) return "take";
        // What people have been asked, or have put back, is theirs to decide.
        const theirs = this.open && (this.open.decisions > 0 || this.open.fields.includes(field));
        const strategy = theirs ? "manual_review" : (asked ?? this.strategies[field]);
        return strategy === "merge" && !merged ? "manual_review" : (strategy ?? "");
      })();
      if (decided[field] === "take" || decided[field] === "source_wins") written[field] = source;
      if (decided[field] === "merge" && merged) written[field] = merged;
    }
    const of = (...kinds: string[]) =>
      Object.keys(decided)
        .filter((field) => kinds.includes(decided[field] ?? ""))
        .sort();
    this.now = { ...this.now, ...written };
    const evidence = (fields: readonly string[]) => ({
      seen: pick(seen, fields),
      source: pick(this.source, fields),
      target: pick(before, fields),
      left: pick(left, fields),
    });
    for (const strategy of ["source_wins", "target_wins"] as const)
      this.keep(strategy, of(strategy), evidence(of(strategy)), execution);

    const asks = of("manual_review");
    this.remember(decided, asks, Object.keys(written).length > 0);
    if (asks.length > 0) this.ask(asks, evidence(asks), execution);
    else if (this.open) Object.assign(this.open, { state: "resolved", by: "sync" });
    if (asks.length > 0) return "in_conflict";
    return Object.keys(written).length > 0 ? "updated" : "unchanged";
  }

  /** What a person decides of an entry; null: puts the decision back. */
  decide(entry: Entry, strategy: Decision | null, data: Values): Refusal | undefined {
    if (entry.state === "superseded") return "superseded";
    const again = entry.strategy !== null;
    if (entry.state === "resolved" && !again) return "undecided";
    if (strategy === null && this.open) return "stopped";
    const { fields } = entry;
    const hidden = this.hidden.get(entry) ?? { record: {} };
    if (!same(pick(this.now, fields), again ? entry.after : entry.target)) return "edited";
    const expected = again ? entry.source : entry.seen;
    if (this.history === "values" ? !same(pick(this.seen, fields), expected) : again && !same(this.seen, hidden.record))
      return "changed";

    if (!again) hidden.before = { seen: this.seen, left: this.left };
    const kept = again ? entry.target : {};
    this.now = { ...this.now, ...(strategy === "source_wins" ? entry.source : strategy === "merge" ? pick(data, fields) : kept) };
    // What the target holds instead of the source's value counts as somebody's edit of it.
    const stands = strategy === "source_wins" ? pick(this.now, fields) : entry.source;
    if (this.history === "values") {
      this.seen = { ...without(this.seen, fields), ...(strategy === null ? entry.seen : entry.source) };
      this.left = { ...without(this.left, fields), ...(strategy === null ? entry.left : stands) };
    } else {
      this.seen = strategy === null ? (hidden.before?.seen ?? {}) : hidden.record;
      this.left = strategy === null ? (hidden.before?.left ?? {}) : { ...hidden.record, ...stands };
    }
    entry.decisions++;
    entry.strategy = strategy;
    entry.state = strategy === null ? "open" : "resolved";
    entry.by = strategy === null ? null : "person";
    entry.after = strategy === null ? null : pick(this.now, fields);
    return undefined;
  }

  private known(remembered: Values, present: Values): Values {
    return this.history === "values" ? remembered : same(remembered, present) ? present : {};
  }

  private remember(decided: Readonly<Record<string, string>>, asks: readonly string[], wrote: boolean): void {
    const settled = Object.keys(decided).filter((field) => !asks.includes(field));
    const stands = Object.fromEntries(
      settled.map((field) => [
        field,
        (decided[field] === "target_wins" || decided[field] === "merge" ? this.source[field] : this.now[field]) ?? null,
      ]),
    );
    if (this.history === "values") {
      this.seen = { ...this.seen, ...pick(this.source, settled) };
      this.left = { ...this.left, ...stands };
    } else if (settled.length > 0 && asks.length === 0) {
      this.seen = this.source;
      this.left = { ...this.left, ...stands };
    } else if (wrote) {
      // The row is another one now, and what the source says is not settled: nothing of it is known any more.
      this.seen = this.left = {};
    }
  }

  /** What was decided by policy, with the values that were not written. A difference that stays is told once. */
  private keep(
    strategy: "source_wins" | "target_wins",
    fields: readonly string[],
    evidence: Pick<Entry, "seen" | "source" | "target" | "left">,
    execution: number,
  ): void {
    const told = this.entries.some(
      (entry) =>
        entry.by === "policy" &&
        entry.strategy === "target_wins" &&
        same([entry.fields, entry.source, entry.target], [fields, evidence.source, evidence.target]),
    );
    if (fields.length === 0 || (strategy === "target_wins" && told)) return;
    this.add({
      ...evidence,
      fields,
      strategy,
      state: "resolved",
      by: "policy",
      attempts: 1,
      decisions: 0,
      since: execution,
      after: strategy === "source_wins" ? evidence.source : evidence.target,
    });
  }

  private ask(fields: readonly string[], evidence: Pick<Entry, "seen" | "source" | "target" | "left">, execution: number): void {
    const { open } = this;
    if (open && same([open.fields, open.source, open.target], [fields, evidence.source, evidence.target])) {
      open.attempts++;
      this.hidden.set(open, { ...this.hidden.get(open), record: this.source });
      return;
    }
    if (open) open.state = "superseded";
    this.add({
      ...evidence,
      fields,
      strategy: null,
      state: "open",
      by: null,
      attempts: (open?.attempts ?? 0) + 1,
      decisions: open?.decisions ?? 0,
      since: open?.since ?? execution,
      after: null,
    });
  }

  private add(entry: Entry): void {
    this.entries.push(entry);
    this.hidden.set(entry, { record: this.source });
  }
}

function pick(values: Values, fields: readonly string[]): Values {
  return Object.fromEntries(Object.entries(values).filter(([field]) => fields.includes(field)));
}

function without(values: Values, fields: readonly string[]): Values {
  return Object.fromEntries(Object.entries(values).filter(([field]) => !fields.includes(field)));
}
