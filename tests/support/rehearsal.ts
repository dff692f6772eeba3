import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request as forward } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseEnv, promisify } from "node:util";
import { execFile } from "node:child_process";
import postgres, { type Sql } from "postgres";
import { loadLegacy } from "../../clinic/dataset/load.ts";
import { runSyncCli } from "../../cli/program.ts";
import { startFunctionsHost, type FunctionsHost } from "../../local/functions/host.ts";
import { startNetWorker, type NetWorker } from "../../local/net/worker.ts";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import { startQstash, type LocalQstash } from "../../local/qstash/server.ts";
import { applicationSchema, HOSTED_EXTENSIONS, prepareSource } from "../../local/target/supabase.ts";
import { DISLIKED, OPEN_DEFAULTS } from "./advisors.ts";
import { newKey, startFakeManagementApi, type FakeManagementApi } from "./fake-management-api.ts";
import { scratchFolder } from "./scratch.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const DATABASE = "postgres";
const OWNER_PASSWORD = "owner-of-a-rehearsal";

/** What the application has brought into the project before us, by the CLI, and what belongs to other people there. */
const APPLICATION = "20260101000000_application.sql";
const USERS = `
  create table auth.users (id uuid primary key default gen_random_uuid(), email text);
  insert into auth.users (email) values ('reviewer@example.invalid'), ('operator@example.invalid');
  create table public.notes (id uuid primary key default gen_random_uuid(), text text not null);
  insert into public.notes (text) values ('the application''s own');
  create role reporting nologin;
  grant select on public.notes to reporting;`;
/** As the project's owner: what every new object of public is open to, and tables of which the advisors have something to say. */
const OF_THE_OWNER = OPEN_DEFAULTS + DISLIKED;
const JOBS = `
  select vault.create_secret('the application''s', 'payment_key');
  select cron.schedule('application-nightly', '0 3 * * *', 'select 1');
  -- Names that begin like ours.
  select cron.schedule('isthmus-report', '0 4 * * *', 'select 1');
  select cron.alter_job(cron.schedule('isthmus-later', '0 5 * * *', 'select 1'), active := false);`;

/**
 * A project as its team has it, before anything of ours: PostgreSQL 15 with pg_cron, pg_net and Vault, or 17 without
 * them, the application's own migrations, tables, users, roles and jobs; the management API in front of it; and the
 * functions' host, which runs what was deployed with the secrets that were set.
 */
export interface Rehearsal extends AsyncDisposable {
  readonly api: FakeManagementApi;
  readonly qstash: LocalQstash;
  readonly target: LocalPostgres;
  /** The server's superuser in the project's database. */
  readonly admin: Sql;
  /** The project's database as its owner, who is no superuser. */
  readonly ownerUrl: string;
  readonly envFile: string;
  readonly folder: string;
  env(): Readonly<Record<string, string | undefined>>;
  /** Runs `npm run sync -- ...` as it is. */
  sync(...args: string[]): Promise<{ code: number; out: string; err: string }>;
  /** What pg_net was answered to each call of sync-tick, and whether that tick has done its work. */
  ticks(): Promise<readonly { status_code: number | null; timed_out: boolean | null; ended: boolean }[]>;
}

