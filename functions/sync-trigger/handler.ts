import { z } from "zod";
import { createContext, once, type Context } from "../../shared/context.ts";
import { IsthmusError } from "../../shared/errors.ts";
import { admit } from "../../shared/http/admit.ts";
import { callerName, type Caller } from "../../shared/http/caller.ts";
import { parseBody } from "../../shared/http/parse.ts";
import { answer, respondJson } from "../../shared/http/respond.ts";
import { previewAdoptions } from "../../shared/plan/adopt.ts";
import { acknowledge, checkInstallation } from "../../shared/contract/check.ts";
import { inspectSource } from "../../shared/contract/inspect.ts";
import { list, plainText } from "../../shared/plan/request-values.ts";
import { selectiveSync } from "../../shared/plan/selective-sync.ts";
import { explain } from "../../shared/page/explain.ts";
import { start } from "../../shared/plan/start.ts";
import { control, pausedThings, WORDS } from "../../shared/plan/control.ts";
import type { Installation } from "../../shared/entity/installation.ts";
import { scrape, type Scrape } from "../../shared/metrics/scrape.ts";
import type { Runtime } from "../../shared/runtime.ts";
import { cancelExecutions, type Cancelled } from "../../shared/target/ends.ts";
import { executionState, latestExecutions } from "../../shared/target/execution-state.ts";

const ADMISSION = {
  methods: ["GET", "POST"],
  callers: ["machine", "user", "qstash", "metrics"],
  // The 10,000 ids that a request may name take a quarter of it; filters may name values as long as a sentence.
  largestBody: 1_048_576,
} as const;

/** What may stand behind the question mark. Another word is refused: POST ?dryRun would be a run. */
const QUESTIONS: Readonly<Record<string, readonly string[]>> = {
  GET: ["execution", "check", "inspect", "paused", "metrics", "explain", "id"],
  POST: ["acknowledge", "cancel", "control"],
};

const NOT_METRICS = "Metrics are for METRICS_TOKEN, and for a secret key of the project.";
const ONLY_METRICS = "METRICS_TOKEN reads metrics (GET ?metrics), and nothing else.";

const acknowledgeRequest = z.strictObject({
  /** Target tables; without it: all. */
  tables: list(plainText(100)).max(200).optional(),
  /** Who accepts it, where the caller is a machine. */
  by: plainText(100).optional(),
});

/** A job and an entity by their names, an execution and a chain by their ids. */
const controlRequest = z.strictObject({
  word: z.enum(WORDS),
  what: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.enum(["job", "entity"]), name: plainText(255) }),
    z.strictObject({ kind: z.enum(["execution", "chain"]), name: z.uuid() }),
  ]),
});

const cancelRequest = z.union([z.strictObject({ execution: z.uuid() }), z.strictObject({ all: z.literal(true) })]);

/**
 * POST starts an execution on demand, cancels one (?cancel), pauses, resumes, cancels or retries a job, an execution,
 * an entity or a chain (?control), or accepts what writes set off (?acknowledge); none is for reviewers. GET tells
 * the state of an execution (?execution=ID) or of the latest ones, or whether everything is in order (?check), or how
 * changes of the source can be found (?inspect), or what people have paused (?paused), or metrics as OpenMetrics text
 * (?metrics), or the story of one record (?explain=ENTITY&id=ID).
 */
