import { z } from "zod";
import { createContext, once } from "../../shared/context.ts";
import { admit } from "../../shared/http/admit.ts";
import { parseBody, parseJson } from "../../shared/http/parse.ts";
import { answer, respondJson } from "../../shared/http/respond.ts";
import { validate } from "../../shared/page/validate.ts";
import { refuseLater, runPage } from "../../shared/page/run-page.ts";
import { createTurns } from "../../shared/page/turns.ts";
import type { PageOutcome } from "../../shared/page/page-outcome.ts";
import type { Installation } from "../../shared/entity/installation.ts";
import type { Runtime } from "../../shared/runtime.ts";

/** As large as the column that holds it. */
const count = z.number().int().min(0).max(2_147_483_647);
const message = z.object({
  format: count.optional(),
  execution: z.uuid(),
  chain: z.uuid(),
  page: count,
  sends: count.optional(),
});

/** A message is two ids and two numbers, some 150 bytes. */
const ADMISSION = { methods: ["POST"], callers: ["qstash", "machine"], largestBody: 4_096 } as const;

/** Sent by the check of the installation: that it arrives and its signature is known is all it asks. */
const probe = z.strictObject({ check: z.literal(true) });

/** One page of one entity per invocation. Duplicate, late or reordered deliveries change nothing and answer 200. */
export function createHandler(runtime: Runtime, installation: Installation): (request: Request) => Promise<Response> {
  const context = once(() => createContext(runtime, installation));
  // Pages keep below half a lease, so that few wait for a turn as long as this; a page's own time after a minute is
  // still within the 150 s that the platform waits for an answer.
  const turns = once(() => createTurns(context().config.ISTHMUS_POOL_SIZE, context().config.ISTHMUS_TURN_SECONDS * 1_000));
  return (request) =>
    answer(runtime.log, async () => {
      const { body } = await admit(request, () => context().config, "sync-page", ADMISSION);
      const parsed = parseJson(body);
      if (probe.safeParse(parsed).success) return respondJson(200, { outcome: "checked" });
      refuseLater(parsed);
      const page = parseBody(message, body);
      const outcome = await turns().take(() => runPage(context(), { ...page, ...deliveryOf(request.headers) }, validate));
      if (!outcome) return respondJson(429, { outcome: "busy" }, { "retry-after": "1" });
      runtime.log.info("page", { ...page, ...outcome });
      return respond(outcome);
    });
}

/** A message of QStash, and which attempt of it this is, counted from 0. */
const delivered = z.object({ id: z.string().min(1).max(200), attempt: z.coerce.number().int().min(0).max(1_000) });

/** What QStash says of its delivery; a person's call says nothing. */
function deliveryOf(headers: Headers): { readonly delivery?: z.output<typeof delivered> } {
  const delivery = delivered.safeParse({
    id: headers.get("upstash-message-id"),
    attempt: headers.get("upstash-retried") ?? undefined,
  });
  return delivery.success ? { delivery: delivery.data } : {};
}

function respond(outcome: PageOutcome): Response {
  if (outcome.outcome !== "failed") return respondJson(200, outcome);
  // 489 tells QStash that another try would not help; otherwise it comes back after the pause.
  return outcome.retrySeconds === null
    ? respondJson(489, outcome, { "upstash-nonretryable-error": "true" })
    : respondJson(503, outcome, { "retry-after": String(outcome.retrySeconds) });
}
