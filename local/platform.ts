import { generateKeyPairSync, randomBytes, randomUUID, sign } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { resolve } from "node:path";
import { Client } from "@upstash/qstash";
import postgres from "postgres";
import { startFunctionsHost, type FunctionsHost } from "./functions/host.ts";
import type { Hosted } from "./functions/hosted.ts";
import type { LogLine } from "./functions/isolate-pool.ts";
import { startNetWorker, type NetWorker } from "./net/worker.ts";
import { freePort } from "./ports.ts";
import { startPostgres, type LocalPostgres, type PostgresOptions } from "./postgres.ts";
import { startQstash, type LocalQstash } from "./qstash/server.ts";
import { startRedis, type LocalRedis } from "./redis/server.ts";
import { scheduleId } from "../shared/queue/installation.ts";
import { prepareSource, prepareSupabase, takeSource, takeSupabase, TARGET_DATABASE } from "./target/supabase.ts";

export interface PlatformOptions {
  /** Where data lives; git-ignored. A second start with the same folder reuses it. */
  readonly dataDir: string;
  readonly onStep?: (step: string) => void;
  readonly onFunctionLog?: (event: LogLine) => void;
  /** Extra environment of the functions, for example ISTHMUS_PAGE_SIZE. */
  readonly env?: Readonly<Record<string, string>>;
  /** Switches of the functions' host that differ from the hosted runtime. */
  readonly hosted?: Partial<Hosted>;
  /** What the application's triggers do is accepted already (default: it is). */
  readonly acknowledge?: boolean;
  /** PostgreSQL 17 (default), where QStash calls sync-tick; or Debian's 15, where the real pg_cron does, through stand-ins of pg_net and Vault. */
  readonly targetVersion?: TargetVersion;
  /** Servers that are prepared already: the platform begins with copies of them. Default: it prepares its own. */
  readonly copyOf?: { readonly source: PreparedServer; readonly target: PreparedServer };
}

export type TargetVersion = 15 | 17;

/** A stopped server, and its database that is a whole source or target. */
export interface PreparedServer {
  readonly folder: string;
  readonly database: string;
}

export interface Platform {
  readonly source: LocalPostgres;
  readonly target: LocalPostgres;
  /** The running stand-in; another object after restartQstash(). */
  readonly qstash: LocalQstash;
  readonly redis: LocalRedis;
  /** The running host; another object after restartFunctions(). */
  readonly functions: FunctionsHost;
  /** A secret key of the project, as machines send it. */
  readonly secretKey: string;
  readonly urls: {
    readonly sourceOwner: string;
    readonly sourceReader: string;
    readonly targetOwner: string;
    readonly targetWorker: string;
  };
  /** Calls a function with the secret key. */
  call(path: string, init?: { method?: string; body?: unknown; headers?: Record<string, string> }): Promise<Response>;
  /** A signed-in user's token, as Supabase Auth would issue it. */
  userToken(appMetadata: Record<string, unknown>, overrides?: Record<string, unknown>): string;
  /** Loses all messages, as a crash of the stand-in does. */
  crashQstash(): Promise<void>;
  /** Starts it again under the same address and keys. */
  restartQstash(): Promise<void>;
  /** Starts the functions anew under the same address, on a host with these switches and secrets; `between` runs while there are none. */
  restartFunctions(
    hosted: Partial<Hosted>,
    between?: () => Promise<void>,
    secrets?: Readonly<Record<string, string>>,
  ): Promise<void>;
  stop(): Promise<void>;
}

