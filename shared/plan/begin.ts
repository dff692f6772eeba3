// What every start has in common, whatever it reads: a request's, a job's, an adoption's, and the release of waiting
// records.
import { assertKnown, partiesOf } from "../contract/identities.ts";
import type { Finding } from "../contract/finding.ts";
import { leaveOutUnfit, type FitEntities } from "../contract/leave-out-unfit.ts";
import type { Context } from "../context.ts";
import type { Entity } from "../entity/define-entity.ts";
import { sendPages } from "../queue/send-pages.ts";
import type { SourcePosition } from "../sql/position.ts";
import { beginExecution, type NewExecution } from "../target/plan.ts";

export interface BegunExecution {
  readonly execution: string;
  readonly entities: readonly string[];
  readonly chains: readonly { readonly entity: string; readonly capture: string }[];
  /** Entities that were asked for and are left out, because a catalog does not fit them. */
  readonly paused: FitEntities["paused"];
  readonly warnings: FitEntities["warnings"];
}

/** What is to be checked before anything is read. */
export interface Undertaking {
  readonly requested: readonly Entity[];
  readonly work: NonNullable<Parameters<typeof leaveOutUnfit>[3]>;
  readonly capture: string;
  /** Writes down what the target has to know of the entities, once it is known that this is the target. */
  readonly define: () => Promise<void>;
}

/** Which of the requested entities may run, and what of that has to be told. */
export interface Admitted {
  readonly contract: FitEntities;
  /** Sources that nobody has accepted yet, and that a dry run may read. */
  readonly unknown: readonly Finding[];
}

/**
 * The first half of a start: both databases are the ones that are known here, the definitions are written down, and
 * entities that a catalog does not fit are left out.
 * @throws IsthmusError SOURCE_UNKNOWN, TARGET_UNKNOWN, INSTALLATION_UNKNOWN, CONTRACT_BROKEN, CAPTURE_IMPOSSIBLE,
 * SIDE_EFFECTS_UNACKNOWLEDGED.
 */
export async function admit(
  context: Context,
  sourceId: number,
  { requested, work, capture, define }: Undertaking,
): Promise<Admitted> {
  const unknown = await assertKnown(context, sourceId, work === "plan");
  await define();
  return { contract: await leaveOutUnfit(context, sourceId, requested, work, capture), unknown };
}

/**
 * The second half: writes execution and chains in one commit, and sends the first pages.
 * @throws IsthmusError EXECUTION_ACTIVE; nothing is begun then.
 */
export async function begin(
  context: Context,
  position: SourcePosition,
  work: Omit<NewExecution, "brake" | "parties">,
): Promise<string> {
  const { config, target, cache } = context;
  const begun = await beginExecution(target, position, { ...work, brake: brakeOf(config), parties: partiesOf(context) });
  // A target that is put back to an older state has forgotten runs that the cache still counts.
  if (work.kind === "sync") await cache.rememberExecution(begun.ordinal);
  await sendPages(context, begun.dispatch);
  return begun.execution;
}

function brakeOf(config: Context["config"]): NewExecution["brake"] {
  return {
    share: config.ISTHMUS_BRAKE_SHARE,
    records: config.ISTHMUS_BRAKE_RECORDS,
    overwriteShare: config.ISTHMUS_BRAKE_OVERWRITE_SHARE,
    overwriteRecords: config.ISTHMUS_BRAKE_OVERWRITE_RECORDS,
  };
}
