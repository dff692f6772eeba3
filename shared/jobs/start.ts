import type { Context } from "../pipeline/types.ts";
import { startAdoption } from "./adopt.ts";
import { startExecution, type BegunExecution } from "./plan.ts";
import { startSelection, type SelectionRequest } from "./plan-selection.ts";
import { isSelection } from "./selective-sync.ts";

/** Begins what a request or a job asks for: ids to take over, certain records, or what has changed. */
export function start(context: Context, request: SelectionRequest): Promise<BegunExecution> {
  if (request.adopt === true) return startAdoption(context, request);
  if (isSelection(request)) return startSelection(context, request);
  return startExecution(context, { ...request, capture: request.capture ?? "auto" });
}