/** Starts everything a hosted installation has: two databases, QStash, Redis and the functions on Deno. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const say = options.onStep ?? (() => undefined);
  const dataDir = resolve(options.dataDir);
  await mkdir(dataDir, { recursive: true });
  const started: { stop(): Promise<void> }[] = [];
  const stop = async () => {
    for (const part of started.splice(0).reverse()) await part.stop();
  };
  try {
    say("PostgreSQL 17, the legacy source");
    const { copyOf } = options;
    const source = await startPostgres({
      name: "source",
      dataDir: resolve(dataDir, "source"),
      ...(copyOf && { copyOf: copyOf.source.folder }),
    });
    started.push(source);
    const sourceUrls = copyOf ? await takeSource(source, copyOf.source.database) : await prepareSource(source);

    const version = options.targetVersion ?? 17;
    const schedules = version === 15;
    say(`PostgreSQL ${version}, the Supabase target: roles, application tables, migrations by the Supabase CLI`);
    const target = await startPostgres({
      name: "target",
      dataDir: resolve(dataDir, "target"),
      ...TARGET_SERVER[version],
      ...(copyOf && { copyOf: copyOf.target.folder }),
    });
    started.push(target);
    const targetUrls = copyOf
      ? await takeSupabase(target, copyOf.target.database)
      : await prepareSupabase(target, { acknowledge: options.acknowledge ?? true, schedules });

    const redis = await startRedis();
    started.push(redis);
    say(`Redis endpoint (${redis.backing})`);
    let qstash = await startQstash();
    started.push({ stop: () => qstash.stop() });
    say("QStash stand-in");

    const port = await freePort();
    const base = `http://127.0.0.1:${port}`;
    const keys = signingKeys();
    const secretKey = `sb_secret_${randomBytes(24).toString("base64url")}`;
    const project = {
      SUPABASE_URL: base,
      SUPABASE_DB_URL: targetUrls.owner,
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: secretKey }),
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: `sb_publishable_${randomBytes(24).toString("base64url")}` }),
      SUPABASE_JWKS: JSON.stringify({ keys: [keys.jwk] }),
    };
    const env = {
      SOURCE_DB_URL: sourceUrls.reader,
      TARGET_DB_URL: targetUrls.worker,
      QSTASH_URL: qstash.url,
      QSTASH_TOKEN: qstash.token,
      QSTASH_CURRENT_SIGNING_KEY: qstash.currentSigningKey,
      QSTASH_NEXT_SIGNING_KEY: qstash.nextSigningKey,
      UPSTASH_REDIS_REST_URL: redis.url,
      UPSTASH_REDIS_REST_TOKEN: redis.token,
      ...options.env,
    };
    const host = (hosted: Partial<Hosted> = {}, secrets: Readonly<Record<string, string>> = {}) =>
      startFunctionsHost({
        functionsDir: resolve(import.meta.dirname, "../functions"),
        names: ["sync-trigger", "sync-page", "sync-tick"],
        port,
        project,
        env: { ...env, ...secrets },
        hosted,
        ...(options.onFunctionLog ? { onLog: options.onFunctionLog } : {}),
      });
    let functions = await host(options.hosted);
    started.push({ stop: () => functions.stop() });
    say(`Edge Functions on Deno at ${functions.url}`);

    if (schedules) started.push(await startScheduling(target, targetUrls.owner, functions.url, secretKey));
    // What pg_cron does on a hosted project, a QStash schedule does where there is none.
    else
      await new Client({ baseUrl: qstash.url, token: qstash.token }).schedules.create({
        scheduleId: scheduleId(functions.url),
        destination: `${functions.url}/sync-tick`,
        cron: "* * * * *",
      });

    return {
      source,
      target,
      get qstash() {
        return qstash;
      },
      redis,
      get functions() {
        return functions;
      },
      secretKey,
      urls: {
        sourceOwner: sourceUrls.owner,
        sourceReader: sourceUrls.reader,
        targetOwner: targetUrls.owner,
        targetWorker: targetUrls.worker,
      },
      call: (path, init = {}) =>
        fetch(`${functions.url}/${path}`, {
          method: init.method ?? (init.body === undefined ? "GET" : "POST"),
          headers: { apikey: secretKey, "content-type": "application/json", ...init.headers },
          ...(init.body === undefined ? {} : { body: JSON.stringify(init.body) }),
        }),
      crashQstash: () => qstash.crash(),
      restartQstash: async () => {
        const { token, currentSigningKey, nextSigningKey } = qstash;
        qstash = await startQstash({ port: Number(new URL(qstash.url).port), token, currentSigningKey, nextSigningKey });
      },
      restartFunctions: async (hosted, between, secrets) => {
        await functions.stop();
        await between?.();
        functions = await host(hosted, secrets);
      },
      userToken: (appMetadata, overrides = {}) => keys.token({ app_metadata: appMetadata, iss: `${base}/auth/v1`, ...overrides }),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** What a target's server is started with. pg_cron is packaged for 15 alone. */
export const TARGET_SERVER: Readonly<Record<TargetVersion, Pick<PostgresOptions, "server" | "settings">>> = {
  15: { server: "debian-15", settings: { shared_preload_libraries: "pg_cron", "cron.database_name": TARGET_DATABASE } },
  17: {},
};

/** What the guide has an operator do, as the project's owner: address and key into Vault. Then pg_net's worker sends what the jobs ask for. */
async function startScheduling(target: LocalPostgres, owner: string, functionsUrl: string, key: string): Promise<NetWorker> {
  const sql = postgres(owner, { max: 1, onnotice: () => undefined });
  try {
    await sql`select vault.create_secret(${functionsUrl}, 'isthmus_functions_url'), vault.create_secret(${key}, 'isthmus_secret_key')`;
  } finally {
    await sql.end();
  }
  return startNetWorker({ url: target.superuserUrl(TARGET_DATABASE) });
}

/** The project's asymmetric signing key: the public half as JWKS, and tokens signed with the private half. */
function signingKeys() {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const kid = randomUUID();
  const jwk = { ...publicKey.export({ format: "jwk" }), kid, alg: "ES256", use: "sig", key_ops: ["verify"] };
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return {
    jwk,
    token(claims: Record<string, unknown>): string {
      const now = Math.floor(Date.now() / 1_000);
      const body = { sub: randomUUID(), aud: "authenticated", role: "authenticated", iat: now, exp: now + 3_600, ...claims };
      const signed = `${encode({ alg: "ES256", typ: "JWT", kid })}.${encode(body)}`;
      const signature = sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" });
      return `${signed}.${signature.toString("base64url")}`;
    },
  };
}
