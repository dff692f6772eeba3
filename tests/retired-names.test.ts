// Names that did not say what is done, or said two things. What came instead stands beside each.
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const RETIRED: Readonly<Record<string, string>> = {
  hold_queue: "lock_queued",
  tendQueue: "maintainQueue",
  "function weigh": "relevantTo",
  twinsOf: "counterpartsOf",
  assertBacked: "assertOtherCapture",
  keepContract: "leaveOutUnfit",
  p_plan: "p_dry_run for the id of a dry run, p_start for what begins an execution",
  sync_planned_keys: "sync_pending_keys with an execution",
};
const NAME = new RegExp(`\\b(${Object.keys(RETIRED).join("|")})\\b`, "g");

const ROOT = resolve(import.meta.dirname, "..");
const FILES = ["shared", "functions", "cli", "supabase/schemas"].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(sql|ts)$/.test(name))
    .map((name) => join(folder, name)),
);

describe("retired names", () => {
  it("come back nowhere", () => {
    const found = FILES.flatMap((file) =>
      [...readFileSync(join(ROOT, file), "utf8").matchAll(NAME)].map(([name]) => `${file}: ${name}`),
    );
    expect(found).toEqual([]);
    expect(FILES.length).toBeGreaterThan(200);
  });

  it("leave one comparison of a source's position and one of its catalog", () => {
    const named = (name: string) =>
      FILES.filter((file) => readFileSync(join(ROOT, file), "utf8").includes(`export function ${name}(`));
    expect(named("whereaboutsOf")).toEqual(["shared/source/position.ts"]);
    expect(named("compareSource")).toEqual(["shared/contract/compare-source.ts"]);
  });
});
