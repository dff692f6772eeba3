import { AuthClient, type JWK } from "@supabase/supabase-js";
import { z } from "zod";
import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";
import type { Caller } from "./caller.ts";
import { CLOCK_TOLERANCE_SECONDS } from "./verify-signature.ts";

/** How long the project's Auth server may take to hand out its keys, and for how long it is not asked again, whoever sends tokens. */
const KEYS_TIMEOUT_MS = 5_000;
const KEYS_PAUSE_MS = 30_000;
const AUDIENCE = "authenticated";

/** Asymmetric keys only: whoever can check a shared secret could also sign with it. A header that asks for more than we know is refused. */
const header = z.looseObject({ alg: z.enum(["ES256", "RS256"]), kid: z.string(), crit: z.undefined().optional() });

/**
 * The signed-in user behind a token of the project's Auth server, with the role that the project gave in app_metadata.
 * @throws IsthmusError UNAUTHENTICATED, or FORBIDDEN for a user without a role.
 */
export async function verifyUser(token: string, config: Config): Promise<Caller> {
  const claims = claimRules(config).safeParse(await signedClaims(token, config));
  if (!claims.success) throw invalid(claims.error);
  const { sub, app_metadata } = claims.data;
  const role = app_metadata?.["isthmus_role"];
  if (role !== "operator" && role !== "reviewer") throw new IsthmusError("FORBIDDEN");
  return { kind: "user", id: sub, role };
}

/** What the vendor's check of the signature leaves to us: who made the token, for whom, and from when until when. */
function claimRules({ ISTHMUS_TOKEN_ISSUER }: Config) {
  const now = Date.now() / 1_000;
  const past = z.number().max(now + CLOCK_TOLERANCE_SECONDS);
  return z.looseObject({
    iss: z.literal(ISTHMUS_TOKEN_ISSUER),
    aud: z.union([z.literal(AUDIENCE), z.array(z.string()).refine((many) => many.includes(AUDIENCE))]),
    exp: z.number().gt(now - CLOCK_TOLERANCE_SECONDS),
    iat: past,
    nbf: past.optional(),
    sub: z.string().min(1),
    // Tokens of services and of everybody name no user. An application that a user has let in holds a token with all
    // the user's claims and a client_id: what the user may do here is nothing that another application may do.
    role: z.literal("authenticated"),
    is_anonymous: z.literal(false).optional(),
    client_id: z.undefined().optional(),
    app_metadata: z.record(z.string(), z.unknown()).nullish(),
  });
}

/** The claims of a token whose signature holds. @throws IsthmusError UNAUTHENTICATED. */
async function signedClaims(token: string, config: Config): Promise<unknown> {
  if (!header.safeParse(headerOf(token)).success) throw invalid();
  // The end of the token is for our own rules, which allow for clocks that differ.
  const options = { jwks: { keys: deployedKeys(config) }, allowExpired: true };
  // Some refusals are returned, others are thrown.
  const { data, error } = await clientOf(config)
    .getClaims(token, options)
    .catch((thrown: unknown) => ({ data: null, error: thrown }));
  if (!data) throw invalid(error);
  return data.claims;
}

function headerOf(token: string): unknown {
  try {
    return JSON.parse(atob((token.split(".")[0] ?? "").replaceAll("-", "+").replaceAll("_", "/")));
  } catch (error) {
    throw invalid(error);
  }
}

type Client = InstanceType<typeof AuthClient>;
const clients = new WeakMap<Config, Client>();

/** One client for all calls: it keeps the keys that it has asked the Auth server for. */
function clientOf(config: Config): Client {
  const made = clients.get(config);
  if (made) return made;
  const client = new AuthClient({
    url: `${config.SUPABASE_URL.replace(/\/$/, "")}/auth/v1`,
    headers: { apikey: Object.values(config.SUPABASE_PUBLISHABLE_KEYS)[0] ?? "" },
    persistSession: false,
    autoRefreshToken: false,
    detectSessionInUrl: false,
    fetch: keysOnly(),
  });
  clients.set(config, client);
  return client;
}

/**
 * All that the client may ask for. About a token whose key is not known the vendor would ask the Auth server, for
 * each one that a stranger sends; such a token is nobody's.
 */
function keysOnly(): typeof fetch {
  let asked = -Infinity;
  let answer: Promise<{ status: number; text: string }>;
  return async (input, init) => {
    const address = input instanceof Request ? input.url : String(input);
    if (!address.endsWith("/.well-known/jwks.json")) return Response.json({ msg: "unknown key" }, { status: 401 });
    if (Date.now() - asked >= KEYS_PAUSE_MS) {
      asked = Date.now();
      answer = fetch(input, { ...init, signal: AbortSignal.timeout(KEYS_TIMEOUT_MS) }).then(
        async (response) => ({ status: response.status, text: await response.text() }),
        () => ({ status: 503, text: "" }),
      );
    }
    const { status, text } = await answer;
    return new Response(text, { status, headers: { "content-type": "application/json" } });
  };
}

/** The keys that came with the deployment. Where a token's key is not among them, the client asks the Auth server. */
function deployedKeys({ SUPABASE_JWKS }: Config): JWK[] {
  if (SUPABASE_JWKS === undefined) return [];
  try {
    return (JSON.parse(SUPABASE_JWKS) as { keys: JWK[] }).keys;
  } catch (error) {
    throw new IsthmusError("CONFIG_INVALID", "Configuration: SUPABASE_JWKS: must be a JSON Web Key Set", {
      cause: error,
      detail: { variables: ["SUPABASE_JWKS"] },
    });
  }
}

function invalid(cause?: unknown): IsthmusError {
  return new IsthmusError("UNAUTHENTICATED", "The token is not that of a user who has signed in to this project.", { cause });
}
