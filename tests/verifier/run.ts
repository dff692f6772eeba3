import { parseArgs } from "node:util";
import { pinnedSession, recomputed, verify } from "./verify.ts";

// npm run verify -- --source URL --target URL [entity ...]: every column of every record, both sides, in plain SQL.
const { values, positionals } = parseArgs({
  options: { source: { type: "string" }, target: { type: "string" } },
  allowPositionals: true,
});
const { source: sourceUrl = process.env["SOURCE_DB_URL"], target: targetUrl = process.env["TARGET_DB_URL"] } = values;
if (sourceUrl === undefined || targetUrl === undefined)
  throw new Error("Give --source and --target, or SOURCE_DB_URL and TARGET_DB_URL.");
const [source, target] = [pinnedSession(sourceUrl), pinnedSession(targetUrl)];
let different = 0;
for (const definition of recomputed) {
  if (positionals.length > 0 && !positionals.includes(definition.entity)) continue;
  const { entity, compared, held, differences } = await verify(source, target, definition);
  different += differences.length;
  const verdict =
    differences.length === 0
      ? "equal"
      : `DIFFERENT: ${differences.map(({ id, columns }) => `${id} (${columns.join(", ")})`).join("; ")}`;
  console.log(`${entity.padEnd(26)} ${String(compared).padStart(9)} compared ${String(held).padStart(7)} held  ${verdict}`);
}
await Promise.all([source.end(), target.end()]);
process.exitCode = different === 0 ? 0 : 1;
