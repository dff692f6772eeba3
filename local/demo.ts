import { once } from "node:events";
import { resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import postgres from "postgres";
import { editBothSides, printConflicts } from "./demo/both-sides.ts";
import { loadDemo, type Demo } from "./demo/demo.ts";
import { freshFolder } from "./demo/folder.ts";
import { printConnections, printQueries } from "./demo/look-around.ts";
import { acknowledgeSideEffects } from "./demo/side-effects.ts";
import { runAndWatch } from "./demo/watch.ts";
import { whenToldToStop } from "./demo/stop.ts";
import { pageCpuMs, printSummary } from "./demo/summary.ts";
import { dim, heading, hush, line } from "./demo/terminal.ts";
import { startPlatform, type Platform } from "./platform.ts";

const program = new Command("demo")
  .description("Syncs a generated legacy database into a Supabase-shaped target, through the real path, on this machine.")
  .option("--scale <n>", "size of the generated database; 1 is as large as the real one but for its logs", scale, 1)
  .option("--seed <n>", "seed of the generated legacy data", seed, 1)
  .addOption(
    new Option(
      "--target <version>",
      "PostgreSQL of the target; 15 is Debian's postgresql-15-cron, and its pg_cron calls the functions",
    )
      .choices(["15", "17"])
      .default("17"),
  )
  .option("--keep", "leave everything running afterwards, until Ctrl-C")
  .option("--data <folder>", "where the databases live; emptied first", ".local/demo")
  .parse();
const options = program.opts<{ scale: number; seed: number; target: "15" | "17"; keep?: boolean; data: string }>();

const began = Date.now();
const demo = await loadDemo(resolve(import.meta.dirname, "..")).catch((error: unknown) =>
  program.error((error as Error).message),
);
const dataDir = resolve(options.data);
await freshFolder(dataDir).catch((error: unknown) => program.error((error as Error).message));

heading("Starting the platform");
let stopping = false;
const starting = startPlatform({
  dataDir,
  onStep: (step) => {
    line(`  ✓ ${step}`);
  },
  env: { ISTHMUS_LEASE_SECONDS: "20" },
  acknowledge: false,
  targetVersion: options.target === "15" ? 15 : 17,
});
whenToldToStop((exitCode) => {
  stopping = true;
  line("\nStopping …");
  hush();
  // Work that is under way loses its servers; the driver may then throw where nobody can catch it.
  process.on("uncaughtException", () => undefined);
  void starting
    .then((platform) => platform.stop())
    .catch(() => undefined)
    .then(() => process.exit(exitCode));
});
try {
  const platform = await starting;
  if (!stopping) await show(platform, demo);
} catch (error) {
  // Everything it was talking to is being stopped under it.
  if (!stopping) throw error;
} finally {
  if (!stopping) await (await starting).stop();
}

async function show(platform: Platform, demo: Demo): Promise<void> {
  const target = postgres(platform.urls.targetOwner, { max: 1, onnotice: () => undefined });
  const source = postgres(platform.urls.sourceReader, { max: 1 });

  heading("Generating the legacy database");
  const { rows, tables } = await demo.load(platform.urls.sourceOwner, options);
  line(`  ✓ ${rows.toLocaleString("en")} rows in ${tables} tables, every known kind of dirt included`);

  await acknowledgeSideEffects(platform);

  const run = async (request: object) => {
    const before = pageCpuMs(platform);
    const state = await runAndWatch(platform, request);
    await printSummary(platform, target, source, state, pageCpuMs(platform) - before, demo.money);
    return state;
  };

  heading("First run: everything");
  const first = await run({});

  heading("Somebody works in the old application");
  const edits = await demo.edit(platform.urls.sourceOwner, options.seed);
  for (const [table, { inserted, updated }] of Object.entries(edits)) line(`  ${table}: ${updated} changed, ${inserted} new`);
  line(dim("  No row says when it was changed; the next run finds them by their transaction ids."));

  heading("Second run: what changed");
  const second = await run({});

  heading("Both sides change the same records");
  const entities = await editBothSides(platform, target, demo.bothSides);
  line(dim("  By default the source wins, and what it overwrites is kept. This time a person is to decide."));

  heading("Third run: conflicts");
  const third = await run({ entities, conflictStrategy: "manual_review" });

  heading("What waits for a decision");
  await printConflicts(target, demo.bothSides);

  heading("Where to look");
  printConnections(platform, dataDir);
  printQueries(demo.query);
  line(`\nDone in ${((Date.now() - began) / 1_000).toFixed(0)} s.`);
  if ([first, second, third].some(({ status }) => status !== "succeeded")) process.exitCode = 1;
  await Promise.all([target.end(), source.end()]);
  if (options.keep) {
    line("Everything stays up. Press Ctrl-C to stop it.");
    await once(process, "never");
  } else {
    line(dim("Run with --keep to leave everything up and look around."));
  }
}

function scale(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 10) return value;
  throw new InvalidArgumentError("It is a number above 0, up to 10.");
}

function seed(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError("It is a whole number, 0 or more.");
}
