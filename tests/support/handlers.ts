import { createHash, createHmac, generateKeyPairSync, randomUUID, sign, type KeyObject } from "node:crypto";
import { connect } from "node:net";
import { createHandler as createPage } from "../../functions/sync-page/handler.ts";
import { createHandler as createTick } from "../../functions/sync-tick/handler.ts";
import { createHandler as createTrigger } from "../../functions/sync-trigger/handler.ts";
import { installation } from "../../clinic/installation.ts";
import { createLog } from "../../shared/log.ts";

/** Where nobody answers. */
export const BASE = "http://127.0.0.1:1";
export const ISSUER = `${BASE}/auth/v1`;
export const SECRET_KEY = "sb_secret_of_the_tests";
export const SIGNING_KEYS = { current: "sig_current", next: "sig_next" };

export type FunctionName = "sync-trigger" | "sync-page" | "sync-tick";
export type Claims = Readonly<Record<string, unknown>>;

/** The three functions in this process, as an installation with these settings would answer. */
export function createFunctions(env: Readonly<Record<string, string>> = {}) {
  const keys = signingKeys("ES256");
  const lines: string[] = [];
  const background: Promise<unknown>[] = [];
  const runtime = {
    env: {
      SOURCE_DB_URL: "postgres://nobody@127.0.0.1:1/none",
      TARGET_DB_URL: "postgres://nobody@127.0.0.1:1/none",
      SUPABASE_URL: BASE,
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: SECRET_KEY }),
      SUPABASE_PUBLISHABLE_KEYS: '{"default":"sb_publishable_of_the_tests"}',
      SUPABASE_JWKS: JSON.stringify({ keys: [keys.jwk] }),
      QSTASH_URL: "http://127.0.0.1:1",
      QSTASH_TOKEN: "unused",
      QSTASH_CURRENT_SIGNING_KEY: SIGNING_KEYS.current,
      QSTASH_NEXT_SIGNING_KEY: SIGNING_KEYS.next,
      ...env,
    },
    log: createLog((line) => lines.push(line)),
    meter: { heapBytes: () => null },
    // As on Deno: the driver's own socket would wait ever longer before it tries again.
    socket: ({ host, port }: { readonly host: string; readonly port: number }) => connect({ host, port }),
    waitUntil: (work: Promise<unknown>) => void background.push(work.catch(() => undefined)),
  };
  const handlers = {
    "sync-trigger": createTrigger(runtime, installation),
    "sync-page": createPage(runtime, installation),
    "sync-tick": createTick(runtime, installation),
  };
  return {
    keys,
    lines,
    /** Ends when the work after the answers has. */
    settled: () => Promise.all(background),
    call: (name: FunctionName, init: RequestInit & { query?: string; duplex?: "half" } = {}) =>
      handlers[name](new Request(`${BASE}/${name}${init.query ?? ""}`, init)),
  };
}

/** A signed-in user's token as Supabase Auth makes it; a claim given as undefined is left out. */
export function userToken({ kid, alg, privateKey }: SigningKeys, claims: Claims = {}, header: Claims = {}): string {
  const now = seconds();
  const body = {
    ...{ iss: ISSUER, aud: "authenticated", role: "authenticated", sub: randomUUID(), iat: now, exp: now + 3_600 },
    ...{ app_metadata: { isthmus_role: "operator" }, is_anonymous: false, session_id: randomUUID(), aal: "aal1" },
    ...claims,
  };
  const signed = `${encode({ alg, typ: "JWT", kid, ...header })}.${encode(body)}`;
  return `${signed}.${sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

/** A token under a shared secret, with whatever header and claims. */
export function secretToken(secret: string, claims: Claims, header: Claims & { readonly alg?: string } = {}): string {
  const signed = `${encode({ alg: "HS256", typ: "JWT", ...header })}.${encode(claims)}`;
  const hash = (header.alg ?? "HS256").replace("HS", "sha");
  return `${signed}.${createHmac(hash, secret).update(signed).digest("base64url")}`;
}

/** What QStash claims of a delivery to a function. */
export function deliveryClaims(name: FunctionName, body: string): Claims {
  const now = seconds();
  const hash = createHash("sha256").update(body).digest("base64url");
  return {
    ...{ iss: "Upstash", sub: `${BASE}/functions/v1/${name}`, nbf: now, iat: now, exp: now + 300 },
    ...{ jti: `jwt_${randomUUID()}`, body: `${hash}=` },
  };
}

export const seconds = () => Math.floor(Date.now() / 1_000);

export interface SigningKeys {
  readonly alg: "ES256" | "RS256";
  readonly kid: string;
  readonly jwk: object;
  readonly privateKey: KeyObject;
  readonly publicPem: string;
}

export function signingKeys(alg: "ES256" | "RS256"): SigningKeys {
  const pair =
    alg === "ES256" ? generateKeyPairSync("ec", { namedCurve: "P-256" }) : generateKeyPairSync("rsa", { modulusLength: 2_048 });
  const kid = randomUUID();
  return {
    alg,
    kid,
    jwk: { ...pair.publicKey.export({ format: "jwk" }), kid, alg, use: "sig", key_ops: ["verify"] },
    privateKey: pair.privateKey,
    publicPem: pair.publicKey.export({ format: "pem", type: "spki" }).toString(),
  };
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
