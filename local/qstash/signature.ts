import { createHash, createHmac, randomUUID } from "node:crypto";

const LIFE_SECONDS = 300;

/**
 * The value of `Upstash-Signature`: a JWT over the destination and the body. It carries the wall clock, never an
 * injected one: the receiver has only its own clock to check it by.
 */
export function signDelivery(key: string, destination: string, body: Buffer, wallClockMs: number): string {
  const now = Math.floor(wallClockMs / 1_000);
  const header = encode({ alg: "HS256", typ: "JWT" });
  const claims = encode({
    iss: "Upstash",
    sub: destination,
    exp: now + LIFE_SECONDS,
    nbf: now,
    iat: now,
    jti: `jwt_${randomUUID().replaceAll("-", "")}`,
    // The vendor pads this claim with "="; the SDK strips the padding of both sides.
    body: `${createHash("sha256").update(body).digest("base64url")}=`,
  });
  const signature = createHmac("sha256", key).update(`${header}.${claims}`).digest("base64url");
  return `${header}.${claims}.${signature}`;
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
