import type { Config } from "../config.ts";

const TIMEOUT_MS = 5_000;
/** The probe's key lives so long. */
const LIFE_SECONDS = "60";

/** Why the cache cannot be used although it answers. */
export type CacheProblem = "credentials_refused" | "read_only" | "rate_limited" | "write_refused" | "wrong_answer";

/**
 * Writes a key and reads it again: a token that only reads answers a ping, and nothing would ever be cached.
 * @returns what is wrong; undefined: nothing. @throws Error when Redis does not answer.
 */
export async function probeCache(config: Config): Promise<CacheProblem | undefined> {
  const key = `isthmus:${config.SOURCE_NAME}:${config.SUPABASE_URL}:check`;
  const value = crypto.randomUUID();
  const written = await command(config, ["SET", key, value, "EX", LIFE_SECONDS]);
  if (written.problem !== undefined) return written.problem;
  const read = await command(config, ["GET", key]);
  return read.problem ?? (written.result === "OK" && read.result === value ? undefined : "wrong_answer");
}

async function command(config: Config, words: readonly string[]): Promise<{ result?: unknown; problem?: CacheProblem }> {
  const answer = await fetch(config.UPSTASH_REDIS_REST_URL ?? "", {
    method: "POST",
    headers: { authorization: `Bearer ${config.UPSTASH_REDIS_REST_TOKEN ?? ""}` },
    body: JSON.stringify(words),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const { result, error } = (await answer.json()) as { result?: unknown; error?: unknown };
  if (answer.status === 401) return { problem: "credentials_refused" };
  if (answer.status === 429) return { problem: "rate_limited" };
  if (error === undefined && answer.ok) return { result };
  // The first word of an error of Redis is its code.
  return { problem: /^NOPERM\b/.test(String(error)) ? "read_only" : "write_refused" };
}
