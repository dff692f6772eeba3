import { describe, expect, it } from "vitest";
import { applyEdits } from "../local/dataset/edit.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { counted, everything, happened, landedRecords, planned } from "./support/plan.ts";

const env = { ISTHMUS_PAGE_SIZE: "150", ISTHMUS_PAGE_SIZE_MAX: "150" };

/** Plans, checks that nothing moved, runs, and compares what was planned with what happened, record by record. */
async function expectAgreement(test: InProcess, request: Parameters<InProcess["start"]>[0] = {}) {
  const target = test.target.admin;
  const before = await everything(target);
  const plan = await planned(test, request);
  expect(await everything(target)).toEqual(before);
  const landed = await landedRecords(target);
  const { execution } = await test.sync(request);
  expect(await counted(target, plan.execution)).toEqual(await counted(target, execution));
  const outcomes = await happened(target, execution, landed);
  expect(plan.records.map(({ row: _, ...record }) => record)).toEqual(outcomes.map(({ row: _, ...record }) => record));
  // Of a record that is in the queue, the plan keeps no row.
  const rows = (records: typeof outcomes) => records.filter((record) => /inserted|updated/.test(record.outcome));
  expect(rows(plan.records).map((record) => record.row)).toEqual(rows(outcomes).map((record) => record.row));
  return { plan, outcomes, execution };
}

describe("a plan of everything", () => {
  it("before the first run agrees with it, planned parents included, and so do those after edits, in part and in full", async () => {
    await using test = await createInProcess({ scale: 0.02, env });
    await test.start({ dryRun: true });
    await test.drain();
    const first = await expectAgreement(test);
    expect(new Set(first.outcomes.map((record) => record.outcome))).toEqual(new Set(["inserted", "waiting", "in_conflict"]));

    await applyEdits({ url: test.source.superuserUrl, count: 200 });
    await test.target.admin`update public.offices set phone = 'edited by somebody'`;
    const second = await expectAgreement(test);
    expect(new Set(second.outcomes.map((record) => record.outcome))).toContain("updated");
    expect(second.outcomes.filter((record) => record.rule === "source_wins").length).toBeGreaterThan(0);

    await applyEdits({ url: test.source.superuserUrl, seed: 2, count: 100 });
    await expectAgreement(test, { capture: "full" });
    await expectAgreement(test);
  });
});
