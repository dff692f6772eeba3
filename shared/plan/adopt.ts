import type { FitEntities } from "../contract/leave-out-unfit.ts";
import type { Context } from "../context.ts";
import { previewAdoption, type AdoptionPreview } from "../target/adoption.ts";
import { beginSource, registerEntities } from "../target/plan.ts";
import { sourcePosition } from "../source/position.ts";
import { admit, begin, type BegunExecution } from "./begin.ts";
import { dependencyOrder, selectEntities } from "./dependency-order.ts";

export interface AdoptionRequest {
  /** Names of entities; undefined: all. */
  readonly entities?: readonly string[] | undefined;
  readonly triggeredBy: string;
  readonly jobId?: string | undefined;
}

/**
 * Begins to take over the ids that an earlier migration gave to the rows of the target, one chain per entity. An
 * entity may mint once its chain is through. Nothing in the application's tables is written.
 * @throws IsthmusError NOT_FOUND, EXECUTION_ACTIVE, CONTRACT_BROKEN, SOURCE_UNKNOWN, TARGET_UNKNOWN,
 * INSTALLATION_UNKNOWN; nothing is begun then.
 */
export async function startAdoption(context: Context, request: AdoptionRequest): Promise<BegunExecution> {
  const { config } = context;
  const { sourceId, names, contract } = await register(context, request.entities);
  const chains = names.map((entity) => ({ entity, capture: "adopt", range_from: null, range_to: null }));
  const execution = await begin(context, await sourcePosition(context.source), {
    kind: "adopt",
    source_id: sourceId,
    job_id: request.jobId ?? null,
    triggered_by: request.triggeredBy,
    request: { adopt: true, entities: request.entities ?? null },
    entities: names,
    page_size: config.ISTHMUS_ADOPT_PAGE_SIZE,
    chains,
    idle: [],
    contract: { paused: contract.paused, warnings: contract.warnings },
  });
  return { execution, entities: names, chains, paused: contract.paused, warnings: contract.warnings };
}

/** What an adoption would find, table by table, and which entities it would leave out. Changes nothing but the registered definitions. */
export async function previewAdoptions(
  context: Context,
  entities: readonly string[] | undefined,
): Promise<{ readonly preview: readonly AdoptionPreview[]; readonly paused: FitEntities["paused"] }> {
  const { sourceId, names, contract } = await register(context, entities);
  const preview: AdoptionPreview[] = [];
  for (const entity of selectEntities(context, names)) preview.push(await previewAdoption(context.target, sourceId, entity));
  return { preview, paused: contract.paused };
}

async function register(context: Context, entities: readonly string[] | undefined) {
  const requested = dependencyOrder(selectEntities(context, entities));
  const sourceId = await beginSource(context.target, context.config.SOURCE_NAME);
  const { contract } = await admit(context, sourceId, {
    requested,
    work: "adopt",
    capture: "keys",
    define: () => registerEntities(context.target, sourceId, [...context.entities.values()], context.hashes),
  });
  return { sourceId, names: contract.runnable.map((entity) => entity.name), contract };
}
