import { IsthmusError } from "../errors.ts";
import type { Context } from "../context.ts";
import { startAdoption } from "./adopt.ts";
import type { BegunExecution } from "./begin.ts";
import { startExecution } from "./plan.ts";
import { startSelection, type SelectionRequest } from "./plan-selection.ts";
import { isSelection } from "./selective-sync.ts";

/**
 * Begins what a request or a job asks for: ids to take over, certain records, or what has changed.
 * @throws IsthmusError REQUEST_INVALID when it asks what an adoption would find: that is an answer and no execution
 * (previewAdoptions).
 */
export function start(context: Context, request: SelectionRequest): Promise<BegunExecution> {
  if (request.adopt === true && request.dryRun === true) {
    const message = "adopt with dryRun begins nothing, and a job has nobody to answer: npm run sync -- adopt --dry-run.";
    return Promise.reject(new IsthmusError("REQUEST_INVALID", message));
  }
  if (request.adopt === true) return startAdoption(context, request);
  if (isSelection(request)) return startSelection(context, request);
  return startExecution(context, { ...request, capture: request.capture ?? "auto" });
}
