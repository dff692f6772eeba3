import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { base64url, errors, jwtVerify, type JWTPayload } from "jose";
import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";

/** How far the clocks of the platform, QStash and a function may be apart. */
export const CLOCK_TOLERANCE_SECONDS = 5;

/**
 * Checks QStash's signature for the function's public address, under the current signing key or the next one. The
 * vendor's own check needs the body, and no body is read before its sender is known.
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

async function signedBody(signature: string, config: Config, address: string): Promise<unknown> {
  let cause: unknown;
  for (const key of [config.QSTASH_CURRENT_SIGNING_KEY, config.QSTASH_NEXT_SIGNING_KEY]) {
    try {
      return (await verify(signature, key, address))["body"];
    } catch (error) {
      cause = error;
    }
  }
  throw invalid(cause);
}

/** The claims, once signature, algorithm, issuer, address, beginning and end are checked. @throws Error when one is not right, or missing. */
async function verify(signature: string, key: string, address: string): Promise<JWTPayload> {
  const { payload } = await jwtVerify(signature, utf8ToBytes(key), {
    algorithms: ["HS256"],
    issuer: "Upstash",
    subject: address,
    requiredClaims: ["exp", "iat", "nbf", "body"],
    clockTolerance: CLOCK_TOLERANCE_SECONDS,
  });
  // The library looks at the time of issue only where a greatest age is asked for.
  if (typeof payload.iat !== "number" || payload.iat > Date.now() / 1_000 + CLOCK_TOLERANCE_SECONDS)
    throw new errors.JWTClaimValidationFailed('"iat" lies in the future', payload, "iat", "check_failed");
  return payload;
}

function invalid(cause?: unknown): IsthmusError {
  return new IsthmusError("UNAUTHENTICATED", "The QStash signature is not valid.", { cause });
}
