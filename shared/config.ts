import { z } from "zod";
import { IsthmusError } from "./errors.ts";

const integer = (fallback: number, min = 1) => z.coerce.number().int().min(min).default(fallback);
const optional = z.string().min(1).optional();
const dictionary = z.string().transform((text, context) => {
  try {
    return z.record(z.string(), z.string().min(1)).parse(JSON.parse(text));
  } catch {
    context.addIssue({ code: "custom", message: "must be a JSON object of name: key" });
    return z.NEVER;
  }
});

/**
 * verify-full: the certificate's authority and host name are checked. require: encrypted, not verified, which Node
 * can do and the functions' runtime cannot. disable: in clear.
 */
export const TLS_MODES = ["verify-full", "require", "disable"] as const;
export type TlsMode = (typeof TLS_MODES)[number];

/** A secret key of the project would be the whole project in a scraper's file. */
const METRICS_TOKEN_FORM = /^(?!sb_)[A-Za-z0-9_-]{32,200}$/;

const schema = z.object({
  /** The legacy database, as a read-only role. */
  SOURCE_DB_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  SOURCE_NAME: z
    .string()
    .regex(/^[a-z][a-z0-9_-]{0,39}$/)
    .default("legacy"),
  SOURCE_DB_TLS: z.enum(TLS_MODES).default("verify-full"),
  /** PEM of the authority that signed the source's certificate, when it is not a public one. */
  SOURCE_DB_CA: optional,
  /** The Supabase database as isthmus_worker, through the transaction pooler (port 6543). */
  TARGET_DB_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  TARGET_DB_TLS: z.enum(TLS_MODES).default("verify-full"),
  /** PEM; a host of Supabase's needs none (db/supabase-ca.ts). */
  TARGET_DB_CA: optional,
  SUPABASE_URL: z.url(),
  SUPABASE_SECRET_KEYS: dictionary,
  SUPABASE_PUBLISHABLE_KEYS: dictionary,
  SUPABASE_JWKS: optional,
  /** Who issues users' tokens. Default: SUPABASE_URL + /auth/v1. */
  ISTHMUS_TOKEN_ISSUER: z.url().optional(),
  /** Public base address of the functions: what QStash calls and signs. Default: SUPABASE_URL + /functions/v1. */
  FUNCTIONS_URL: z.url().optional(),
  QSTASH_URL: z.url().default("https://qstash.upstash.io"),
  QSTASH_TOKEN: z.string().min(1),
  QSTASH_CURRENT_SIGNING_KEY: z.string().min(1),
  QSTASH_NEXT_SIGNING_KEY: z.string().min(1),
  /**
   * What a scraper sends (Authorization: Bearer): it reads metrics, and nothing else. Without it only a secret key
   * does. One of another form is as none: the sync does not stop for it. Setup refuses such a one.
   */
  METRICS_TOKEN: z.string().regex(METRICS_TOKEN_FORM).optional().catch(undefined),
  UPSTASH_REDIS_REST_URL: z.url().optional(),
  UPSTASH_REDIS_REST_TOKEN: optional,
  /** Records of a first page; later ones adapt to what pages measured. */
  ISTHMUS_PAGE_SIZE: integer(2_000),
  ISTHMUS_PAGE_SIZE_MAX: integer(5_000),
  /** Target rows per page of an adoption: they are read and mapped by the database alone. */
  ISTHMUS_ADOPT_PAGE_SIZE: integer(20_000),
  /** How long a page may take before another delivery may take over. */
  ISTHMUS_LEASE_SECONDS: integer(60),
  /** A page that has made no progress in so many tries stops its chain, alone. */
  ISTHMUS_PAGE_TRIES: integer(20, 3),
  /** So do all pages of an execution of which nothing has moved for so long. */
  ISTHMUS_STALLED_MINUTES: integer(60, 5),
  /** Pages that run at the same time (the original design's concurrency limit). */
  ISTHMUS_PARALLEL_PAGES: integer(5),
  /** A full pass gives an entity one chain per this many rows, up to ISTHMUS_CHAINS_PER_ENTITY. */
  ISTHMUS_ROWS_PER_CHAIN: integer(10_000),
  ISTHMUS_CHAINS_PER_ENTITY: integer(2),
  /** Rows of a joined table that one page looks at: only a link and a digest of each travel. */
  ISTHMUS_JOIN_ROWS: integer(20_000),
  /** How long a page looks for changed rows before it goes on in the next: far less than a lease. */
  ISTHMUS_SCAN_SECONDS: integer(5),
  /** Tables up to this size are looked at in the plan; a larger one gets a chain without a look. */
  ISTHMUS_LOOK_MB: integer(64, 0),
  /** Records of an entity that changed joined rows may list in an execution; more are read again as one range of keys. */
  ISTHMUS_FANOUT_KEYS: integer(20_000),
  /** A digest page compares the hashes of so many records on either side. */
  ISTHMUS_DIGEST_ROWS: integer(200_000),
  /** More than this share of an entity's landed records is deleted, or emptied in a column, only when a person has confirmed it. */
  ISTHMUS_BRAKE_SHARE: z.coerce.number().gt(0).max(1).default(0.1),
  /** The brake does not look at up to so many records. */
  ISTHMUS_BRAKE_RECORDS: integer(100, 0),
  /** In more than this share of an entity's landed records values are overwritten only when a person has confirmed it. */
  ISTHMUS_BRAKE_OVERWRITE_SHARE: z.coerce.number().gt(0).max(1).default(0.25),
  /** That brake does not look at up to so many records. */
  ISTHMUS_BRAKE_OVERWRITE_RECORDS: integer(1_000, 0),
  /** More target rows than this share of an entity, edited since both sides were compared before, are told of: a restored table, a script. */
  ISTHMUS_EDITS_SHARE: z.coerce.number().gt(0).max(1).default(0.1),
  /** Up to so many are edits of people, whatever the share. */
  ISTHMUS_EDITS_RECORDS: integer(100, 0),
  /** A transaction of the source that has been open for longer is told of. */
  ISTHMUS_HORIZON_MINUTES: integer(15, 1),
  ISTHMUS_QUEUE_AGE_HOURS: integer(72, 1),
  ISTHMUS_PAUSED_HOURS: integer(24, 1),
  /** Life of a cached mapping (uuid_mappings_ttl of the original design). */
  ISTHMUS_CACHE_TTL_SECONDS: integer(3_600),
  /** Connections of one isolate to each database, and pages that it runs at a time. */
  ISTHMUS_POOL_SIZE: integer(2),
  /** How long a page waits for its turn in an isolate; then it goes back to the queue. */
  ISTHMUS_TURN_SECONDS: integer(60),
  ISTHMUS_IDLE_TIMEOUT_SECONDS: integer(30),
  ISTHMUS_ACQUIRE_TIMEOUT_SECONDS: integer(30),
});