export async function startRehearsal(name: string, { server = 15 }: { server?: 15 | 17 } = {}): Promise<Rehearsal> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-rehearsal-"));
  const source = await startPostgres({
    name: `${name}-source`,
    dataDir: scratchFolder(`${name}-source`),
    settings: { fsync: "off" },
  });
  const { owner: sourceOwner, reader } = await prepareSource(source);
  await loadLegacy({ url: sourceOwner, seed: 1, scale: 0.004, logScale: 0.0002 });
  const target = await startPostgres({
    name,
    dataDir: scratchFolder(name),
    ...(server === 15 ? { server: "debian-15" as const } : {}),
    settings: {
      ...(server === 15 ? { shared_preload_libraries: "pg_cron", "cron.database_name": DATABASE } : {}),
      ...{ fsync: "off", log_statement: "ddl" },
    },
  });
  const admin = postgres(target.superuserUrl(DATABASE), { max: 2, onnotice: () => undefined });
  for (const file of ["local/target/bootstrap.sql", ...(server === 15 ? HOSTED_EXTENSIONS : [])])
    await admin.unsafe(readFileSync(join(ROOT, file), "utf8")).simple();
  await admin.unsafe(`alter role postgres password '${OWNER_PASSWORD}'`);
  const ownerUrl = target.url("postgres", OWNER_PASSWORD, DATABASE);
  await pushApplication(folder, ownerUrl, server);
  await admin.unsafe(server === 15 ? USERS + JOBS : USERS).simple();
  const owner = postgres(ownerUrl, { max: 1, onnotice: () => undefined });
  await owner.unsafe(OF_THE_OWNER).simple();
  await owner.end();

  const qstash = await startQstash();
  const front = await startFront();
  const hosts: FunctionsHost[] = [];
  // Functions are given the project's keys when they are deployed, and secrets at once: isolates start anew, behind
  // the same address.
  let deployedKeys = "{}";
  const api = await startFakeManagementApi({
    pooler: { host: "127.0.0.1", port: target.port, database: DATABASE },
    onChange: async (change) => {
      if (change === "deployed")
        deployedKeys = JSON.stringify(
          Object.fromEntries(api.keys.filter(({ type }) => type === "secret").map((key) => [key.name, key.api_key])),
        );
      const host = await startFunctionsHost({
        functionsDir: join(ROOT, "functions"),
        names: [...api.uploads.keys()],
        project: {
          SUPABASE_URL: front.url,
          SUPABASE_SECRET_KEYS: deployedKeys,
          SUPABASE_PUBLISHABLE_KEYS: "{}",
          SUPABASE_JWKS: JSON.stringify({ keys: [] }),
        },
        env: Object.fromEntries(api.secrets),
      });
      hosts.push(host);
      if (api.uploads.size > 0) front.lead(host.port);
      else front.leadNowhere();
    },
  });
  // The application's own: a key whose name begins like ours, and a queue that both are to share.
  api.keys.push(newKey("isthmus", "secret"));
  api.secrets.set("QSTASH_TOKEN", qstash.token);
  const worker: NetWorker | undefined = server === 17 ? undefined : await startNetWorker({ url: target.superuserUrl(DATABASE) });
  const envFile = join(folder, "isthmus.env");
  writeFileSync(
    envFile,
    [
      `# written by the team`,
      `SUPABASE_URL=https://${api.projectRef}.supabase.co`,
      `SUPABASE_ACCESS_TOKEN=${api.env["SUPABASE_ACCESS_TOKEN"] ?? ""}`,
      `SUPABASE_API_URL=${api.url}`,
      `SUPABASE_PROFILE=${api.env["SUPABASE_PROFILE"] ?? ""}`,
      `TARGET_OWNER_URL="${ownerUrl}"`,
      `SOURCE_DB_URL=${reader}`,
      `FUNCTIONS_URL=${front.url}/functions/v1`,
      `QSTASH_URL=${qstash.url}`,
      `QSTASH_TOKEN=${qstash.token}`,
      ``,
    ].join("\n"),
    { mode: 0o600 },
  );

  return {
    api,
    qstash,
    target,
    admin,
    ownerUrl,
    envFile,
    folder,
    env: () => parseEnv(readFileSync(envFile, "utf8")),
    sync: async (...args) => {
      let [out, err] = ["", ""];
      const code = await runSyncCli(["--env-file", envFile, ...args], {
        env: {},
        out: (text) => (out += text),
        err: (text) => (err += text),
        interactive: false,
        pause: () => new Promise((later) => setTimeout(later, 200)),
      });
      return { code, out, err };
    },
    ticks: async () => [
      ...(await admin<{ status_code: number | null; timed_out: boolean | null; ended: boolean }[]>`
        select r.status_code, r.timed_out, t.ended_at is not null as ended
          from public.sync_ticks t join net._http_response r on r.id = t.request_id order by t.created_at`),
    ],
    [Symbol.asyncDispose]: async () => {
      await worker?.stop();
      await front.stop();
      await Promise.all(hosts.map((host) => host.stop()));
      await qstash.stop();
      await api[Symbol.asyncDispose]();
      await admin.end({ timeout: 1 });
      await Promise.all([source.remove(), target.remove()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The application's own migration, by its own CLI, with its own history. */
async function pushApplication(folder: string, ownerUrl: string, server: number): Promise<void> {
  const project = join(folder, "application");
  mkdirSync(join(project, "supabase/migrations"), { recursive: true });
  writeFileSync(join(project, "supabase/config.toml"), `project_id = "application"\n[db]\nmajor_version = ${server}\n`);
  writeFileSync(join(project, "supabase/migrations", APPLICATION), applicationSchema());
  await promisify(execFile)(
    join(ROOT, "node_modules/.bin/supabase"),
    ["db", "push", "--yes", `--remote=${ownerUrl}`, "--workdir", project],
    {
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: folder,
        NO_COLOR: "1",
        SUPABASE_TELEMETRY_DISABLED: "1",
        PGSSLMODE: "disable",
      },
    },
  );
}

/**
 * How long a deployment takes to be all that answers. Isolates that run keep the secrets and keys that they began
 * with: at first they alone answer, then they and new ones by turns.
 */
const ROLLOUT_MS = 5_000;

/** A host that was deployed, and when. */
interface Generation {
  readonly port: number;
  readonly since: number;
}

/** Which of the hosts, oldest first, answers the request with this number. */
function answering(generations: readonly Generation[], now: number, request: number): number | undefined {
  const newest = generations.at(-1);
  const older = generations.slice(0, -1);
  if (newest === undefined || older.length === 0 || now - newest.since > ROLLOUT_MS) return newest?.port;
  const byTurns = now - newest.since > ROLLOUT_MS / 2;
  return byTurns && request % 2 === 0 ? newest.port : answering(older, now, request >> 1);
}

/** The platform's gateway: whoever is deployed behind the address changes little by little, without a request being lost. */
async function startFront() {
  let generations: readonly Generation[] = [];
  let requests = 0;
  const server = createServer((request, response) => {
    const to = answering(generations, Date.now(), requests++);
    if (to === undefined) {
      response
        .writeHead(404, { "content-type": "application/json" })
        .end(JSON.stringify({ code: "NOT_FOUND", message: "Requested function was not found" }));
      return;
    }
    const onwards = forward(
      { host: "127.0.0.1", port: to, path: request.url, method: request.method, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    onwards.on("error", () => response.headersSent || response.writeHead(502).end());
    request.pipe(onwards);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    lead: (port: number) => void (generations = [...generations, { port, since: Date.now() }]),
    leadNowhere: () => void (generations = []),
    stop: async () => {
      server.closeAllConnections();
      await new Promise<void>((closed) => server.close(() => closed()));
    },
  };
}
