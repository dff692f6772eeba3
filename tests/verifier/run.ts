import { parseArgs } from "node:util";
import { configuredFolder, recomputedOf } from "./installations.ts";
import { report } from "./report.ts";
import { pinnedSession } from "./session.ts";

// npm run verify -- --source URL --target URL [entity ...]: every column of every record of the installation that
// isthmus.json names, and all that is remembered of it, in plain SQL.
const { values, positionals } = parseArgs({
  options: { source: { type: "string" }, target: { type: "string" } },
  allowPositionals: true,
});
const { source: sourceUrl = process.env["SOURCE_DB_URL"], target: targetUrl = process.env["TARGET_DB_URL"] } = values;
// An empty address would lead to a server on this machine.
if (!sourceUrl || !targetUrl) throw new Error("Give --source and --target, or SOURCE_DB_URL and TARGET_DB_URL.");
const definitions = await recomputedOf(configuredFolder());
const [source, target] = [pinnedSession(sourceUrl), pinnedSession(targetUrl)];
try {
  const wrong = await report(source, target, definitions, positionals, (line) => {
    console.log(line);
  });
  process.exitCode = wrong === 0 ? 0 : 1;
} finally {
  await Promise.all([source.end(), target.end()]);
}
