import { z } from "zod";
import { createContext, once } from "../../shared/context.ts";
import { IsthmusError } from "../../shared/errors.ts";
import { admit } from "../../shared/http/admit.ts";
import { callerName } from "../../shared/http/authenticate.ts";
import { parseBody } from "../../shared/http/parse.ts";
import { answer, respondJson } from "../../shared/http/respond.ts";
import { previewAdoptions } from "../../shared/jobs/adopt.ts";
import { acknowledge, checkInstallation } from "../../shared/jobs/check.ts";
import { inspectSource } from "../../shared/jobs/inspect.ts";
import { selectiveSync } from "../../shared/jobs/selective-sync.ts";
import { start } from "../../shared/jobs/start.ts";
import type { Context } from "../../shared/pipeline/types.ts";
import type { Runtime } from "../../shared/runtime.ts";
import { executionState, latestExecutions } from "../../shared/sql/execution-state.ts";

const ADMISSION = {
  methods: ["GET", "POST"],
  callers: ["machine", "user", "qstash"],
  // The 10,000 ids that a request may name take a quarter of it; filters may name values as long as a sentence.
  largestBody: 1_048_576,
} as const;

const acknowledgeRequest = z.strictObject({
  /** Target tables; without it: all. */
  tables: z.array(z.string().min(1).max(100)).min(1).max(200).optional(),
  /** Who accepts it, where the caller is a machine. */
  by: z.string().min(1).max(100).optional(),
});

/**
 * POST starts an execution on demand, or accepts what writes set off (?acknowledge); neither is for reviewers. GET tells
 * the state of an execution (?execution=ID) or of the latest ones, or whether everything is in order (?check), or how changes of the source can be found (?inspect).
 */
export function createHandler(runtime: Runtime): (request: Request) => Promise<Response> {
  const context = once(() => createContext(runtime));
  return (request) =>
    answer(runtime.log, async () => {
      const { caller, body } = await admit(request, () => context().config, "sync-trigger", ADMISSION);
      switch (request.method) {
        case "POST": {
          if (caller.kind === "user" && caller.role !== "operator") {
            throw new IsthmusError("FORBIDDEN", `A ${caller.role} may see executions, not start them.`);
          }
          if (new URL(request.url).searchParams.has("acknowledge")) {
            const { tables, by } = parseBody(acknowledgeRequest, body);
            const accepted = await acknowledge(context(), tables, [callerName(caller), by].filter(Boolean).join(" "));
            return respondJson(200, accepted);
          }
          const asked = parseBody(selectiveSync(context().entities), body);
          if (asked.adopt && asked.dryRun) return respondJson(200, await previewAdoptions(context(), asked.entities));
          const begun = await start(context(), { ...asked, triggeredBy: callerName(caller) });
          const paused = begun.paused.map(({ entity }) => entity);
          runtime.log.info("execution.begun", { ...begun, paused, warnings: begun.warnings.length });
          return respondJson(202, begun);
        }
        case "GET":
          return respondJson(200, await state(context(), new URL(request.url)));
        default:
          throw new IsthmusError("METHOD_NOT_ALLOWED");
      }
    });
}

async function state(context: Context, url: URL): Promise<unknown> {
  if (url.searchParams.has("check")) return checkInstallation(context);
  if (url.searchParams.has("inspect")) return inspectSource(context);
  const id = url.searchParams.get("execution");
  if (id === null) return { executions: await latestExecutions(context.target, 20) };
  if (!z.uuid().safeParse(id).success) throw new IsthmusError("REQUEST_INVALID", "execution: must be a UUID.");
  const found = await executionState(context.target, id);
  if (!found) throw new IsthmusError("NOT_FOUND", `There is no execution ${id}.`);
  return found;
}
