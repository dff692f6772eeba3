import { describeError, ERRORS, IsthmusError } from "../errors.ts";
import { CATEGORIES, CODES } from "../recovery.ts";
import type { Log } from "../log.ts";

export function respondJson(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json; charset=utf-8", "cache-control": "no-store", ...headers },
  });
}

/** Runs a handler; an error becomes `{error: {code, message, remedy}}` with the status of its code. */
export async function answer(log: Log, handle: () => Promise<Response>): Promise<Response> {
  try {
    return await handle();
  } catch (error) {
    const described = describeError(error);
    log.error("request.failed", described.code === "INTERNAL" ? { ...described, cause: causeOf(error) } : described);
    const { retried } = CATEGORIES[CODES[described.code]];
    return respondJson(ERRORS[described.code].status, { error: described }, retried ? { "retry-after": "5" } : {});
  }
}

/** Name and stack of a defect; the message of a driver error could quote a value, so it stays out. */
function causeOf(error: unknown): string | undefined {
  const cause = error instanceof IsthmusError ? error.cause : error;
  if (!(cause instanceof Error)) return undefined;
  return `${cause.name} ${(cause.stack ?? "")
    .split("\n")
    .slice(1, 6)
    .map((line) => line.trim())
    .join(" | ")}`;
}
