import { expect } from "vitest";
import type { InProcess } from "./in-process.ts";
import { counted, everything, happened, landedRecords, planned } from "./plan.ts";

/** Plans, checks that nothing moved, runs, and compares what was planned with what happened, record by record. */
export async function expectAgreement(test: InProcess, request: Parameters<InProcess["start"]>[0] = {}) {
  const target = test.target.admin;
  // Which entities there are is written down by whatever begins first.
  const registered = (await target`select from public.sync_entities`).length > 0 ? [] : ["sync_entities"];
  const before = await everything(target, registered);
  const plan = await planned(test, request);
  expect(await everything(target, registered)).toEqual(before);
  const landed = await landedRecords(target);
  const { execution } = await test.sync(request);
  expect(await counted(target, plan.execution)).toEqual(await counted(target, execution));
  const outcomes = await happened(target, execution, landed);
  // Which records were waived or surplus, a run does not keep: of these the counts above agree.
  const noted = plan.records.filter(({ outcome }) => outcome !== "waived" && outcome !== "surplus");
  expect(noted.map(({ row: _, ...record }) => record)).toEqual(outcomes.map(({ row: _, ...record }) => record));
  // Of a record that is in the queue, the plan keeps no row.
  const rows = (records: typeof outcomes) => records.filter((record) => /inserted|updated/.test(record.outcome));
  expect(rows(plan.records).map((record) => record.row)).toEqual(rows(outcomes).map((record) => record.row));
  return { plan, outcomes, execution };
}
