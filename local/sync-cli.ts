import { runSyncCli } from "./cli/program.ts";

/** How often a running execution is looked at. */
const POLL_MS = 1_000;

process.exitCode = await runSyncCli(process.argv.slice(2), {
  env: process.env,
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  interactive: process.stdout.isTTY,
  pause: () => new Promise((later) => setTimeout(later, POLL_MS)),
});