/** What is wrong with a token that is to read metrics; undefined: nothing. */
export const metricsTokenProblem = (token: string): string | undefined =>
  METRICS_TOKEN_FORM.test(token) ? undefined : "must be 32 to 200 letters, digits, _ or -, and no other key of the project";

/** Every variable that the functions read. */
export const CONFIG_NAMES: readonly string[] = Object.keys(schema.shape);
/** Those without which they do not start. */
export const REQUIRED_NAMES: readonly string[] = Object.entries(schema.shape)
  .filter(([, type]) => !type.safeParse(undefined).success)
  .map(([name]) => name);

export type Config = Readonly<z.output<typeof schema>> & {
  readonly FUNCTIONS_URL: string;
  readonly ISTHMUS_TOKEN_ISSUER: string;
};

/**
 * Reads the environment once, into a frozen object.
 * @throws IsthmusError CONFIG_INVALID naming each variable that is missing or malformed (never its value).
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const result = schema.safeParse(Object.fromEntries(Object.entries(env).filter(([, value]) => value !== "")));
  if (!result.success) {
    const problems = result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new IsthmusError("CONFIG_INVALID", `Configuration: ${problems.join("; ")}`, {
      detail: { variables: result.error.issues.map((issue) => issue.path.join(".")) },
    });
  }
  const config = result.data;
  const project = config.SUPABASE_URL.replace(/\/$/, "");
  return Object.freeze({
    ...config,
    FUNCTIONS_URL: (config.FUNCTIONS_URL ?? `${project}/functions/v1`).replace(/\/$/, ""),
    ISTHMUS_TOKEN_ISSUER: config.ISTHMUS_TOKEN_ISSUER ?? `${project}/auth/v1`,
  });
}

/**
 * What the functions' runtime cannot do is refused, not done otherwise: it verifies every certificate (it ignores
 * `rejectUnauthorized`).
 * @throws IsthmusError CONFIG_INVALID.
 */
export function refuseUnverified(config: Config): void {
  for (const side of ["SOURCE", "TARGET"] as const) {
    if (config[`${side}_DB_TLS`] !== "require") continue;
    throw new IsthmusError(
      "CONFIG_INVALID",
      `${side}_DB_TLS is require, and the functions' runtime cannot encrypt without verifying. Set verify-full, and ${side}_DB_CA to the ` +
        "authority's certificate (PEM) if it is not a public one; inside a tunnel that authenticates itself, disable.",
      { detail: { variables: [`${side}_DB_TLS`] } },
    );
  }
}
