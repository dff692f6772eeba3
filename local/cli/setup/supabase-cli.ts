import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { INSTALLATION_FOLDER } from "../../../functions/installation.gen.ts";
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

/**
 * Runs the Supabase CLI of this project on a copy of what it reads, with a home of its own: nothing is written into the user's home,
 * and a project linked in this checkout stays linked. @throws Error with what the CLI printed.
 */
export async function supabase(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "isthmus-supabase-")));
  try {
    const project = join(folder, "project");
    for (const path of ["supabase/config.toml", "functions", "shared", INSTALLATION_FOLDER]) {
      cpSync(join(PROJECT_ROOT, path), join(project, path), { recursive: true });
    }
    symlinkSync(join(PROJECT_ROOT, "migrations"), join(project, "supabase/migrations"));
    return await runCli([...args, "--workdir", project], project, { HOME: folder, ...env });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function runCli(args: readonly string[], cwd: string, env: Readonly<Record<string, string>>): Promise<string> {
  return new Promise((done, failed) => {
    const network = Object.fromEntries(
      NETWORK.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
    );
    const child = spawn(join(PROJECT_ROOT, "node_modules/.bin/supabase"), args, {
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
    child.once("close", (code) => {
      if (code === 0) done(output);
      else failed(new Error(`supabase ${args.slice(0, 2).join(" ")} failed (${code ?? "killed"}):\n${output}`));
    });
  });
}
