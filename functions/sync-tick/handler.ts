import { z } from "zod";
import { createContext, once } from "../../shared/context.ts";
import { admit } from "../../shared/http/admit.ts";
import { parseJson } from "../../shared/http/parse.ts";
import { answer, respondJson } from "../../shared/http/respond.ts";
import { admitTick, tick, untilBegun } from "../../shared/tick/tick.ts";
import type { Installation } from "../../shared/entity/installation.ts";
import type { Runtime } from "../../shared/runtime.ts";

const ADMISSION = { methods: ["POST"], callers: ["qstash", "machine"], largestBody: 4_096 } as const;

const callOfSchedule = z.object({ call: z.uuid() });

/** Which call of the target's own schedule this is. Other callers send `{}`, nothing, or what does not matter. */
function callIn(body: string): string | null {
  try {
    return callOfSchedule.parse(parseJson(body)).call;
  } catch {
    return null;
  }
}

/**
 * Called every minute by pg_cron or a QStash schedule. Answers as soon as the target has let the tick begin, and
 * works on in the background, because pg_net holds its next batch until the slowest answer of this one. A database
 * that does not fit the functions, or refuses their connections, is an answer of 503.
 */
export function createHandler(runtime: Runtime, installation: Installation): (request: Request) => Promise<Response> {
  const context = once(() => createContext(runtime, installation));
  return (request) =>
    answer(runtime.log, async () => {
      const { body } = await admit(request, () => context().config, "sync-tick", ADMISSION);
      const begins = admitTick(context());
      runtime.waitUntil(
        tick(context(), callIn(body), begins).then((report) => {
          runtime.log.info("tick", { ...report });
        }),
      );
      await untilBegun(begins);
      return respondJson(202, { accepted: true });
    });
}
