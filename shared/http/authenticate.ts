import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { Receiver } from "@upstash/qstash";
import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";

export type Caller =
  | { readonly kind: "machine"; readonly name: string }
  | { readonly kind: "qstash" }
  | { readonly kind: "user"; readonly id: string; readonly role: "operator" | "reviewer" };

/**
 * Who calls. A secret key of the project in the apikey header, QStash's signature over this address and body, or a
 * signed-in user's token with isthmus_role in app_metadata. A publishable key proves nothing.
 * @param functionName the function's own name: QStash signs the public address, which the request may not show.
 * @throws IsthmusError UNAUTHENTICATED or FORBIDDEN.
 */
export async function authenticate(
  request: Request,
  body: string,
  config: Config,
  functionName: string,
  allowed: readonly Caller["kind"][],
): Promise<Caller> {
  const caller = await identify(request, body, config, functionName);
  if (!allowed.includes(caller.kind)) throw new IsthmusError("FORBIDDEN", `A ${caller.kind} may not call ${functionName}.`);
  return caller;
}

/** How the caller is written down: ids and names only. */
export function callerName(caller: Caller): string {
  switch (caller.kind) {
    case "machine":
      return `http:machine:${caller.name}`;
    case "qstash":
      return "qstash";
    case "user":
      return `http:user:${caller.id}`;
  }
}

/** Compares in a time that depends on neither secret: digests of equal length, every byte. */
export function equalSecrets(given: string, expected: string): boolean {
  const a = sha256(utf8ToBytes(given));
  const b = sha256(utf8ToBytes(expected));
  let difference = 0;
  for (let index = 0; index < a.length; index++) difference |= (a[index] ?? 0) ^ (b[index] ?? 1);
  return difference === 0;
}

async function identify(request: Request, body: string, config: Config, functionName: string): Promise<Caller> {
  const signature = request.headers.get("upstash-signature");
  if (signature !== null) return verifySignature(signature, body, config, functionName);
  const apikey = request.headers.get("apikey");
  if (apikey !== null) {
    // Every key is compared, so that the time does not tell which one came close.
    const names = Object.entries(config.SUPABASE_SECRET_KEYS).filter(([, key]) => equalSecrets(apikey, key));
    if (names[0]) return { kind: "machine", name: names[0][0] };
  }
  const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  if (token?.split(".").length === 3) return verifyUser(token, config);
  throw new IsthmusError("UNAUTHENTICATED");
}

async function verifySignature(signature: string, body: string, config: Config, functionName: string): Promise<Caller> {
  const receiver = new Receiver({
    currentSigningKey: config.QSTASH_CURRENT_SIGNING_KEY,
    nextSigningKey: config.QSTASH_NEXT_SIGNING_KEY,
  });
  try {
    if (await receiver.verify({ signature, body, url: `${config.FUNCTIONS_URL}/${functionName}`, clockTolerance: 5 })) {
      return { kind: "qstash" };
    }
  } catch (error) {
    throw new IsthmusError("UNAUTHENTICATED", "The QStash signature is not valid.", { cause: error });
  }
  throw new IsthmusError("UNAUTHENTICATED", "The QStash signature is not valid.");
}

async function verifyUser(token: string, config: Config): Promise<Caller> {
  // Loaded only when a user calls: it would cost every other cold start its time.
  const { createClient } = await import("@supabase/supabase-js");
  const key = Object.values(config.SUPABASE_PUBLISHABLE_KEYS)[0] ?? "";
  const { auth } = createClient(config.SUPABASE_URL, key, { auth: { persistSession: false, autoRefreshToken: false } });
  const header = decodeHeader(token);
  // A shared-secret token would be checked by asking the Auth server; only asymmetric keys are accepted.
  if (typeof header.alg !== "string" || header.alg.startsWith("HS") || header.alg === "none") {
    throw new IsthmusError("UNAUTHENTICATED", "The token is not signed with the project's asymmetric key.");
  }
  const jwks = config.SUPABASE_JWKS === undefined ? undefined : (JSON.parse(config.SUPABASE_JWKS) as { keys: [] });
  // Some refusals are returned, others (an expired token) are thrown.
  const { data, error } = await auth
    .getClaims(token, jwks ? { jwks } : {})
    .catch((thrown: unknown) => ({ data: null, error: thrown }));
  if (error || !data) throw new IsthmusError("UNAUTHENTICATED", "The token is not valid.", { cause: error });
  const metadata = data.claims.app_metadata as Record<string, unknown> | undefined;
  const role = metadata?.["isthmus_role"];
  if (role !== "operator" && role !== "reviewer") throw new IsthmusError("FORBIDDEN");
  return { kind: "user", id: data.claims.sub, role };
}

function decodeHeader(token: string): { alg?: unknown } {
  try {
    const text = (token.split(".")[0] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(text)) as { alg?: unknown };
  } catch (error) {
    throw new IsthmusError("UNAUTHENTICATED", "The token is not valid.", { cause: error });
  }
}
