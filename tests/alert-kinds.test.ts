import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { alertKinds, generateAlerts, RUNBOOK_FILE } from "../scripts/generate-alerts.ts";
import { declaredFiles } from "../scripts/schema/declared.ts";
import { functionsOf } from "../scripts/schema/call-graph.ts";

const ROOT = resolve(import.meta.dirname, "..");
const sql = declaredFiles().map((file) => file.sql);
const typescript = ["shared", "functions"].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".gen.ts"))
    .map((file) => readFileSync(join(ROOT, folder, file), "utf8")),
);
/** Sides of an identity that a person has to accept: each makes an alert of its own. */
const SIDES = [
  ...(/side text not null check \(side in \(([^)]*)\)/.exec(sql.join("\n").replace(/ +/g, " "))?.[1] ?? "").matchAll(
    /'([a-z_]+)'/g,
  ),
].map(([, side]) => side);

/** The kinds that some text raises: through sync.raise_alert, as an alert's object, or into the table itself. */
function raisedIn(text: string): string[] {
  const found = [
    ...text.matchAll(/(?:raise|put)_alert\(\s*'([a-z_]+)'/g),
    ...text.matchAll(/'kind', '([a-z_]+)', 'severity'/g),
    ...text.matchAll(/insert into public\.sync_alerts[^;]*?\bvalues \('([a-z_]+)'/g),
    ...text.matchAll(/raise_job_alert\('([a-z_]+)'/g),
    ...text.matchAll(/kind: "([a-z_]+)",\s*severity: "(?:warning|critical)"/g),
    ...text.matchAll(/alertOf\(entity, "([a-z_]+)"/g),
  ].map(([, kind = ""]) => kind);
  return text.includes("v_one.side || '_unknown'") ? [...found, ...SIDES.map((side) => `${side}_unknown`)] : found;
}
/** Every way in which an alert can come into being, so that a new one does not pass unseen. */
const WAYS = /sync\.raise_(?:job_)?alert\((?!text|p_|\$1)|insert into public\.sync_alerts|openAlert\(target|alertOf\(entity/g;

const raised = [...new Set([...sql, ...typescript].flatMap(raisedIn))].sort();
const known = alertKinds();
const kinds = known.map(({ kind }) => kind);

describe("every kind of alert", () => {
  it("that anything raises is known, and none is known that nothing raises", () => {
    expect(raised).toEqual(kinds);
    expect(kinds).toEqual([...kinds].sort());
  });

  it("is raised in a way that this test sees", () => {
    const ways = [...sql, ...typescript].flatMap((text) => [...text.matchAll(WAYS)]);
    const generic = [/v_wrong ->> 'kind'/, /n\.kind, n\.severity/];
    expect(generic.every((way) => sql.some((text) => way.test(text)))).toBe(true);
    expect(ways.length).toBeGreaterThan(20);
  });

  it.each(known)("$kind has something to look at, to do, and that closes it", ({ means, look, remedy, closes }) => {
    for (const text of [means, look, remedy, closes]) expect(text).toMatch(/^[A-Z`a-z_'].{10,}\.$/);
    const names = (/\(([^)]*)\)\.$/.exec(closes)?.[1] ?? "").split(", ").map((name) => name.replace("sync.", ""));
    expect(names.length).toBeGreaterThan(0);
    const functions = new Map(
      declaredFiles()
        .flatMap(functionsOf)
        .map(({ name, text }) => [name, text]),
    );
    for (const name of names) {
      const body = functions.get(name) ?? typescript.find((text) => text.includes(`function ${name}(`));
      expect(body, name).toMatch(/closed_at = (now\(\)|case)|close_alert|closeAlert/);
    }
  });

  it("has its entry in the runbook (npm run generate)", async () => {
    const runbook = readFileSync(RUNBOOK_FILE, "utf8");
    for (const kind of kinds) expect(runbook).toContain(`\n### ${kind}\n`);
    expect(runbook).toBe(await generateAlerts(runbook));
  });
});
