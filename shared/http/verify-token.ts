import { errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey, type JWTVerifyOptions } from "jose";

/** How far the clocks of the platform, QStash and a function may be apart. */
export const CLOCK_TOLERANCE_SECONDS = 5;

export interface TokenRules {
  /** Whose signature counts; nothing that the token says can choose another. */
  readonly algorithms: string[];
  readonly issuer: string;
  readonly audience?: string;
  readonly subject?: string;
  /** Claims that have to be there besides exp and iat. */
  readonly required: string[];
}

/**
 * The claims of a signed token, once its signature, algorithm, issuer, audience, subject, beginning and end are checked.
 * @throws Error when one of them is not right, or missing.
 */
export async function verifyToken(
  token: string,
  key: Uint8Array | JWTVerifyGetKey,
  { algorithms, issuer, audience, subject, required }: TokenRules,
): Promise<JWTPayload> {
  const options: JWTVerifyOptions = {
    algorithms,
    issuer,
    ...(audience === undefined ? {} : { audience }),
    ...(subject === undefined ? {} : { subject }),
    requiredClaims: ["exp", "iat", ...required],
    clockTolerance: CLOCK_TOLERANCE_SECONDS,
  };
  const { payload } = key instanceof Uint8Array ? await jwtVerify(token, key, options) : await jwtVerify(token, key, options);
  // The library looks at the time of issue only where a greatest age is asked for.
  if (typeof payload.iat !== "number" || payload.iat > Date.now() / 1_000 + CLOCK_TOLERANCE_SECONDS)
    throw new errors.JWTClaimValidationFailed('"iat" lies in the future', payload, "iat", "check_failed");
  return payload;
}
