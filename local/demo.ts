import { once } from "node:events";
import { rm } from "node:fs/promises";
import { resolve } from "node:path";
import { Command } from "commander";
import postgres from "postgres";
import { applyEdits } from "./dataset/edit.ts";
import { loadLegacy } from "./dataset/load.ts";
import { printConnections, printQueries } from "./demo/look-around.ts";
import { runAndWatch } from "./demo/watch.ts";
import { printSummary } from "./demo/summary.ts";
import { dim, heading, line } from "./demo/terminal.ts";
import { startPlatform } from "./platform.ts";

const options = new Command("demo")
  .description("Syncs a generated legacy database into a Supabase-shaped target, through the real path, on this machine.")
  .option("--scale <n>", "size of the seven entities; 1 is the real clinic (about 66,000 records)", Number, 1)
  .option("--seed <n>", "seed of the generated legacy data", Number, 1)
  .option("--keep", "leave everything running afterwards, until Ctrl-C")
  .option("--data <folder>", "where the databases live", ".local/demo")
  .parse()
  .opts<{ scale: number; seed: number; keep?: boolean; data: string }>();

const began = Date.now();
const dataDir = resolve(options.data);
await rm(dataDir, { recursive: true, force: true });

heading("Starting the platform");
const platform = await startPlatform({ dataDir, onStep: (step) => line(`  ✓ ${step}`), env: { ISTHMUS_LEASE_SECONDS: "20" } });
let stopping = false;
const stop = async () => {
  if (stopping) return;
  stopping = true;
  await platform.stop();
};
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    line("\nStopping …");
    void stop().then(() => process.exit(signal === "SIGINT" ? 130 : 143));
  });
}

const target = postgres(platform.urls.targetOwner, { max: 1, onnotice: () => undefined });
const source = postgres(platform.urls.sourceReader, { max: 1 });
try {
  heading("Generating the legacy database");
  const manifest = await loadLegacy({
    url: platform.urls.sourceOwner,
    seed: options.seed,
    scale: options.scale,
    logScale: 0.001,
  });
  const rows = Object.values(manifest.tables).reduce((sum, count) => sum + count, 0);
  line(
    `  ✓ ${rows.toLocaleString("en")} rows in ${Object.keys(manifest.tables).length} tables, every known kind of dirt included`,
  );

  heading("First run: everything");
  const first = await runAndWatch(platform, {});
  await printSummary(platform, target, source, first);

  heading("Somebody works in the old application");
  const edits = await applyEdits({ url: platform.urls.sourceOwner, seed: options.seed, count: 300 });
  for (const [table, { inserted, updated }] of Object.entries(edits)) line(`  ${table}: ${updated} changed, ${inserted} new`);
  line(dim("  No row says when it was changed; the next run finds them by their transaction ids."));

  heading("Second run: what changed");
  const second = await runAndWatch(platform, {});
  await printSummary(platform, target, source, second);

  heading("Where to look");
  printConnections(platform);
  printQueries();
  line(`\nDone in ${((Date.now() - began) / 1_000).toFixed(0)} s.`);
  if (first.status !== "succeeded" || second.status !== "succeeded") process.exitCode = 1;
  if (options.keep) {
    line("Everything stays up. Press Ctrl-C to stop it.");
    await once(process, "never");
  } else {
    line(dim("Run with --keep to leave everything up and look around."));
  }
} finally {
  await Promise.all([target.end(), source.end()]);
  await stop();
}
