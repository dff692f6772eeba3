import { describeError, type DescribedError } from "../errors.ts";
import type { Context } from "../context.ts";
import { query } from "../db/query.ts";
import { asksSource, noteSource } from "../target/source-breaker.ts";

/**
 * Looks, once for all of a tick, whether the source answers: while a job is due, or a page, a job or the tick before
 * says that it did not answer, or that is told. While it refuses nothing else asks it: pages are not sent, jobs do
 * not begin.
 * @returns why it refuses; null: it answers, or nobody needs it now.
 */
export async function lookAtSource({ target, source }: Context, sourceId: number): Promise<DescribedError | null> {
  if (!(await asksSource(target, sourceId))) return null;
  const refusal = await refusalOf(() => query(source, "source", "select 1"));
  await noteSource(target, sourceId, refusal, refusal === null ? "" : told(refusal));
  return refusal;
}

function told({ reason, sqlstate, remedy }: DescribedError): string {
  const state = typeof sqlstate === "string" && sqlstate !== reason ? `SQLSTATE ${sqlstate}` : "";
  const why = [typeof reason === "string" ? reason : "", state].filter((part) => part !== "").join(", ");
  return `The source refuses connections, or does not answer (${why}). Pages and jobs wait, and go on by themselves when it answers. ${remedy}`;
}

/** Why a database cannot be reached; null: it answers, be it with an error of another kind. */
async function refusalOf(ask: () => Promise<unknown>): Promise<DescribedError | null> {
  try {
    await ask();
    return null;
  } catch (error) {
    const described = describeError(error);
    if (described.code === "INTERNAL") throw error;
    return described.code === "SOURCE_UNAVAILABLE" ? described : null;
  }
}
