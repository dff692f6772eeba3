import { describeError } from "../errors.ts";
import type { Context } from "../context.ts";
import { query } from "../db/query.ts";
import { closeAlert, openAlert, sourceRefused } from "../target/sending.ts";

/**
 * Tells of a source that refuses connections, until it answers again. It is asked only while a page, a job or the tick before says that it did
 * not answer, or while that is told.
 */
export async function watchSource({ target, source }: Context, sourceId: number): Promise<void> {
  if (!(await sourceRefused(target, sourceId))) return;
  const refusal = await refusalOf(() => query(source, "source", "select 1"));
  if (refusal === null) return closeAlert(target, sourceId, "source_refuses");
  const { reason, sqlstate, remedy } = refusal;
  const state = typeof sqlstate === "string" && sqlstate !== reason ? `SQLSTATE ${sqlstate}` : "";
  const why = [typeof reason === "string" ? reason : "", state].filter((part) => part !== "").join(", ");
  return openAlert(target, sourceId, {
    kind: "source_refuses",
    severity: "critical",
    message: `The source refuses connections, or does not answer (${why}). Pages and jobs wait and are tried again. ${remedy}`,
    details: refusal,
  });
}

/** Why a database cannot be reached; null: it answers, be it with an error of another kind. */
async function refusalOf(ask: () => Promise<unknown>): Promise<ReturnType<typeof describeError> | null> {
  try {
    await ask();
    return null;
  } catch (error) {
    const described = describeError(error);
    if (described.code === "INTERNAL") throw error;
    return described.code === "SOURCE_UNAVAILABLE" ? described : null;
  }
}
