import type { Entity, Strategy } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import type { Context } from "../context.ts";
import {
  activeExecution,
  beginSource,
  checkpoints,
  noticeTarget,
  openEntities,
  noteDefinitions,
  registerEntities,
} from "../target/plan.ts";
import { lookAtShapes } from "../target/entity-shapes.ts";
import { sourcePosition } from "../source/position.ts";
import { assertOtherCapture } from "./other-capture.ts";
import { admit, begin, type BegunExecution } from "./begin.ts";
import { chooseCapture, type Choice, type RequestedCapture } from "./choose-capture.ts";
import { dependencyOrder, selectEntities } from "./dependency-order.ts";
import { heldHorizon } from "./held-horizon.ts";
import { changedChains, changedTables, digestChain, fullChains, modifiedChains } from "./plan-chains.ts";
import { hasMoved, reshapedFindings } from "../contract/reshaped.ts";

export interface ExecutionRequest {
  /** Names of entities; undefined: all. */
  readonly entities?: readonly string[] | undefined;
  /** digest: as auto, and then both sides are compared by hashes. */
  readonly capture: RequestedCapture;
  /** Entities to run first, as far as their parents allow it. */
  readonly priorities?: readonly string[] | undefined;
  /** Records of a page, instead of the configured number. */
  readonly pageSize?: number | undefined;
  /** Who wins where both sides have changed a field, whatever the entities declare. */
  readonly conflictStrategy?: Strategy | undefined;
  /** The source's values are written over what only the target has changed, too. */
  readonly overwriteEdits?: true | undefined;
  /** Tells what a run would do, and writes nothing. */
  readonly dryRun?: boolean | undefined;
  readonly triggeredBy: string;
  readonly jobId?: string | undefined;
}

/**
 * Plans an execution and sends its first pages: leaves out what the catalogs do not fit, takes the horizon before any
 * record is read, chooses a capture per entity, and writes execution and chains in one commit.
 * @throws IsthmusError NOT_FOUND, EXECUTION_ACTIVE, CAPTURE_UNBACKED, TARGET_NOT_EMPTY, CONTRACT_BROKEN,
 * CAPTURE_IMPOSSIBLE, SIDE_EFFECTS_UNACKNOWLEDGED, SOURCE_BEHIND, SOURCE_UNKNOWN, TARGET_UNKNOWN,
 * INSTALLATION_UNKNOWN; nothing is begun then.
 */
