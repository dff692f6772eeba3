import { NONE_STRAYED, type DigestReport, type TargetState } from "./history-target.ts";
import {
  differenceOf,
  isBehind,
  placeOf,
  type Change,
  type Difference,
  type LegacyModel,
  type Name,
  type Place,
} from "./legacy-model.ts";

/** How a history's executions find changes. Offices have no stamps: `modified` finds them as xmin does. */
export type HistoryCapture = "xmin" | "modified" | "digest";

/**
 * Whether an execution that succeeds must have landed a record. `changes`: the last one that was committed before it
 * began, and those since. What bypassed its stamp, came late, or was stamped with nothing, the past or the future,
 * stamps may miss. `moved`: it changed again while pages ran; behind a scan by place it is left to the next
 * execution.
 */
const MUST_LAND: Readonly<Record<HistoryCapture, (name: Name, changes: readonly Change[], moved: boolean) => boolean>> = {
  xmin: (_, __, moved) => !moved,
  modified: (name, changes, moved) => (name.startsWith("office") ? !moved : changes.every(({ beyond }) => beyond)),
  digest: () => true,
};
/** Whether it must have deleted what was gone before it began. */
const MUST_DELETE: Readonly<Record<HistoryCapture, boolean>> = { xmin: false, modified: false, digest: true };

const entityOf = (name: Name): string => `${name.split(" ")[0] ?? ""}s`;

export interface Ended {
  readonly entities: readonly string[];
  /** Entities that it compared whole beside its capture. */
  readonly compared: ReadonlySet<string>;
  /** What its reader showed when it began. */
  readonly began: number;
  readonly capture: HistoryCapture;
  /** What its reader showed when its first page began. */
  paged?: number;
}

/** @throws Error when an execution has succeeded without what it promises; what is in the queue, or asked for since, is excused. */
export function assertKept(
  { entities, compared, began, capture, paged }: Ended,
  model: LegacyModel,
  { rows, queued, asked }: TargetState,
): void {
  const committed = model.rows(began);
  for (const name of new Set([...committed.keys(), ...rows.keys()])) {
    if (!entities.includes(entityOf(name)) || queued.has(name) || asked.has(name)) continue;
    const changes = model.changesOf(name, began);
    const version = committed.get(name)?.version;
    const landed = rows.get(name)?.version ?? 0;
    if (version === undefined) {
      if (MUST_DELETE[capture] && landed > 0 && changes.every(({ row }) => row === null)) {
        throw new Error(`${name} is there, but was deleted before the execution`);
      }
      continue;
    }
    const moved = paged !== undefined && model.changesOf(name, paged).length > 1;
    const finds = capture === "modified" && compared.has(entityOf(name)) ? "xmin" : capture;
    if (landed < version && model.stayed(name, began) && MUST_LAND[finds](name, changes, moved)) {
      throw new Error(`${name} is at version ${landed}, but ${version} was committed before the execution`);
    }
  }
}

/** What an execution that ran alone has left undone, and how it stood before. */
export interface Run {
  readonly before: Difference;
  readonly after: Difference;
  /** Entities that it compared whole. */
  readonly compared: ReadonlySet<string>;
  /** How far stamps had been read. */
  readonly watermark: Place;
  /** Records that were looked at by their keys in it: asked for, or released. */
  readonly askedInIt: ReadonlySet<Name>;
  readonly askedEver: ReadonlySet<Name>;
  /** Records that had landed, whatever became of them. */
  readonly landed: ReadonlySet<Name>;
}

/**
 * What differs after an execution that should not, or does not although nothing has looked at it: exactly the records
 * that its capture promises nothing about are left.
 */
export function wronglyLeft(
  capture: HistoryCapture,
  model: LegacyModel,
  { before, after, compared, watermark, askedInIt, askedEver, landed }: Run,
) {
  const rows = model.rows();
  const isCompared = (name: Name) => compared.has(entityOf(name));
  const finds = (name: Name) => {
    if (capture !== "modified" || name.startsWith("office") || isCompared(name)) return true;
    const place = placeOf(name, rows.get(name));
    return place !== undefined && isBehind(watermark, place);
  };
  const left = new Set([...after.missing, ...after.changed]);
  return {
    notFound: [...left].filter(finds),
    foundByChance: [...before.missing, ...before.changed].filter(
      (name) => !finds(name) && !askedInIt.has(name) && !left.has(name),
    ),
    deletedByChance: [...landed].filter((name) => !rows.has(name) && !askedEver.has(name) && !after.surplus.includes(name)),
    notDeleted: after.surplus.filter(isCompared),
  };
}
export const NOTHING_WRONG: ReturnType<typeof wronglyLeft> = {
  notFound: [],
  foundByChance: [],
  deletedByChance: [],
  notDeleted: [],
};

/**
 * What a digest must report of how the target stands, and what it has: of a record in the queue only that it is gone.
 * Whether it has changed since it was queued, the model does not know.
 */
export function reports(model: LegacyModel, { rows, queued }: TargetState, found: DigestReport) {
  const committed = model.rows();
  const settled = (name: Name) => !queued.has(name);
  const { missing, changed } = differenceOf(committed, rows);
  const known = new Set([...rows.keys(), ...queued]);
  const expected: DigestReport = {
    missing: missing.filter(settled),
    changed: changed.filter(settled),
    surplus: [...known].filter((name) => !committed.has(name)).sort(),
    target_deleted: [],
    edited: [],
    ...NONE_STRAYED,
  };
  return { expected, found: { ...found, missing: found.missing.filter(settled), changed: found.changed.filter(settled) } };
}
