import { z } from "zod";
import { EXIT_CODES, exitCodeOf } from "./exit-codes.ts";
import { Problem } from "./problem.ts";
import { apiKey, functionsUrl, type Environment } from "./settings.ts";

const ours = z.object({ error: z.looseObject({ code: z.string(), message: z.string(), remedy: z.string() }) });
const platforms = z.object({ code: z.union([z.string(), z.number()]).optional(), message: z.string() });
const REQUEST_TIMEOUT_MS = 150_000;

/**
 * Calls a function with the secret key and returns the JSON of its answer.
 * @throws Problem with the function's own code and remedy, or saying that none answers there.
 */
export async function callFunction(env: Environment, path: string, body?: unknown): Promise<unknown> {
  const base = functionsUrl(env);
  const key = apiKey(env);
  let response: Response;
  let text: string;
  try {
    response = await fetch(`${base}/${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: { apikey: key, "content-type": "application/json" },
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    text = await response.text();
  } catch (error) {
    throw new Problem("UNREACHABLE", `Nothing answers at ${base}.`, "Check FUNCTIONS_URL or SUPABASE_URL, and the network.", {
      exitCode: EXIT_CODES.unreachable.code,
      cause: error,
    });
  }
  const answer = parse(text);
  if (response.ok && answer !== undefined) return answer;
  throw refused(response.status, path, answer);
}

function refused(status: number, path: string, answer: unknown): Problem {
  const known = ours.safeParse(answer);
  if (known.success) {
    const { code, message, remedy, ...detail } = known.data.error;
    return new Problem(code, message, remedy, { detail, exitCode: exitCodeOf(status) });
  }
  const platform = platforms.safeParse(answer);
  const said = platform.success ? `: ${platform.data.message}` : "";
  const name = path.replace(/\?.*$/, "");
  return status === 404
    ? new Problem(
        "NOT_DEPLOYED",
        `There is no function ${name} at this address (404${said}).`,
        "Deploy it: supabase functions deploy --use-api.",
        { exitCode: EXIT_CODES.unreachable.code },
      )
    : new Problem(
        "PLATFORM_ERROR",
        `The platform answered ${status} for ${name}${said}`,
        "Look at the function's logs on the dashboard, then try again.",
        { exitCode: exitCodeOf(status) },
      );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
