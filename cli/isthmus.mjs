#!/usr/bin/env node
// The command line starts from one built file, which takes a sixth of the time that loading its parts takes. The file
// is built again whenever one of the parts it was made from has changed.
import { mkdirSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, ".local", "cli");
const built = join(folder, "isthmus.mjs");
const parts = join(folder, "parts.json");

if (!isCurrent()) {
  try {
    await build();
  } catch (error) {
    process.stderr.write(
      `BUILD_FAILED: The command line cannot be built: ${error instanceof Error ? error.message : String(error)}\n` +
        `  What to do: npm install in ${root}, and let ${folder} be written.\n`,
    );
    process.exit(1);
  }
}
await import(pathToFileURL(built).href);

function isCurrent() {
  try {
    const since = statSync(built).mtimeMs;
    return JSON.parse(readFileSync(parts, "utf8")).every((part) => statSync(join(root, part)).mtimeMs < since);
  } catch {
    // Never built, or a part is gone.
    return false;
  }
}

/** Under names of its own first: another command may start meanwhile. */
async function build() {
  const { build: bundle } = await import("esbuild");
  const begun = new Date();
  mkdirSync(folder, { recursive: true });
  const draft = join(folder, `${process.pid}.mjs`);
  const { metafile } = await bundle({
    absWorkingDir: root,
    entryPoints: ["cli/sync-cli.ts"],
    outfile: draft,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    metafile: true,
    logLevel: "error",
    // Packages in the older form ask for Node's own modules by require.
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
  });
  const own = Object.keys(metafile.inputs).filter((input) => !input.startsWith("node_modules/"));
  writeFileSync(`${draft}.json`, JSON.stringify([...own, "cli/isthmus.mjs", "package-lock.json"]));
  renameSync(draft, built);
  renameSync(`${draft}.json`, parts);
  // A part that changed while it was read is newer.
  utimesSync(built, begun, begun);
}
