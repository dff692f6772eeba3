import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { INSTALLATION_FOLDER } from "../../functions/installation.gen.ts";
import { PROJECT_ROOT } from "./project-root.ts";

/** A command of the CLI that takes longer hangs: on a network that swallows packets, for one. */
const CLI_TIMEOUT_MS = 300_000;
/** Of the caller's environment the CLI sees these alone: how to reach the network. */
const NETWORK = [
  "PATH",
  "HTTPS_PROXY",
  "HTTP_PROXY",
  "NO_PROXY",
  "https_proxy",
  "http_proxy",
  "no_proxy",
  "SSL_CERT_FILE",
] as const;

const CLI = join(PROJECT_ROOT, "node_modules/supabase/dist/supabase.js");
/** A CLI whose parent was killed would deploy on, beside the next run: its launcher ends then, and passes that on. */
const ENDS_WITH_PARENT = `data:text/javascript,${encodeURIComponent(
  `setInterval(() => process.ppid === ${process.pid} || process.kill(process.pid, "SIGTERM"), 200).unref();`,
)}`;
/** Folders of runs begin so, and go on with the run's process id. */
const FOLDER = "isthmus-supabase-";
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Runs the Supabase CLI of this project on a copy of what it reads, with a home of its own: nothing is written into
 * the user's home, and a project linked in this checkout stays linked. The CLI ends with this process, however that
 * ends. A signal takes the copy away, too; that of a killed process the next run takes away. @throws Error with what
 * the CLI printed.
 */
export async function supabase(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  removeLeftFolders();
  const folder = realpathSync(mkdtempSync(join(tmpdir(), `${FOLDER}${process.pid}-`)));
  const stop = new AbortController();
  let ended: NodeJS.Signals | undefined;
  const end = (signal: NodeJS.Signals) => {
    ended = signal;
    stop.abort();
  };
  for (const signal of SIGNALS) process.once(signal, end);
  try {
    const project = join(folder, "project");
    for (const path of ["supabase/config.toml", "functions", "shared", INSTALLATION_FOLDER]) {
      cpSync(join(PROJECT_ROOT, path), join(project, path), { recursive: true });
    }
    symlinkSync(join(PROJECT_ROOT, "migrations"), join(project, "supabase/migrations"));
    return await runCli([...args, "--workdir", project], project, { HOME: folder, ...env }, stop.signal);
  } finally {
    for (const signal of SIGNALS) process.off(signal, end);
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    // Nobody listens any more: the process ends by the signal.
    if (ended !== undefined) process.kill(process.pid, ended);
  }
}

/** Copies of processes that are gone. */
function removeLeftFolders(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = new RegExp(`^${FOLDER}(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) rmSync(join(tmpdir(), name), { recursive: true, force: true, maxRetries: 3 });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // A process of somebody else's lives, too.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function runCli(args: readonly string[], cwd: string, env: Readonly<Record<string, string>>, stop: AbortSignal): Promise<string> {
  return new Promise((done, failed) => {
    const network = Object.fromEntries(
      NETWORK.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
    );
    const child = spawn(process.execPath, ["--import", ENDS_WITH_PARENT, CLI, ...args], {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: CLI_TIMEOUT_MS,
      env: { ...network, NO_COLOR: "1", DO_NOT_TRACK: "1", SUPABASE_TELEMETRY_DISABLED: "1", ...env },
    });
    let output = "";
    const collect = (chunk: Buffer) => (output += chunk.toString());
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.once("error", failed);
    stop.addEventListener("abort", () => child.kill("SIGTERM"));
    child.once("close", (code) => {
      if (code === 0) done(output);
      else failed(new Error(`supabase ${args.slice(0, 2).join(" ")} failed (${code ?? "killed"}):\n${output}`));
    });
  });
}
