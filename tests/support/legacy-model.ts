// What legacy sessions did, kept in memory. It shares nothing with what is judged by it.

export type Table = "office" | "patient";

/** What the model tracks of a row. Per key, later versions are higher: the row's lock sees to that. */
export interface Row {
  readonly version: number;
  /** The office of a patient. */
  readonly office: number | null;
  /** updated_at, in seconds of the history's clock; offices have none. */
  readonly stamp: number | null;
}

/** `office 3` */
export type Name = `${Table} ${number}`;
export const nameOf = (table: Table, key: number): Name => `${table} ${key}`;
export const keyOf = (name: Name): number => Number(name.split(" ")[1]);

/** Stamps from here on lie ahead of every clock. */
export const FUTURE = 2 * 10 ** 9;

/** Where a row stands in the order of stamps, then keys; undefined: nowhere that a clock would reach. */
export type Place = readonly [stamp: number, key: number];
export function placeOf(name: Name, row: Row | null | undefined): Place | undefined {
  const stamp = row?.stamp ?? null;
  return stamp === null || stamp >= FUTURE ? undefined : [stamp, keyOf(name)];
}
export const isBehind = (one: Place, other: Place): boolean => one[0] < other[0] || (one[0] === other[0] && one[1] < other[1]);

/** A committed change of a row; null: it was deleted. */
export interface Change {
  readonly name: Name;
  readonly row: Row | null;
  /** The row stands beyond all that had been committed before: whoever has read these looks for it still. */
  readonly beyond: boolean;
}

interface Write {
  readonly name: Name;
  readonly row: Row | null;
}

/** A list of writes per savepoint; the first is the transaction's own. */
type Frames = readonly (readonly Write[])[];

/** Sessions, their transactions and savepoints, and everything that was committed, in order. */
export class LegacyModel {
  #changes: Change[] = [];
  readonly #open = new Map<number, Frames>();
  #prepared = new Map<string, readonly Write[]>();
  #highest: Place = [-Infinity, 0];

  /** How many changes are committed: a point in time. */
  get now(): number {
    return this.#changes.length;
  }

  /** The committed rows, now or at an earlier point. */
  rows(at = this.now): Map<Name, Row> {
    const rows = new Map<Name, Row>();
    for (const { name, row } of this.#changes.slice(0, at)) {
      if (row) rows.set(name, row);
      else rows.delete(name);
    }
    return rows;
  }

  /** Changes of a row since it became what it was at a point in time, that one included. */
  changesOf(name: Name, at: number): readonly Change[] {
    const from = this.#changes.slice(0, at).findLastIndex((change) => change.name === name);
    return this.#changes.slice(Math.max(0, from)).filter((change) => change.name === name);
  }

  /** Whether a row was there all the time since. */
  stayed(name: Name, since: number): boolean {
    const changes = this.changesOf(name, since);
    return this.rows(since).has(name) && changes.every(({ row }) => row !== null);
  }

  get prepared(): readonly string[] {
    return [...this.#prepared.keys()];
  }

  inTransaction(session: number): boolean {
    return this.#open.has(session);
  }

  /** Savepoints of a session's transaction. */
  savepoints(session: number): number {
    return Math.max(0, (this.#open.get(session)?.length ?? 0) - 1);
  }

  /** The row as a session sees it. */
  sees(session: number, name: Name): Row | undefined {
    const own = this.#open.get(session)?.flat() ?? [];
    const write = own.findLast((one) => one.name === name);
    return write ? (write.row ?? undefined) : this.rows().get(name);
  }

  begin(session: number): void {
    this.#open.set(session, [[]]);
  }

  write(session: number, name: Name, row: Row | null): void {
    const frames = this.#open.get(session);
    if (frames) this.#open.set(session, [...frames.slice(0, -1), [...(frames.at(-1) ?? []), { name, row }]]);
    else this.#commit([{ name, row }]);
  }

  savepoint(session: number): void {
    this.#open.set(session, [...this.#frames(session), []]);
  }

  rollbackToSavepoint(session: number): void {
    this.#open.set(session, [...this.#frames(session).slice(0, -1), []]);
  }

  releaseSavepoint(session: number): void {
    const frames = this.#frames(session);
    this.#open.set(session, [...frames.slice(0, -2), frames.slice(-2).flat()]);
  }

  commit(session: number): void {
    this.#commit(this.#frames(session).flat());
    this.#open.delete(session);
  }

  rollback(session: number): void {
    this.#open.delete(session);
  }

  prepare(session: number, transaction: string): void {
    this.#prepared.set(transaction, this.#frames(session).flat());
    this.#open.delete(session);
  }

  commitPrepared(transaction: string): void {
    this.#commit(this.#prepared.get(transaction) ?? []);
    this.#prepared.delete(transaction);
  }

  rollbackPrepared(transaction: string): void {
    this.#prepared.delete(transaction);
  }

  /** What a replica has that receives nothing from here on. @returns what makes the model forget the rest. */
  received(): () => void {
    const [changes, prepared, highest] = [this.#changes, new Map(this.#prepared), this.#highest];
    return () => {
      this.#open.clear();
      [this.#changes, this.#prepared, this.#highest] = [changes, prepared, highest];
    };
  }

  #frames(session: number): Frames {
    return this.#open.get(session) ?? [[]];
  }

  #commit(writes: readonly Write[]): void {
    const last = new Map(writes.map((write) => [write.name, write]));
    const before = this.#highest;
    for (const { name, row } of last.values()) {
      const place = placeOf(name, row);
      this.#changes = [...this.#changes, { name, row, beyond: place !== undefined && isBehind(before, place) }];
      if (place && isBehind(this.#highest, place)) this.#highest = place;
    }
  }
}

/** How both sides differ, by record. */
export interface Difference {
  /** In the source, not in the target. */
  readonly missing: readonly Name[];
  /** In the target, not in the source. */
  readonly surplus: readonly Name[];
  /** On both sides, unlike. */
  readonly changed: readonly Name[];
}
export const NO_DIFFERENCE: Difference = { missing: [], surplus: [], changed: [] };

export function differenceOf(source: ReadonlyMap<Name, Row>, target: ReadonlyMap<Name, Row>): Difference {
  return {
    missing: [...source.keys()].filter((name) => !target.has(name)).sort(),
    surplus: [...target.keys()].filter((name) => !source.has(name)).sort(),
    changed: [...source]
      .filter(([name, row]) => target.has(name) && JSON.stringify(row) !== JSON.stringify(target.get(name)))
      .map(([name]) => name)
      .sort(),
  };
}
