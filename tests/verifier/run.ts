import { parseArgs } from "node:util";
import { say } from "./finding.ts";
import { pinnedSession, recomputed, verify } from "./verify.ts";

/** Findings of one entity that are printed. */
const PRINTED = 20;

// npm run verify -- --source URL --target URL [entity ...]: every column of every record, and all that is remembered of it, in plain SQL.
const { values, positionals } = parseArgs({
  options: { source: { type: "string" }, target: { type: "string" } },
  allowPositionals: true,
});
const { source: sourceUrl = process.env["SOURCE_DB_URL"], target: targetUrl = process.env["TARGET_DB_URL"] } = values;
if (sourceUrl === undefined || targetUrl === undefined)
  throw new Error("Give --source and --target, or SOURCE_DB_URL and TARGET_DB_URL.");
const [source, target] = [pinnedSession(sourceUrl), pinnedSession(targetUrl)];
let wrong = 0;
for (const definition of recomputed) {
  if (positionals.length > 0 && !positionals.includes(definition.entity)) continue;
  const { entity, compared, held, findings } = await verify(source, target, definition);
  const [untold, told] = [findings.filter((one) => one.told === undefined), findings.filter((one) => one.told !== undefined)];
  wrong += untold.length;
  const verdict =
    untold.length === 0 ? (told.length === 0 ? "equal" : `equal, or told why not: ${told.length}`) : `WRONG: ${untold.length}`;
  console.log(`${entity.padEnd(26)} ${String(compared).padStart(9)} compared ${String(held).padStart(7)} held  ${verdict}`);
  for (const finding of untold.slice(0, PRINTED)) console.log(`    ${say(finding)}`);
}
await Promise.all([source.end(), target.end()]);
process.exitCode = wrong === 0 ? 0 : 1;
