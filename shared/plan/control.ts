import type { Context } from "../context.ts";
import { IsthmusError } from "../errors.ts";
import { sendPages, SWEEP_LIMIT } from "../queue/send-pages.ts";
import { beginSource } from "../target/plan.ts";
import * as target from "../target/control.ts";
import { overduePages } from "../target/sending.ts";

export { WORDS } from "../target/control.ts";

/** All that people have paused, with who and since when. */
export const pausedThings = (context: Context): Promise<Record<string, unknown>[]> => target.pausedThings(context.target);

/**
 * Pauses, resumes, cancels or retries a job or an entity (by name), an execution or a chain (by id), and sends at
 * once what goes on.
 * @throws IsthmusError NOT_FOUND, CONTROL_REFUSED.
 */
export async function control(
  context: Context,
  asked: { readonly kind: target.Kind; readonly name: string; readonly word: target.Word; readonly by: string },
): Promise<target.Controlled & { readonly sent: number }> {
  const sourceId = await beginSource(context.target, context.config.SOURCE_NAME);
  const done = await target.control(context.target, sourceId, asked);
  if (done === null) throw new IsthmusError("NOT_FOUND", `There is no ${asked.kind} ${asked.name}.`);
  const goesOn = asked.word === "resume" || done.executions.length > 0;
  const sent = goesOn ? await sendPages(context, await overduePages(context.target, SWEEP_LIMIT)) : 0;
  context.log.info("control", { ...done, sent });
  return { ...done, sent };
}
