import { z } from "zod";
import { Problem } from "../problem.ts";

const HOSTED = "https://api.supabase.com";
const TIMEOUT_MS = 30_000;

const project = z.object({
  name: z.string(),
  region: z.string().optional(),
  status: z.string(),
  database: z.object({ version: z.string().optional() }).optional(),
});
const pooler = z.object({
  database_type: z.string(),
  db_host: z.string(),
  db_port: z.number(),
  db_name: z.string(),
  pool_mode: z.string(),
});
const key = z.object({ id: z.string().nullish(), name: z.string(), type: z.string().nullish(), api_key: z.string().nullish() });
const secret = z.object({ name: z.string(), value: z.string() });
const deployedFunction = z.object({ slug: z.string(), status: z.string() });

export type ApiKey = z.output<typeof key>;

/** What setup asks of the platform, each answer checked. https://supabase.com/docs/reference/api */
export interface ManagementApi {
  readonly ref: string;
  readonly project: () => Promise<z.output<typeof project>>;
  /** The primary database's pooler in transaction mode. */
  readonly pooler: () => Promise<{ host: string; port: number; database: string }>;
  /** With their values. */
  readonly keys: () => Promise<readonly ApiKey[]>;
  /** A new secret key. Names: lower case, digits and `_`, not beginning with a digit. */
  readonly createKey: (name: string) => Promise<{ id: string; value: string }>;
  readonly deleteKey: (id: string) => Promise<void>;
  /** SHA-256 of each secret of the functions, by name. */
  readonly secrets: () => Promise<ReadonlyMap<string, string>>;
  readonly setSecrets: (secrets: Readonly<Record<string, string>>) => Promise<void>;
  readonly unsetSecrets: (names: readonly string[]) => Promise<void>;
  readonly functions: () => Promise<readonly z.output<typeof deployedFunction>[]>;
}

/** @param base another address than the hosted one, for rehearsals. @throws Problem from every call that is refused or not answered. */
export function managementApi(ref: string, token: string, base = HOSTED): ManagementApi {
  const ask = async <T>(schema: z.ZodType<T>, method: string, path: string, body?: object): Promise<T> => {
    const what = `${method} /v1/projects/${ref}${path.replace(/\?.*/, "")}`;
    let response: Response;
    try {
      response = await fetch(`${base}/v1/projects/${ref}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      throw new Problem("UNREACHABLE", `The management API does not answer (${what}).`, "Check the network, then run it again.", {
        cause: error,
      });
    }
    const text = await response.text();
    if (!response.ok) throw refused(response.status, what, text);
    const parsed = schema.safeParse(parse(text));
    if (parsed.success) return parsed.data;
    const fields = parsed.error.issues.map((issue) => issue.path.join(".")).join(", ");
    throw new Problem(
      "PLATFORM_ERROR",
      `The management API answered ${what} in another shape (${fields}).`,
      "Report this message.",
    );
  };
  return {
    ref,
    project: () => ask(project, "GET", ""),
    pooler: async () => {
      const found = (await ask(z.array(pooler), "GET", "/config/database/pooler")).filter(
        (one) => one.database_type === "PRIMARY",
      );
      const one = found.find(({ pool_mode }) => pool_mode === "transaction") ?? found[0];
      if (one) return { host: one.db_host, port: one.pool_mode === "transaction" ? one.db_port : 6543, database: one.db_name };
      throw new Problem(
        "NOT_FOUND",
        "The project has no pooler.",
        "Put TARGET_DB_URL into the file: the database as isthmus_worker.",
      );
    },
    keys: () => ask(z.array(key), "GET", "/api-keys?reveal=true"),
    createKey: async (name) => {
      const made = await ask(key, "POST", "/api-keys?reveal=true", {
        type: "secret",
        name,
        description: "Calls the functions of Isthmus",
        secret_jwt_template: { role: "service_role" },
      });
      if (typeof made.id === "string" && typeof made.api_key === "string") return { id: made.id, value: made.api_key };
      throw new Problem(
        "PLATFORM_ERROR",
        `The platform does not show the new key ${name}.`,
        "Make a secret key on the dashboard, and put it into the file as ISTHMUS_API_KEY.",
      );
    },
    deleteKey: async (id) => {
      await ask(z.unknown(), "DELETE", `/api-keys/${encodeURIComponent(id)}`);
    },
    secrets: async () => new Map((await ask(z.array(secret), "GET", "/secrets")).map(({ name, value }) => [name, value])),
    setSecrets: async (secrets) => {
      const body = Object.entries(secrets).map(([name, value]) => ({ name, value }));
      await ask(z.unknown(), "POST", "/secrets", body);
    },
    unsetSecrets: async (names) => {
      await ask(z.unknown(), "DELETE", "/secrets", names);
    },
    functions: () => ask(z.array(deployedFunction), "GET", "/functions"),
  };
}

const said = z.object({ message: z.string() });

/** Not every gateway speaks JSON. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refused(status: number, what: string, text: string): Problem {
  const message = said.safeParse(parse(text)).data?.message ?? "";
  const remedy =
    status === 401 || status === 403
      ? "Make a new access token (dashboard: Account, Access Tokens), of a person with rights to this project, and set SUPABASE_ACCESS_TOKEN."
      : status === 404
        ? "Is SUPABASE_URL this project's, https://<ref>.supabase.co, and is the token's owner a member?"
        : "Try again in a minute; https://status.supabase.com says whether the platform is well.";
  return new Problem(
    "PLATFORM_ERROR",
    `The management API answered ${status} to ${what}${message === "" ? "" : `: ${message}`}.`,
    remedy,
  );
}
