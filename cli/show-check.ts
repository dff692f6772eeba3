import type { Check, Finding, Inspection } from "./answers.ts";
import { formatTable } from "./output.ts";

/** What npm run sync -- check found, for a person. */
export function showCheck(check: Check): string {
  const entries = Object.entries(check.reachable);
  const parts = [
    "Asked by the deployed function:\n",
    formatTable(
      ["", "answers", "ms", ""],
      entries.map(([name, reach]) => [
        name,
        reach.reachable ? "yes" : "no",
        reach.reachable ? String(reach.ms) : "-",
        reach.reachable ? (reach.version === undefined ? "" : `PostgreSQL ${reach.version}, ${reach.role ?? ""}`) : reach.reason,
      ]),
    ),
  ];
  if (check.error) parts.push(`\n${check.error.code}: ${check.error.message}\n  What to do: ${check.error.remedy}\n`);
  if (check.findings !== null) parts.push("\n", showFindings(check.findings));
  if (check.sideEffects.length > 0) parts.push("\n", showSideEffects(check.sideEffects));
  return parts.join("");
}

/** What npm run sync -- inspect found, for a person. */
export function showInspection({ source, tables, findings, improvements }: Inspection): string {
  const { serverVersion, node, role, log } = source;
  const version = `${Math.floor(serverVersion / 10_000)}.${serverVersion % 10_000}`;
  const rows = tables.map((table) => [
    table.table,
    table.rows === null ? "?" : table.rows.toLocaleString("en"),
    sizeOf(table.bytes),
    table.capture ?? "none",
    table.backedBy ?? "-",
    table.cost,
    table.reason,
  ]);
  return [
    `The source is PostgreSQL ${version}, a ${node}, read as ${role}. Its log is not read yet (wal_level ${log.walLevel}, replication ${log.mayReplicate ? "allowed" : "not allowed"}).\n\n`,
    formatTable(["table", "rows", "size", "capture", "backed by", "cost of a look", "reason"], rows),
    findings.length === 0 ? "\nNothing to mend.\n" : `\n${showFindings(findings)}`,
    improvements.length === 0
      ? ""
      : "\nOptional, for the owner of the source: npm run --silent sync -- setup-source prints the SQL.\n",
  ].join("");
}

function sizeOf(bytes: number): string {
  const megabytes = bytes / 1024 / 1024;
  return megabytes < 1 ? `${Math.ceil(bytes / 1024)} KiB` : `${Math.round(megabytes).toLocaleString("en")} MiB`;
}

/** Fatal findings first, each with what to do below it. */
export function showFindings(findings: readonly Finding[]): string {
  if (findings.length === 0) return "Both catalogs fit every entity.\n";
  const [fatal, warnings] = [findings.filter(isFatal), findings.filter((finding) => !isFatal(finding))];
  const show = ({ severity, entity, table, code, message, remedy }: Finding) =>
    `  ${severity.padEnd(5)}  ${entity ?? (table === null ? "every entity" : `table ${table}`)}  ${code}\n         ${message}\n         What to do: ${remedy}\n`;
  return [`Findings: ${fatal.length} fatal, ${warnings.length} warnings.\n`, ...[...fatal, ...warnings].map(show)].join("");
}

export function showSideEffects(effects: Check["sideEffects"]): string {
  const open = effects.filter(({ acknowledged }) => !acknowledged).length;
  return [
    `What a write to the target's tables sets off${open === 0 ? "" : ` (${open} not acknowledged)`}:\n`,
    formatTable(
      ["table", "kind", "name", "what it does", "acknowledged"],
      effects.map(({ table, kind, name, does, acknowledged }) => [table, kind, name, does, acknowledged ? "yes" : "no"]),
    ),
  ].join("");
}

function isFatal({ severity }: Finding): boolean {
  return severity === "fatal";
}
