import { describe, expect, it } from "vitest";
import type { AdoptionPreview, EntityState, ExecutionState } from "../cli/answers.ts";
import { showExecution } from "../cli/show-execution.ts";
import { showPreview } from "../cli/show-preview.ts";

const entity = (name: string, absent: number): EntityState => ({
  ...{ entity: name, capture: "keys", chains: { done: 1 } },
  counts: { read: 2, inserted: 2, updated: 0, unchanged: 0, deleted: 0, waiting: 0, inConflict: 0, waived: 0, absent },
});
const state = (entities: EntityState[]): ExecutionState => ({
  ...{ execution: "e", status: "succeeded", dryRun: false, plan: null, triggeredBy: "http:test" },
  ...{ startedAt: "2026-01-01T00:00:00Z", completedAt: null, errors: null, idleSeconds: null, metrics: null },
  ...{ entities, troubles: [], queue: [], waivers: [], warnings: [], notices: [] },
});

describe("the state of an execution", () => {
  it("names the entities of which records were looked for that the source does not have, and how many", () => {
    const shown = showExecution(state([entity("offices", 0), entity("patients", 3)]), String);
    expect(shown).toContain("patients: 3 of the records that were looked for have no row in the source.");
    expect(shown).not.toContain("offices: 0");
  });
});

describe("what an adoption would find", () => {
  const found = (of: Partial<AdoptionPreview>): AdoptionPreview => ({
    ...{
      entity: "offices",
      table: "offices",
      adoptable: 0,
      ambiguous: 0,
      ambiguousRows: 0,
      withoutLegacyId: 0,
      indexed: true,
      open: false,
    },
    ...of,
  });
  it.each([
    ["adopted and synced already", { open: true }],
    ["adopted and synced already", { open: true, adoptable: 3 }],
    ["to be adopted", { adoptable: 3 }],
    ["to be adopted", { withoutLegacyId: 1 }],
    ["empty", {}],
  ])("is %s where it is %j", (said, of) => {
    const states = ["adopted and synced already", "to be adopted", "empty"];
    expect(states.filter((one) => showPreview([found(of)]).includes(one))).toEqual([said]);
  });
});