export function createHandler(runtime: Runtime, installation: Installation): (request: Request) => Promise<Response> {
  const context = once(() => createContext(runtime, installation));
  return (request) =>
    answer(runtime.log, async () => {
      const { caller, body } = await admit(request, () => context().config, "sync-trigger", ADMISSION);
      const asked = questionsOf(request);
      const metrics = request.method === "GET" && asked.has("metrics");
      if (metrics ? !["machine", "metrics"].includes(caller.kind) : caller.kind === "metrics")
        throw new IsthmusError("FORBIDDEN", metrics ? NOT_METRICS : ONLY_METRICS);
      if (metrics) return respondMetrics(await scrape(context().target));
      switch (request.method) {
        case "POST": {
          if (caller.kind === "user" && caller.role !== "operator") {
            throw new IsthmusError("FORBIDDEN", `A ${caller.role} may see executions, not start or cancel them.`);
          }
          if (asked.has("cancel"))
            return respondJson(200, { cancelled: await cancel(context(), parseBody(cancelRequest, body), caller) });
          if (asked.has("control")) {
            const { word, what } = parseBody(controlRequest, body);
            return respondJson(200, { controlled: await control(context(), { ...what, word, by: callerName(caller) }) });
          }
          if (asked.has("acknowledge")) {
            const { tables, by } = parseBody(acknowledgeRequest, body);
            const accepted = await acknowledge(context(), tables, [callerName(caller), by].filter(Boolean).join(" "));
            return respondJson(200, accepted);
          }
          const wanted = parseBody(selectiveSync(context().entities, context().columns.source), body);
          if (wanted.adopt && wanted.dryRun) return respondJson(200, await previewAdoptions(context(), wanted.entities));
          const begun = await start(context(), { ...wanted, triggeredBy: callerName(caller) });
          const paused = begun.paused.map(({ entity }) => entity);
          runtime.log.info("execution.begun", { ...begun, paused, warnings: begun.warnings.length });
          return respondJson(202, begun);
        }
        case "GET":
          return respondJson(200, await state(context(), asked, caller));
        default:
          throw new IsthmusError("METHOD_NOT_ALLOWED");
      }
    });
}

function respondMetrics({ contentType, text }: Scrape): Response {
  return new Response(text, { headers: { "content-type": contentType, "cache-control": "no-store" } });
}

async function cancel({ target, log }: Context, asked: z.output<typeof cancelRequest>, caller: Caller): Promise<Cancelled[]> {
  const execution = "execution" in asked ? asked.execution : null;
  if (execution !== null && !(await executionState(target, execution))) throw noExecution(execution);
  const cancelled = await cancelExecutions(target, execution, callerName(caller));
  log.info("execution.cancelled", { cancelled });
  return cancelled;
}

function noExecution(id: string): IsthmusError {
  return new IsthmusError("NOT_FOUND", `There is no execution ${id}.`);
}

/** @throws IsthmusError REQUEST_INVALID for a word that means nothing with this method. */
function questionsOf({ method, url }: Request): URLSearchParams {
  const given = new URL(url).searchParams;
  const known = QUESTIONS[method] ?? [];
  const stranger = [...given.keys()].find((name) => !known.includes(name));
  if (stranger === undefined) return given;
  const message = `?${stranger.slice(0, 60)} means nothing with ${method}; there is ${known.join(", ")}. What a start is asked for stands in its body.`;
  throw new IsthmusError("REQUEST_INVALID", message);
}

/** Values of records are for the secret key and for reviewers, as in the queue. */
function seesValues(caller: Caller): boolean {
  return caller.kind === "machine" || (caller.kind === "user" && caller.role === "reviewer");
}

async function state(context: Context, asked: URLSearchParams, caller: Caller): Promise<unknown> {
  const entity = asked.get("explain");
  if (entity !== null) return explain(context, entity, asked.get("id") ?? "", { values: seesValues(caller) });
  if (asked.has("id")) throw new IsthmusError("REQUEST_INVALID", "id: belongs to explain.");
  if (asked.has("check")) return checkInstallation(context);
  if (asked.has("paused")) return { paused: await pausedThings(context) };
  if (asked.has("inspect")) return inspectSource(context);
  const id = asked.get("execution");
  if (id === null) return { executions: await latestExecutions(context.target, 20) };
  if (!z.uuid().safeParse(id).success) throw new IsthmusError("REQUEST_INVALID", "execution: must be a UUID.");
  const found = await executionState(context.target, id);
  if (!found) throw noExecution(id);
  return found;
}
