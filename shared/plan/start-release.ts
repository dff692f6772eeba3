import type { Context } from "../context.ts";
import { sourcePosition } from "../source/position.ts";
import { lookAtShapes } from "../target/entity-shapes.ts";
import { beginSource, checkpoints } from "../target/plan.ts";
import { entitiesWithPendingKeys, releaseWaiting } from "../target/release.ts";
import { admit, begin } from "./begin.ts";
import { holdsWhatWasRead } from "./choose-capture.ts";

/**
 * Reads what was asked for outside of any running execution: waiting records whose parents have landed since, and
 * others whose time has come.
 * @returns the entities, none when there is nothing to read.
 * @throws IsthmusError as a start on demand.
 */
export async function startRelease(context: Context): Promise<string[]> {
  const { target, source, config } = context;
  const sourceId = await beginSource(target, config.SOURCE_NAME);
  await releaseWaiting(target, sourceId);
  const pending = (await entitiesWithPendingKeys(target, sourceId)).flatMap((name) => context.entities.get(name) ?? []);
  if (pending.length === 0) return [];
  const { contract } = await admit(context, sourceId, {
    requested: pending,
    work: "sync",
    capture: "keys",
    define: () => Promise.resolve(),
  });
  const position = await sourcePosition(source);
  const known = new Map((await checkpoints(target, sourceId)).map((checkpoint) => [checkpoint.entity, checkpoint]));
  // Another source, or an older state of it, is for an execution that reads everything.
  const entities = contract.runnable.map(({ name }) => name).filter((name) => holdsWhatWasRead(known.get(name), position));
  if (entities.length === 0) return [];
  await lookAtShapes(target, sourceId, entities, contract.sourceShapes);
  await begin(context, position, {
    kind: "release",
    source_id: sourceId,
    job_id: null,
    triggered_by: "release",
    request: { entities, page_size: config.ISTHMUS_PAGE_SIZE },
    entities,
    page_size: config.ISTHMUS_PAGE_SIZE,
    chains: [],
    idle: [],
  });
  return entities;
}
