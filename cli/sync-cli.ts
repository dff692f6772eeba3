import { createInterface } from "node:readline/promises";
import { runSyncCli } from "./program.ts";

/** How often a running execution is looked at. */
const POLL_MS = 1_000;

async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await lines.question(question);
  } finally {
    lines.close();
  }
}

process.exitCode = await runSyncCli(process.argv.slice(2), {
  env: process.env,
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  interactive: process.stdout.isTTY,
  ...(process.stdin.isTTY && process.stderr.isTTY ? { ask } : {}),
  pause: () => new Promise((later) => setTimeout(later, POLL_MS)),
});
