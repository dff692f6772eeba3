import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Command } from "commander";
import { Problem } from "./problem.ts";
import { required, type Environment } from "./settings.ts";
import { PROJECT_ROOT } from "./setup/project-root.ts";

const WHERE = "Any role that may read the catalog does.";

/** Adds init to the program. What writes code needs the compiler and the formatter: a process of its own has them, and the command line starts without. */
export function addInitCommand(
  program: Command,
  { print, env }: { print: (value: unknown, text: string) => void; env: () => Environment },
): void {
  program
    .command("init")
    .description(
      "write a new installation: types of both catalogs, and a proposed entity file for each table of the source (SOURCE_DB_URL, TARGET_DB_URL)",
    )
    .argument("<folder>", "to be made at the root of the repository, or as examples/name")
    .option(
      "--tables <tables>",
      "of the source: books,authors for these alone; source=target where the names differ, beside all others (default: all)",
    )
    .action(async (folder: string, { tables }: { tables?: string }) => {
      const urls = {
        SOURCE_DB_URL: required(env(), "SOURCE_DB_URL", WHERE),
        TARGET_DB_URL: required(env(), "TARGET_DB_URL", WHERE),
      };
      const args = [folder, ...(tables === undefined ? [] : [tables])];
      const { code, out, err } = await run(args, urls);
      if (out !== "") print({ said: out }, out);
      if (code !== 0) {
        throw new Problem(
          "INIT_FAILED",
          err.trim() || "The installation could not be written.",
          "Mend what it says, and run the command again.",
          {
            exitCode: code === 2 ? 2 : 1,
          },
        );
      }
    });
}

function run(
  args: readonly string[],
  urls: Readonly<Record<string, string>>,
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, ["--import", "tsx", join(PROJECT_ROOT, "scripts/init.ts"), ...args], {
      cwd: PROJECT_ROOT,
      env: { ...process.env, ...urls },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
    child.once("error", failed);
    child.once("close", (code) => {
      done({ code: code ?? 1, out, err });
    });
  });
}
