import { createContext, once } from "../../shared/context.ts";
import { admit } from "../../shared/http/admit.ts";
import { answer, respondJson } from "../../shared/http/respond.ts";
import { tick } from "../../shared/jobs/tick.ts";
import type { Runtime } from "../../shared/runtime.ts";

/** Nothing is looked for in the body: the schedules send `{}` or nothing. */
const ADMISSION = { methods: ["POST"], callers: ["qstash", "machine"], largestBody: 4_096 } as const;

/**
 * Called every minute by pg_cron or a QStash schedule. Answers at once and works on in the background, because pg_net
 * holds its next batch until the slowest answer of this one.
 */
export function createHandler(runtime: Runtime): (request: Request) => Promise<Response> {
  const context = once(() => createContext(runtime));
  return (request) =>
    answer(runtime.log, async () => {
      await admit(request, () => context().config, "sync-tick", ADMISSION);
      runtime.waitUntil(
        tick(context()).then((report) => {
          runtime.log.info("tick", { ...report });
        }),
      );
      return respondJson(202, { accepted: true });
    });
}
