import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";
import type { Caller } from "./caller.ts";

export interface Identified {
  readonly caller: Caller;
  /** To be called with the body as it came: a signature covers it. @throws IsthmusError UNAUTHENTICATED. */
  readonly acceptBody: (body: Uint8Array) => void;
}

/**
 * Who calls, by the headers alone. A secret key of the project in the apikey header, QStash's signature for this
 * address, or a signed-in user's token with isthmus_role in app_metadata; or METRICS_TOKEN. A publishable key proves
 * nothing.
 * @throws IsthmusError UNAUTHENTICATED or FORBIDDEN.
 */
export async function identify(headers: Headers, config: Config, functionName: string): Promise<Identified> {
  const signature = headers.get("upstash-signature");
  if (signature !== null) {
    // Loaded only when needed, as for users: the check of tokens would cost every other cold start its time.
    const { verifySignature } = await import("./verify-signature.ts");
    return { caller: { kind: "qstash" }, acceptBody: await verifySignature(signature, config, functionName) };
  }
  const apikey = headers.get("apikey");
  if (apikey !== null) {
    // Every key is compared, so that the time does not tell which one came close.
    const names = Object.entries(config.SUPABASE_SECRET_KEYS).filter(([, key]) => equalSecrets(apikey, key));
    if (names[0]) return { caller: { kind: "machine", name: names[0][0] }, acceptBody: anyBody };
  }
  const token = /^Bearer (\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
  // It has no point, and so is no user's token.
  if (token !== undefined && config.METRICS_TOKEN !== undefined && equalSecrets(token, config.METRICS_TOKEN))
    return { caller: { kind: "metrics" }, acceptBody: anyBody };
  if (token?.split(".").length === 3) {
    const { verifyUser } = await import("./verify-user.ts");
    return { caller: await verifyUser(token, config), acceptBody: anyBody };
  }
  throw new IsthmusError("UNAUTHENTICATED");
}

/** Compares in a time that depends on neither secret: digests of equal length, every byte. */
export function equalSecrets(given: string, expected: string): boolean {
  const a = sha256(utf8ToBytes(given));
  const b = sha256(utf8ToBytes(expected));
  let difference = 0;
  for (let index = 0; index < a.length; index++) difference |= (a[index] ?? 0) ^ (b[index] ?? 1);
  return difference === 0;
}

const anyBody = () => undefined;
