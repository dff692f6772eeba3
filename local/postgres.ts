import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { freePort } from "./ports.ts";
import { postmasterPid, prepareFiles, serverAccount, SUPERUSER, type ServerFiles, type ServerPackage } from "./postgres-files.ts";
import { killTree } from "./processes.ts";

export { SUPERUSER } from "./postgres-files.ts";

export interface PostgresOptions {
  readonly name: string;
  /** Kept between starts; created on the first. */
  readonly dataDir: string;
  readonly port?: number;
  readonly server?: ServerPackage;
  /** The dataDir of a stopped server whose databases a new one begins with. */
  readonly copyOf?: string;
  readonly settings?: Readonly<Record<string, string>>;
}

export interface LocalPostgres {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** The server's own log, for tests that look for what must not be in it. */
  readonly logFile: string;
  superuserUrl(database?: string): string;
  url(role: string, password: string | undefined, database: string): string;
  /** Fast shutdown: open transactions are rolled back, data is safe. */
  stop(): Promise<void>;
  /** Kills every process of the server at once, as a power cut would. */
  crash(): Promise<void>;
  /** Starts again after crash() or stop(), on the same port and data. */
  restart(): Promise<void>;
  /** Stops it and deletes its data. */
  remove(): Promise<void>;
}

// Durable, like the servers it stands for: after crash() everything committed must be there.
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "60",
  shared_buffers: "128MB",
  max_prepared_transactions: "10",
  wal_level: "logical",
  timezone: "UTC",
  log_timezone: "UTC",
};

// The server ends with us, however we end: when our end of its standard input closes, it is told to stop. Told again,
// because a server that has only just been started does not listen to signals yet.
const WATCHED = `
  exec 3<&0
  "$0" "$@" </dev/null 3<&- & server=$!
  { read -r _ <&3; while kill -INT "$server"; do sleep 0.2; done; } 2>/dev/null & watcher=$!
  wait "$server"; status=$?
  kill "$watcher" 2>/dev/null
  exit "$status"`;

/** Starts a real PostgreSQL, 17 unless told otherwise, from the npm package. @throws Error with the end of the server's log when it does not come up. */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const files = prepareFiles(options.dataDir, options.server, options.copyOf);
  const port = options.port ?? (await freePort());
  const settings = { ...SETTINGS, ...options.settings, port: String(port) };
  const superuserUrl = (database = "postgres") => `postgres://${SUPERUSER}@127.0.0.1:${port}/${database}`;
  let server: ChildProcess | undefined;

  const start = async () => {
    if (server) throw new Error(`PostgreSQL "${options.name}" already runs`);
    const child = spawnServer(files, settings);
    server = child;
    try {
      await waitUntilReady(superuserUrl(), child, files.log);
    } catch (error) {
      await stop();
      throw error;
    }
  };
  const crash = async () => {
    const pid = server ? postmasterPid(files.data) : undefined;
    if (pid !== undefined) await killTree(pid);
    if (server) await exit(server);
    server = undefined;
  };
  const stop = async () => {
    if (!server) return;
    server.stdin?.end();
    const late = setTimeout(() => void crash(), STOP_TIMEOUT_MS);
    await exit(server);
    clearTimeout(late);
    server = undefined;
  };

  await start();
  return {
    name: options.name,
    host: "127.0.0.1",
    port,
    logFile: files.log,
    superuserUrl,
    url: (role, password, database) =>
      `postgres://${encodeURIComponent(role)}${password === undefined ? "" : `:${encodeURIComponent(password)}`}@127.0.0.1:${port}/${database}`,
    stop,
    crash,
    restart: start,
    remove: async () => {
      await stop();
      rmSync(files.folder, { recursive: true, force: true });
      rmSync(options.dataDir, { recursive: true, force: true });
    },
  };
}

function spawnServer(files: ServerFiles, settings: Readonly<Record<string, string>>): ChildProcess {
  const log = openSync(files.log, "a");
  const given = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const child = spawn("/bin/sh", ["-c", WATCHED, join(files.bin, "postgres"), "-D", files.data, ...given], {
    stdio: ["pipe", log, log],
    // Not in our process group: Ctrl-C reaches us, and we stop it in order.
    detached: true,
    cwd: files.folder,
    ...serverAccount(),
  });
  closeSync(log);
  return child;
}

function exit(child: ChildProcess): Promise<void> {
  return new Promise((done) => {
    if (child.exitCode !== null || child.signalCode !== null) done();
    else child.once("exit", () => done());
  });
}

/** How long a server may take to shut down; then it is killed, which its data survives. */
const STOP_TIMEOUT_MS = 30_000;
/** How long a server may take to come up, crash recovery included. */
const START_TIMEOUT_MS = 60_000;

async function waitUntilReady(url: string, child: ChildProcess, logFile: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
      throw new Error(`PostgreSQL did not start:\n${readFileSync(logFile, "utf8").split("\n").slice(-15).join("\n")}`);
    }
    const sql = postgres(url, { max: 1, connect_timeout: 2, onnotice: () => undefined });
    try {
      await sql`select 1`;
      return;
    } catch {
      await new Promise((again) => setTimeout(again, 30));
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
}
