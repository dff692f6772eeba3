import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PageMessage } from "../shared/target/sending.ts";
import { Gate, gated, REPEATED_STATEMENTS } from "./support/gate.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Long enough for a small page; one that is still running then waits for the other's lock. */
const PATIENCE_MS = 150;
/** Statements of a page of patients on both sides, its commit included. */
const STATEMENTS = 7;

describe("a selection beside a full pass over the same records", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline({ env: { ISTHMUS_PAGE_SIZE: "2", ISTHMUS_PAGE_SIZE_MAX: "2" } });
    for (let id = 1; id <= 5; id++) await test.seed.patient(id, { userId: 100 + id });
    await test.sync({ entities: ["profiles", "patients"] });
  });
  afterAll(() => test[Symbol.asyncDispose]());

  const suffix = (text: string) => test.source.admin`update public.dispatch_patient set suffix = ${text}`;
  const landed = async () =>
    (await test.target.admin<{ suffix: string }[]>`select suffix from public.patients order by legacy_patient_id`).map(
      (row) => row.suffix,
    );
  const pageOf = (execution: string): PageMessage => {
    const index = test.queue.findIndex((message) => message.execution === execution);
    const [message] = test.queue.splice(index, 1);
    if (index < 0 || !message) throw new Error("no page waits");
    return message;
  };
  /** Both closed, every record at its newest value, every page accounted for, nothing left to read. */
  const expectRight = async (executions: string[], newest: string) => {
    for (const execution of executions) {
      expect(await test.status(execution)).toMatchObject({ status: "succeeded", errors: null });
      const { read, outcomes, processed } = await test.sums(execution);
      expect([outcomes, processed]).toEqual([read, read]);
    }
    expect(await landed()).toEqual(Array.from({ length: 5 }, () => newest));
    expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(0);
  };

  const ASKED = {
    keys: { legacyIds: { patients: ["1", "2", "3", "4", "5"] } },
    selection: { filters: { patients: { status: ["1"] } } },
  };
  const cases = (["keys", "selection"] as const).flatMap((capture) =>
    Array.from({ length: STATEMENTS + 1 }, (_, held) => held).flatMap((held) => [
      { capture, held, first: "whole" as const, second: "selection" as const },
      { capture, held, first: "selection" as const, second: "whole" as const },
    ]),
  );

  it.each(cases)(
    "($capture) ends at the newest values when a page of the $first is held after $held statements and one of the $second runs",
    async ({ capture, held, first, second }) => {
      const whole = await test.start({ entities: ["patients"], capture: "full" });
      const selection = await test.start(ASKED[capture]);
      const pages = { whole: pageOf(whole.execution), selection: pageOf(selection.execution) };
      await suffix(`o${held}`);
      const gate = new Gate(held);
      const one = test.run(pages[first], gated(test.context, gate));
      await Promise.race([gate.reached, one]);
      await suffix(`n${held}`);
      const two = test.run(pages[second]);
      await Promise.race([two, new Promise((enough) => setTimeout(enough, PATIENCE_MS))]);
      gate.open();
      const outcomes = await Promise.all([one, two]);
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(["committed", "committed"]);
      expect(gate.passed).toBeLessThanOrEqual(STATEMENTS + 2 * REPEATED_STATEMENTS);
      await test.drain();
      await expectRight([whole.execution, selection.execution], `n${held}`);
    },
  );

  // Three pages of records, and the comparison of both sides.
  it.each(
    [0, 1, 2, 3, 4].flatMap((pages) => [
      { pages, capture: "keys" as const },
      { pages, capture: "selection" as const },
    ]),
  )(
    "($capture) begun after $pages steps of the pass, and run between its pages, ends right, and both close",
    async ({ pages, capture }) => {
      const whole = await test.start({ entities: ["patients"], capture: "full" });
      for (let page = 0; page < pages && test.queue.length > 0; page++) await test.runOne();
      const newest = `p${pages}${capture.slice(0, 1)}`;
      await suffix(newest);
      const selection = await test.start(ASKED[capture]);
      const mine = () => test.queue.some(({ execution }) => execution === selection.execution);
      const its = () => test.queue.some(({ execution }) => execution === whole.execution);
      while (mine() || its()) {
        if (mine()) await test.run(pageOf(selection.execution));
        if (its()) await test.run(pageOf(whole.execution));
      }
      await expectRight([whole.execution, selection.execution], newest);
    },
  );

  it("a whole execution may begin while one runs, another whole one or an adoption may not", async () => {
    const selection = await test.start(ASKED.selection);
    await expect(test.start({ adopt: true, entities: ["patients"] })).rejects.toMatchObject({ code: "EXECUTION_ACTIVE" });
    const whole = await test.start({ entities: ["patients"], capture: "full" });
    await expect(test.start({ entities: ["patients"] })).rejects.toMatchObject({ code: "EXECUTION_ACTIVE" });
    await test.drain();
    await expectRight([whole.execution, selection.execution], (await landed())[0] ?? "");
  });
});
