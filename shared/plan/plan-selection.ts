import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import type { Context } from "../context.ts";
import type { ColumnKinds } from "../entity/kinds.ts";
import { beginSource, checkpoints, openEntities, registerEntities } from "../target/plan.ts";
import { lookAtShapes } from "../target/entity-shapes.ts";
import { sourcePosition } from "../source/position.ts";
import { allPaused } from "../contract/leave-out-unfit.ts";
import { admit, begin, type BegunExecution } from "./begin.ts";
import { holdsWhatWasRead } from "./choose-capture.ts";
import { dependencyOrder, selectEntities, withAncestors, withDescendants } from "./dependency-order.ts";
import { reshapedFindings } from "../contract/reshaped.ts";
import { selectedEntities, selectionOf, type SelectiveSyncConfig } from "./selective-sync.ts";

export interface SelectionRequest extends SelectiveSyncConfig {
  readonly triggeredBy: string;
  readonly jobId?: string | undefined;
}

/**
 * Reads certain records again, whether they have changed or not: ids by their keys, the rest page by page on the
 * source. Parents that have not landed come with them, and their dependants where that is asked for. No checkpoint
 * moves, both sides are not compared, and other executions may run over the same entities.
 * @throws IsthmusError TARGET_NOT_EMPTY, CONTRACT_BROKEN, SIDE_EFFECTS_UNACKNOWLEDGED, EXECUTION_ACTIVE (an
 * adoption), SOURCE_BEHIND, SOURCE_CHANGED, SOURCE_UNKNOWN, TARGET_UNKNOWN, INSTALLATION_UNKNOWN.
 */
export async function startSelection(context: Context, request: SelectionRequest): Promise<BegunExecution> {
  const { target, config } = context;
  const { triggeredBy, jobId, ...asked } = request;
  const { dryRun = false, dependants = false, priorities } = asked;
  const selected = selectedEntities(asked, context.entities);
  const reached = withAncestors(context.entities, dependants ? withDescendants(context.entities, selected) : selected);

  const sourceId = await beginSource(target, config.SOURCE_NAME);
  const ordered = dependencyOrder(selectEntities(context, reached), priorities);
  const { contract, unknown } = await admit(context, sourceId, {
    requested: ordered,
    work: dryRun ? "plan" : "sync",
    capture: "keys",
    define: () => registerEntities(target, sourceId, ordered, context.hashes),
  });
  const runnable = contract.runnable.filter(({ name }) => selected.includes(name));
  const paused = contract.paused.filter(({ entity }) => selected.includes(entity));
  if (runnable.length === 0) throw allPaused(paused, "keys");
  const names = contract.runnable.map((entity) => entity.name);
  const position = await sourcePosition(context.source);
  const known = new Map((await checkpoints(target, sourceId)).map((checkpoint) => [checkpoint.entity, checkpoint]));
  const elsewhere = names.find((name) => !holdsWhatWasRead(known.get(name), position));
  if (elsewhere !== undefined)
    throw new IsthmusError(position.in_recovery ? "SOURCE_BEHIND" : "SOURCE_CHANGED", undefined, {
      detail: { entity: elsewhere },
    });
  // The others are opened when a record of theirs is asked for.
  await openEntities(
    target,
    sourceId,
    runnable.map((entity) => entity.name),
    dryRun,
  );

  const shapes = await lookAtShapes(target, sourceId, names, contract.sourceShapes);
  const landed = runnable.filter(({ name }) => known.has(name));
  const warnings = [
    ...unknown,
    ...contract.warnings.filter(({ entity }) => entity === null || selected.includes(entity)),
    ...reshapedFindings(landed, shapes, false),
  ];
  const chains = runnable.flatMap((entity) => selectionChain(asked, entity, context.columns.source));
  const pageSize = asked.pageSize ?? config.ISTHMUS_PAGE_SIZE;
  const execution = await begin(context, position, {
    kind: dryRun ? "plan" : "release",
    selective: true,
    source_id: sourceId,
    job_id: jobId ?? null,
    triggered_by: triggeredBy,
    // Ids are kept where they wait to be read.
    request: { ...asked, ...(asked.legacyIds ? { legacyIds: countsOf(asked.legacyIds) } : {}), page_size: pageSize },
    entities: names,
    page_size: pageSize,
    chains,
    idle: [],
    requested: runnable.flatMap(({ name }) =>
      [...new Set(asked.legacyIds?.[name])].map((k) => ({ entity: name, k, reason: dependants ? "dependants" : "requested" })),
    ),
    contract: { paused, warnings },
  });
  const byKeys = runnable.filter(({ name }) => Object.hasOwn(asked.legacyIds ?? {}, name));
  return {
    execution,
    entities: names,
    chains: [
      ...byKeys.map(({ name }) => ({ entity: name, capture: "keys" })),
      ...chains.map(({ entity, capture }) => ({ entity, capture })),
    ],
    paused,
    warnings,
  };
}

function selectionChain(asked: SelectiveSyncConfig, entity: Entity, kinds: ColumnKinds) {
  const selection = selectionOf(asked, entity, kinds);
  return selection ? [{ entity: entity.name, capture: "selection", selection }] : [];
}

function countsOf(lists: Readonly<Record<string, readonly string[]>>): Record<string, number> {
  return Object.fromEntries(Object.entries(lists).map(([name, list]) => [name, list.length]));
}
