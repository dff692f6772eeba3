import type { Checkpoint } from "../target/plan.ts";
import type { Watermark } from "../source/keys.ts";
import type { SourcePosition } from "../sql/position.ts";
import { whereaboutsOf } from "../source/position.ts";
import { spanIsComparable } from "../sql/xid.ts";

/** What a request may ask for. auto: the cheapest capture that finds every insert and update. */
export const CAPTURES = ["auto", "full", "xmin", "modified", "digest"] as const;
export type RequestedCapture = (typeof CAPTURES)[number];

export type Choice =
  | {
      readonly capture: "full";
      readonly reason:
        | "requested"
        | "first_time"
        | "source_changed"
        | "source_promoted"
        | "source_restored"
        | "definition_changed"
        | "too_long_ago";
    }
  | {
      readonly capture: "xmin";
      readonly from: string;
      /** Both sides are to be compared besides: the server may have been put back and have moved on since, or rows changed unwritten. */
      readonly digest: boolean;
    }
  | { readonly capture: "modified"; readonly after: Watermark }
  | { readonly capture: "wait" };

/**
 * How an entity's changes are found: incrementally where its checkpoint can be trusted, else in full. `stamped`: it
 * has a column by which modified rows are found. `moved`: rows of either side may have changed without having been
 * written.
 */
export function chooseCapture(
  checkpoint: Checkpoint | undefined,
  position: SourcePosition,
  definitionHash: string,
  requested: RequestedCapture,
  stamped = false,
  moved = false,
): Choice {
  if (!checkpoint) return { capture: "full", reason: "first_time" };
  const whereabouts = whereaboutsOf(checkpoint, checkpoint.horizon, position);
  // An older state must not be taken for the current one; a replica will catch up with it.
  if (whereabouts === "behind") return { capture: "wait" };
  if (whereabouts !== "same") return { capture: "full", reason: `source_${whereabouts}` };
  if (requested === "full") return { capture: "full", reason: "requested" };
  if (checkpoint.definition_hash !== definitionHash) return { capture: "full", reason: "definition_changed" };
  if (!spanIsComparable(checkpoint.horizon, position.xmax)) return { capture: "full", reason: "too_long_ago" };
  const known = checkpoint.server_starts.includes(position.server_start);
  if (requested === "modified" && stamped && known && !moved) {
    return { capture: "modified", after: { at: checkpoint.watermark_at, id: checkpoint.watermark_id } };
  }
  return { capture: "xmin", from: checkpoint.horizon, digest: requested === "digest" || !known || moved };
}

/** Whether the node that answers holds what was read of an entity, as far as its checkpoint tells: else nothing may be read of it. */
export function holdsWhatWasRead(checkpoint: Checkpoint | undefined, position: SourcePosition): boolean {
  return checkpoint === undefined || whereaboutsOf(checkpoint, checkpoint.horizon, position) === "same";
}

export interface Range {
  readonly range_from: string | null;
  readonly range_to: string | null;
}

/**
 * Splits the keys of a table into ranges of about rowsPerChain rows, at most maxChains, open at both ends: a key
 * that is added while the chains run falls into one of them.
 */
export function splitRange(
  lowest: string | null,
  highest: string | null,
  rows: number,
  rowsPerChain: number,
  maxChains: number,
): Range[] {
  const chains = BigInt(Math.max(1, Math.min(maxChains, Math.ceil(rows / rowsPerChain))));
  if (lowest === null || highest === null || chains === 1n) return [{ range_from: null, range_to: null }];
  const low = BigInt(lowest);
  const width = BigInt(highest) - low + 1n;
  const bounds: bigint[] = [];
  for (let index = 1n; index < chains; index++) bounds.push(low + (width * index) / chains);
  // More ranges than keys: none begins at the lowest, which belongs to the first.
  const firsts = [...new Set(bounds)].filter((first) => first > low);
  return [null, ...firsts].map((from, index) => {
    const next = firsts[index];
    return { range_from: from?.toString() ?? null, range_to: next === undefined ? null : (next - 1n).toString() };
  });
}
