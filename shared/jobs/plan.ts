import { inTransaction, query } from "../db/query.ts";
import type { Entity } from "../entities/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import type { Context } from "../pipeline/types.ts";
import { changedKeys } from "../sql/source-keys.ts";
import { activeExecution, beginExecution, beginSource, checkpoints, openEntities, registerEntities } from "../sql/plan.ts";
import { sourcePosition, type SourcePosition } from "../sql/source-position.ts";
import { tableColumns, tableSize } from "../sql/source-tables.ts";
import { sourceColumnsRead } from "../entities/validate-registry.ts";
import { chooseCapture, splitRange } from "./choose-capture.ts";
import { dependencyOrder } from "./dependency-order.ts";

export interface ExecutionRequest {
  /** Names of entities; undefined: all. */
  readonly entities?: readonly string[] | undefined;
  readonly capture: "auto" | "full";
  readonly triggeredBy: string;
  readonly jobId?: string | undefined;
}

export interface BegunExecution {
  readonly execution: string;
  readonly entities: readonly string[];
  readonly chains: readonly { readonly entity: string; readonly capture: string }[];
}

/**
 * Plans an execution and sends its first pages: takes the horizon before anything else is read, chooses a capture per
 * entity, and writes execution and chains in one commit.
 * @throws IsthmusError NOT_FOUND, EXECUTION_ACTIVE, TARGET_NOT_EMPTY, CONTRACT_BROKEN, SOURCE_BEHIND; nothing is begun then.
 */
export async function startExecution(context: Context, request: ExecutionRequest): Promise<BegunExecution> {
  const { source, target, config, hashes } = context;
  const entities = dependencyOrder(selectEntities(context, request.entities));
  const names = entities.map((entity) => entity.name);

  const position = await sourcePosition(source);
  const sourceId = await beginSource(target, config.SOURCE_NAME);
  const active = await activeExecution(target, sourceId, names);
  if (active !== undefined) {
    throw new IsthmusError("EXECUTION_ACTIVE", `Execution ${active} is running and covers some of these entities.`, {
      detail: { execution: active },
    });
  }
  for (const entity of entities) await assertSourceColumns(context, entity);
  await inTransaction(target, "target", async (tx) => {
    await registerEntities(tx, sourceId, [...context.entities.values()], hashes);
    await openEntities(tx, sourceId, names);
  });

  const known = new Map((await checkpoints(target, sourceId)).map((checkpoint) => [checkpoint.entity, checkpoint]));
  const chains: object[] = [];
  const idle: object[] = [];
  for (const entity of entities) {
    const choice = chooseCapture(known.get(entity.name), position, hashes.get(entity.name) ?? "", request.capture);
    if (choice.capture === "wait") throw new IsthmusError("SOURCE_BEHIND", undefined, { detail: { entity: entity.name } });
    if (choice.capture === "full") {
      const size = await tableSize(source, entity);
      const ranges = splitRange(
        size.lowest,
        size.highest,
        size.rows,
        config.ISTHMUS_ROWS_PER_CHAIN,
        config.ISTHMUS_CHAINS_PER_ENTITY,
      );
      chains.push(...ranges.map((range) => ({ entity: entity.name, capture: "full", ...range })));
    } else if (await hasChanges(context, entity, choice.from, position)) {
      chains.push({ entity: entity.name, capture: "xmin", range_from: null, range_to: null, changed_from: choice.from });
    } else {
      idle.push({ entity: entity.name, horizon: choice.from });
    }
  }

  const begun = await beginExecution(target, position, {
    kind: "sync",
    source_id: sourceId,
    job_id: request.jobId ?? null,
    triggered_by: request.triggeredBy,
    request: { entities: request.entities ?? null, capture: request.capture },
    entities: names,
    page_size: config.ISTHMUS_PAGE_SIZE,
    chains,
    idle,
  });
  try {
    await context.queue.send(begun.dispatch);
  } catch {
    // The execution stands; sync-tick sends its pages.
    context.log.error("page.not_sent", { execution: begun.execution });
  }
  return { execution: begun.execution, entities: names, chains: chains as { entity: string; capture: string }[] };
}

export function selectEntities(context: Context, names: readonly string[] | undefined): Entity[] {
  if (names === undefined) return [...context.entities.values()];
  return [...new Set(names)].map((name) => {
    const entity = context.entities.get(name);
    if (!entity) {
      throw new IsthmusError("NOT_FOUND", `There is no entity ${JSON.stringify(name.slice(0, 60))}.`, {
        detail: { known: [...context.entities.keys()].sort() },
      });
    }
    return entity;
  });
}

async function hasChanges(context: Context, entity: Entity, from: string, position: SourcePosition): Promise<boolean> {
  const keys = changedKeys(entity, { after: null, upTo: null, limit: 1 }, from, position.xmax);
  return (await query(context.source, "source", keys.text, keys.parameters)).length > 0;
}

/** Every column of the driving table must be read or ignored with a reason, and every column that is read must exist. */
async function assertSourceColumns(context: Context, entity: Entity): Promise<void> {
  const present = await tableColumns(context.source, entity.source.table);
  const read = sourceColumnsRead(entity);
  const missing = [...read].filter((column) => !present.includes(column) && column !== "xmin");
  if (missing.length > 0) {
    throw new IsthmusError(
      "CONTRACT_BROKEN",
      `${entity.name}: the source table ${entity.source.table} has no column ${missing.join(", ")}.`,
      {
        detail: { entity: entity.name, hint: "Correct the entity file, or grant the source role SELECT on the table." },
      },
    );
  }
  const unknown = present.filter((column) => !read.has(column) && !Object.hasOwn(entity.source.ignored, column));
  if (unknown.length > 0) context.log.info("source.new_columns", { entity: entity.name, columns: unknown });
}
