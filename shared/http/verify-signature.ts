import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { base64url } from "jose";
import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";
import { verifyToken } from "./verify-token.ts";

/**
 * Checks QStash's signature for the function's public address, under the current signing key or the next one.
 * @returns the check of the body: the signature holds the hash of what was sent.
 * @throws IsthmusError UNAUTHENTICATED.
 */
export async function verifySignature(
  signature: string,
  config: Config,
  functionName: string,
): Promise<(body: Uint8Array) => void> {
  const signed = await signedBody(signature, config, `${config.FUNCTIONS_URL}/${functionName}`);
  return (body) => {
    const hash = base64url.encode(sha256(body));
    // The vendor pads the hash.
    if (typeof signed !== "string" || signed.replace(/=+$/, "") !== hash) throw invalid();
  };
}

async function signedBody(signature: string, config: Config, subject: string): Promise<unknown> {
  const rules = { algorithms: ["HS256"], issuer: "Upstash", subject, required: ["nbf", "body"] };
  let cause: unknown;
  for (const key of [config.QSTASH_CURRENT_SIGNING_KEY, config.QSTASH_NEXT_SIGNING_KEY]) {
    try {
      return (await verifyToken(signature, utf8ToBytes(key), rules))["body"];
    } catch (error) {
      cause = error;
    }
  }
  throw invalid(cause);
}

function invalid(cause?: unknown): IsthmusError {
  return new IsthmusError("UNAUTHENTICATED", "The QStash signature is not valid.", { cause });
}
