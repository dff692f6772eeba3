import { createLocalJWKSet, createRemoteJWKSet, errors, type JSONWebKeySet, type JWTPayload, type JWTVerifyGetKey } from "jose";
import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";
import type { Caller } from "./authenticate.ts";
import { verifyToken } from "./verify-token.ts";

/** How long the project's keys may take to arrive. */
const KEYS_TIMEOUT_MS = 5_000;
/** Asymmetric ones only: whoever can check a shared secret could also sign with it. */
const ALGORITHMS = ["ES256", "RS256"];

/**
 * The signed-in user behind a token of the project's Auth server, with the role that the project gave in app_metadata.
 * @throws IsthmusError UNAUTHENTICATED, or FORBIDDEN for a user without a role.
 */
export async function verifyUser(token: string, config: Config): Promise<Caller> {
  const claims = await claimsOf(token, config);
  // Tokens of services and of everybody name no user. An application that a user has let in holds a token with all the user's
  // claims and a client_id: what the user may do here is nothing that another application may do.
  if (claims["role"] !== "authenticated" || claims["is_anonymous"] === true || claims["client_id"] !== undefined)
    throw new IsthmusError("UNAUTHENTICATED", "The token is not that of a user who has signed in to this project.");
  const metadata = claims["app_metadata"] as Record<string, unknown> | null | undefined;
  const role = metadata?.["isthmus_role"];
  if (role !== "operator" && role !== "reviewer") throw new IsthmusError("FORBIDDEN");
  return { kind: "user", id: String(claims.sub), role };
}

async function claimsOf(token: string, config: Config): Promise<JWTPayload> {
  const rules = {
    algorithms: ALGORITHMS,
    issuer: config.ISTHMUS_TOKEN_ISSUER,
    audience: "authenticated",
    required: ["sub"],
  };
  const keys = keysOf(config);
  try {
    return await verifyToken(token, keys, rules);
  } catch (error) {
    throw new IsthmusError("UNAUTHENTICATED", "The token is not valid.", { cause: error });
  }
}

const known = new WeakMap<Config, JWTVerifyGetKey>();

/** The keys that came with the deployment. Those of the Auth server follow where a key is not among them, at most every half minute. */
function keysOf(config: Config): JWTVerifyGetKey {
  const made = known.get(config);
  if (made) return made;
  const remote = createRemoteJWKSet(new URL(`${config.SUPABASE_URL.replace(/\/$/, "")}/auth/v1/.well-known/jwks.json`), {
    timeoutDuration: KEYS_TIMEOUT_MS,
  });
  const local = config.SUPABASE_JWKS === undefined ? undefined : localKeys(config.SUPABASE_JWKS);
  const keys: JWTVerifyGetKey = async (header, token) => {
    try {
      if (local) return await local(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
    }
    return remote(header, token);
  };
  known.set(config, keys);
  return keys;
}

function localKeys(text: string): JWTVerifyGetKey {
  try {
    return createLocalJWKSet(JSON.parse(text) as JSONWebKeySet);
  } catch (error) {
    throw new IsthmusError("CONFIG_INVALID", "Configuration: SUPABASE_JWKS: must be a JSON Web Key Set", {
      cause: error,
      detail: { variables: ["SUPABASE_JWKS"] },
    });
  }
}