export async function startExecution(context: Context, request: ExecutionRequest): Promise<BegunExecution> {
  const { source, target, config, hashes } = context;
  const { dryRun = false, pageSize, conflictStrategy, overwriteEdits } = request;
  const requested = dependencyOrder(selectEntities(context, request.entities), request.priorities);

  const sourceId = await beginSource(target, config.SOURCE_NAME);
  const active = await activeExecution(
    target,
    sourceId,
    requested.map((entity) => entity.name),
  );
  if (active !== undefined) {
    throw new IsthmusError("EXECUTION_ACTIVE", `Execution ${active} is running and covers some of these entities.`, {
      detail: { execution: active },
    });
  }
  if (request.capture === "modified" && !dryRun) await assertOtherCapture(context, requested);
  const { contract, unknown } = await admit(context, sourceId, {
    requested,
    work: dryRun ? "plan" : "sync",
    capture: request.capture,
    define: async () => {
      if (!dryRun) await noticeRestoredTarget(context, sourceId);
      await registerEntities(target, sourceId, [...context.entities.values()], hashes);
      await noteDefinitions(target, sourceId, [...context.entities.keys()]);
    },
  });
  const entities = contract.runnable;
  const names = entities.map((entity) => entity.name);
  const position = await sourcePosition(source);
  await openEntities(target, sourceId, names, dryRun);

  // Before the checkpoints: what is padded otherwise than before changes them.
  const shapes = await lookAtShapes(target, sourceId, names, contract.sourceShapes);
  const known = new Map((await checkpoints(target, sourceId)).map((checkpoint) => [checkpoint.entity, checkpoint]));
  const held = await heldHorizon(
    source,
    position,
    names.flatMap((name) => known.get(name) ?? []),
    config.ISTHMUS_HORIZON_MINUTES,
  );
  const landed = entities.filter(({ name }) => known.has(name));
  const warnings = [...unknown, ...contract.warnings, ...(held ? [held.finding] : []), ...reshapedFindings(landed, shapes, true)];
  const changed = changedTables(context);
  const chains: object[] = [];
  const idle: object[] = [];
  const restored: string[] = [];
  const promoted: string[] = [];
  const blind = new Set(contract.warnings.flatMap(({ code, entity }) => (code === "capture_impossible" ? [entity] : [])));
  for (const entity of entities) {
    const stamped = entity.source.modified !== undefined;
    const choice = chooseCapture(
      known.get(entity.name),
      position,
      hashes.get(entity.name) ?? "",
      request.capture,
      stamped,
      hasMoved(shapes.get(entity.name)),
    );
    if (choice.capture === "wait") throw new IsthmusError("SOURCE_BEHIND", undefined, { detail: { entity: entity.name } });
    const work = await chainsFor(context, entity, choice, {
      dryRun,
      changed,
      blind: blind.has(entity.name),
      joinsMoved: shapes.get(entity.name)?.source_moved === true,
      targetMoved: known.has(entity.name) && shapes.get(entity.name)?.target_moved === true,
      until: position.source_time,
      seenBefore: known.get(entity.name)?.snapshot_xmax ?? null,
    });
    if (choice.capture === "full" && choice.reason === "source_restored") restored.push(entity.name);
    if (choice.capture === "full" && choice.reason === "source_promoted") promoted.push(entity.name);
    chains.push(...work.map((chain) => ({ entity: entity.name, ...chain })));
    if (choice.capture === "xmin" && work.length === 0) idle.push({ entity: entity.name, horizon: choice.from });
  }

  const execution = await begin(context, position, {
    kind: dryRun ? "plan" : "sync",
    source_id: sourceId,
    job_id: request.jobId ?? null,
    triggered_by: request.triggeredBy,
    request: {
      entities: request.entities ?? null,
      capture: request.capture,
      ...(dryRun ? { dryRun } : {}),
      ...(request.priorities ? { priorities: request.priorities } : {}),
      ...(pageSize === undefined ? {} : { pageSize }),
      ...(conflictStrategy === undefined ? {} : { conflictStrategy }),
      ...(overwriteEdits === undefined ? {} : { overwriteEdits }),
    },
    entities: names,
    page_size: pageSize ?? config.ISTHMUS_PAGE_SIZE,
    chains,
    // What a plan has not read, the next run still has to.
    idle: dryRun ? [] : idle,
    restored,
    promoted,
    shapes: [...shapes.values()].map(({ entity, target: here, source: there }) => ({ entity, target: here, source: there })),
    horizon_held: held ? { message: `${held.finding.message} ${held.finding.remedy}`, details: held.details } : null,
    contract: { paused: contract.paused, warnings },
  });
  return {
    execution,
    entities: names,
    chains: chains as { entity: string; capture: string }[],
    paused: contract.paused,
    warnings,
  };
}

/** Of a target that was put back, as a person has accepted, an alert tells; both sides are compared then. */
async function noticeRestoredTarget({ target, cache, log }: Context, sourceId: number): Promise<void> {
  const remembered = await cache.recallExecution();
  if (await noticeTarget(target, sourceId, remembered)) log.error("target.restored", { remembered });
}

interface ChainOptions {
  readonly dryRun: boolean;
  readonly changed: ReturnType<typeof changedTables>;
  /** Written rows of the entity's tables cannot be told: only comparing finds changes. */
  readonly blind: boolean;
  /** What is noted of joined rows may be of others. */
  readonly joinsMoved: boolean;
  /** Rows of the target may have changed without having been written. */
  readonly targetMoved: boolean;
  /** The source's clock. */
  readonly until: string;
  /** The first transaction id that was not assigned when the entity's last run looked. */
  readonly seenBefore: string | null;
}

/** The chains in which an entity's records are found, as was chosen. */
async function chainsFor(
  context: Context,
  entity: Entity,
  choice: Exclude<Choice, { readonly capture: "wait" }>,
  { dryRun, changed, blind, joinsMoved, targetMoved, until, seenBefore }: ChainOptions,
): Promise<object[]> {
  switch (choice.capture) {
    case "full":
      // A full pass looks at the records of the source: what else the target has become, only a comparison tells.
      return [...(await fullChains(context, entity, dryRun)), ...(targetMoved ? [digestChain(context)] : [])];
    case "modified":
      return modifiedChains(context, entity, choice.after, until);
    case "xmin":
      if (blind) return [digestChain(context)];
      return [
        ...(await changedChains(context, entity, { from: choice.from, seenBefore, allJoins: joinsMoved && !dryRun }, changed)),
        ...(choice.digest ? [digestChain(context)] : []),
      ];
  }
}
