import { createHash, randomBytes, randomUUID } from "node:crypto";
import { mkdirSync, rmSync, mkdtempSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";

const metadataSchema = z.object({
  name: z.string(),
  entrypoint_path: z.string(),
  import_map_path: z.string().optional(),
  static_patterns: z.array(z.string()).optional(),
  verify_jwt: z.boolean(),
});
const publishedSchema = z.array(z.object({ slug: z.string(), status: z.string(), version: z.number() }));

/** A function as the CLI sent it. */
export interface UploadedFunction {
  readonly slug: string;
  readonly metadata: z.output<typeof metadataSchema>;
  /** Path as sent, relative to the project's root. */
  readonly files: ReadonlyMap<string, Buffer>;
  /** Bytes of the request's body. */
  readonly requestBytes: number;
}

export interface FakeManagementApi extends AsyncDisposable {
  readonly projectRef: string;
  /** What the CLI needs in its environment to talk to this server instead of the hosted one. */
  readonly env: Readonly<Record<string, string>>;
  readonly uploads: ReadonlyMap<string, UploadedFunction>;
  /** What the CLI made live after the uploads: one entry per function. */
  readonly published: () => z.output<typeof publishedSchema>;
  /** Method and path of each request, in order. */
  readonly requests: readonly string[];
  /** Of requests like these, all answers are 500 until the list is empty again. */
  readonly failing: RegExp[];
  /** Of requests like these the answer is lost: what was asked is done. */
  readonly losing: RegExp[];
  /** What happens while a request like this is answered, before the answer. */
  readonly meanwhile: Map<RegExp, () => Promise<void>>;
  /** Secrets of the functions, as they were sent. */
  readonly secrets: Map<string, string>;
  readonly keys: ProjectKey[];
  /** Address of this server: what takes the place of https://api.supabase.com. */
  readonly url: string;
}

/** A secret key of the project. Functions know those that there were when they were deployed. */
export interface ProjectKey {
  readonly id: string;
  readonly name: string;
  readonly type: "secret" | "publishable";
  readonly api_key: string;
}

export interface FakeManagementOptions {
  /** Where the project's pooler is. */
  readonly pooler?: { readonly host: string; readonly port: number; readonly database: string };
  /** Called once functions have been deployed or deleted, or a secret was set or unset. */
  readonly onChange?: (change: "deployed" | "secrets") => Promise<void>;
}

const secretsSchema = z.array(z.object({ name: z.string().regex(/^(?!SUPABASE_)/), value: z.string() }));
/** The platform's own rule for names of keys. */
const newKeySchema = z.object({ type: z.enum(["secret", "publishable"]), name: z.string().regex(/^[a-z_][a-z0-9_]{3,63}$/) });

/**
 * The part of the management API that the CLI and setup use. Refuses a wrong token as the real one does; shows a
 * key's value only when it is asked to, and of a secret its SHA-256 alone.
 */
export async function startFakeManagementApi(options: FakeManagementOptions = {}): Promise<FakeManagementApi> {
  const projectRef = Array.from(randomBytes(20), (byte) => String.fromCharCode(97 + (byte % 26))).join("");
  const token = `sbp_${randomBytes(20).toString("hex")}`;
  const uploads = new Map<string, UploadedFunction>();
  const requests: string[] = [];
  let published: z.output<typeof publishedSchema> = [];
  const failing: RegExp[] = [];
  const losing: RegExp[] = [];
  const meanwhile = new Map<RegExp, () => Promise<void>>();
  const secrets = new Map<string, string>();
  const keys: ProjectKey[] = [newKey("default", "secret"), newKey("default", "publishable")];

  const handle = async (request: IncomingMessage): Promise<{ status: number; body: unknown }> => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const body = await readAll(request);
    requests.push(`${request.method ?? ""} ${url.pathname}`);
    if (request.headers.authorization !== `Bearer ${token}`) return { status: 401, body: { message: "Unauthorized" } };
    if (failing.some((pattern) => pattern.test(`${request.method ?? ""} ${url.pathname}`)))
      return { status: 500, body: { message: "Internal Server Error" } };
    for (const [pattern, work] of meanwhile) if (pattern.test(`${request.method ?? ""} ${url.pathname}`)) await work();
    const project = `/v1/projects/${projectRef}`;
    const named = new RegExp(`^(GET|DELETE) ${project}/(functions|api-keys)/([^/]+)$`).exec(
      `${request.method ?? ""} ${url.pathname}`,
    );
    if (named?.[1] === "DELETE" && named[2] === "functions") {
      uploads.delete(named[3] ?? "");
      published = published.filter(({ slug }) => slug !== named[3]);
      await options.onChange?.("deployed");
      return { status: 200, body: {} };
    }
    if (named?.[1] === "DELETE" && named[2] === "api-keys") {
      const index = keys.findIndex(({ id }) => id === named[3]);
      if (index < 0) return { status: 404, body: { message: "API key not found" } };
      return { status: 200, body: keys.splice(index, 1)[0] };
    }
    switch (`${request.method ?? ""} ${url.pathname}`) {
      case `GET ${project}`:
        return { status: 200, body: projectOf(projectRef) };
      case `GET ${project}/functions`:
        return { status: 200, body: [...uploads.values()].map(deployed) };
      case `GET ${project}/config/database/pooler`:
        return { status: 200, body: options.pooler ? [poolerOf(projectRef, options.pooler)] : [] };
      case `GET ${project}/api-keys`: {
        const reveal = url.searchParams.get("reveal") === "true";
        return {
          status: 200,
          body: keys.map((key) => ({ ...key, api_key: reveal ? key.api_key : `${key.api_key.slice(0, 14)}···` })),
        };
      }
      case `POST ${project}/api-keys`: {
        const { type, name } = newKeySchema.parse(JSON.parse(body.toString("utf8")));
        if (keys.some((key) => key.name === name && key.type === type))
          return { status: 400, body: { message: "name is taken" } };
        const made = newKey(name, type);
        keys.push(made);
        return { status: 201, body: url.searchParams.get("reveal") === "true" ? made : { ...made, api_key: null } };
      }
      case `GET ${project}/secrets`:
        return {
          status: 200,
          body: [...secrets].map(([name, value]) => ({ name, value: createHash("sha256").update(value).digest("hex") })),
        };
      case `POST ${project}/secrets`:
        for (const { name, value } of secretsSchema.parse(JSON.parse(body.toString("utf8")))) secrets.set(name, value);
        await options.onChange?.("secrets");
        return { status: 201, body: undefined };
      case `DELETE ${project}/secrets`:
        for (const name of z.array(z.string()).parse(JSON.parse(body.toString("utf8")))) secrets.delete(name);
        await options.onChange?.("secrets");
        return { status: 200, body: {} };
      case `POST ${project}/functions/deploy`: {
        const slug = url.searchParams.get("slug") ?? "";
        const upload = await parseUpload(slug, body, request.headers["content-type"] ?? "");
        uploads.set(slug, upload);
        if (url.searchParams.get("bundleOnly") !== "true") await options.onChange?.("deployed");
        return { status: 201, body: deployed(upload) };
      }
      case `PUT ${project}/functions`:
        published = publishedSchema.parse(JSON.parse(body.toString("utf8")));
        await options.onChange?.("deployed");
        return { status: 200, body: { functions: published } };
      default:
        return { status: 404, body: { message: "Not Found" } };
    }
  };

  const server = createServer((request, response) => {
    void handle(request)
      .catch((error: unknown) => ({ status: 400, body: { message: String(error) } }))
      .then(({ status, body }) => {
        if (losing.some((pattern) => pattern.test(`${request.method ?? ""} ${request.url ?? ""}`))) request.socket.destroy();
        response.writeHead(status, { "content-type": "application/json" });
        response.end(JSON.stringify(body));
      });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const folder = mkdtempSync(join(tmpdir(), "isthmus-api-"));
  // A profile tells the CLI which API host to use.
  const profile = join(folder, "profile.yaml");
  writeFileSync(
    profile,
    [`name: rehearsal`, `api_url: ${url}`, `dashboard_url: ${url}`, `docs_url: ${url}`, `project_host: supabase.co`, ``].join(
      "\n",
    ),
  );
  return {
    projectRef,
    env: { SUPABASE_PROFILE: profile, SUPABASE_ACCESS_TOKEN: token },
    uploads,
    published: () => published,
    requests,
    failing,
    losing,
    meanwhile,
    secrets,
    keys,
    url,
    [Symbol.asyncDispose]: async () => {
      rmSync(folder, { recursive: true, force: true });
      server.closeAllConnections();
      await new Promise<void>((closed) => server.close(() => closed()));
    },
  };
}

/** Writes what was uploaded, and nothing else, below a folder. */
export function unpack(upload: UploadedFunction, folder: string): void {
  for (const [path, content] of upload.files) {
    const file = join(folder, path);
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, content);
  }
}

async function parseUpload(slug: string, body: Buffer, contentType: string): Promise<UploadedFunction> {
  // Deprecated for servers that face strangers; this one reads a small body of the CLI's.
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  const form = await new Response(new Uint8Array(body), { headers: { "content-type": contentType } }).formData();
  const metadata = form.get("metadata");
  const text = typeof metadata === "string" ? metadata : ((await metadata?.text()) ?? "");
  const files = new Map<string, Buffer>();
  for (const part of form.getAll("file")) {
    if (typeof part === "string") throw new Error("file: must be a file");
    if (files.has(part.name)) throw new Error(`${part.name} was sent twice`);
    files.set(part.name, Buffer.from(await part.arrayBuffer()));
  }
  return { slug, metadata: metadataSchema.parse(JSON.parse(text)), files, requestBytes: body.length };
}

export function newKey(name: string, type: ProjectKey["type"]): ProjectKey {
  return { id: randomUUID(), name, type, api_key: `sb_${type}_${randomBytes(24).toString("base64url")}` };
}

function poolerOf(ref: string, { host, port, database }: { host: string; port: number; database: string }) {
  return {
    identifier: ref,
    database_type: "PRIMARY",
    is_using_scram_auth: true,
    db_user: "postgres",
    db_host: host,
    db_port: port,
    db_name: database,
    connection_string: `postgres://postgres.${ref}:[YOUR-PASSWORD]@${host}:${port}/${database}`,
    default_pool_size: 15,
    max_client_conn: 200,
    pool_mode: "transaction",
  };
}

function projectOf(ref: string) {
  return {
    id: ref,
    ref,
    organization_id: "rehearsal",
    organization_slug: "rehearsal",
    name: "rehearsal",
    region: "eu-central-1",
    created_at: "2026-01-01T00:00:00Z",
    status: "ACTIVE_HEALTHY",
    database: { host: `db.${ref}.supabase.co`, version: "17.4.1.001", postgres_engine: "17", release_channel: "ga" },
  };
}

function deployed(upload: UploadedFunction) {
  return {
    id: `id-of-${upload.slug}`,
    slug: upload.slug,
    name: upload.metadata.name,
    status: "ACTIVE",
    version: 1,
    created_at: 1_767_225_600_000,
    updated_at: 1_767_225_600_000,
    verify_jwt: upload.metadata.verify_jwt,
    import_map: upload.metadata.import_map_path !== undefined,
    entrypoint_path: upload.metadata.entrypoint_path,
    import_map_path: upload.metadata.import_map_path ?? null,
  };
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
