import { createContext, once } from "../../shared/context.ts";
import { IsthmusError } from "../../shared/errors.ts";
import { authenticate } from "../../shared/http/authenticate.ts";
import { answer, respondJson } from "../../shared/http/respond.ts";
import { tick } from "../../shared/jobs/tick.ts";
import type { Runtime } from "../../shared/runtime.ts";

/**
 * Called every minute by pg_cron or a QStash schedule. Answers at once and works on in the background, because pg_net
 * holds its next batch until the slowest answer of this one.
 */
export function createHandler(runtime: Runtime): (request: Request) => Promise<Response> {
  const context = once(() => createContext(runtime));
  return (request) =>
    answer(runtime.log, async () => {
      if (request.method !== "POST") throw new IsthmusError("METHOD_NOT_ALLOWED");
      const body = await request.text();
      await authenticate(request, body, context().config, "sync-tick", ["qstash", "machine"]);
      runtime.waitUntil(
        tick(context()).then((report) => {
          runtime.log.info("tick", { ...report });
        }),
      );
      return respondJson(202, { accepted: true });
    });
}
