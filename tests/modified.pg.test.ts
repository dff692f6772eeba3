import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { query } from "../shared/db/query.ts";
import { IsthmusError } from "../shared/errors.ts";
import { withoutOtherCapture } from "../shared/plan/other-capture.ts";
import { modifiedKeys } from "../shared/source/keys.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const PATIENTS = { entities: ["patients"] };
const MODIFIED = { ...PATIENTS, capture: "modified" as const };

describe("the modified capture", () => {
  let test: Pipeline;

  beforeAll(async () => {
    test = await createPipeline({ env: { ISTHMUS_PAGE_SIZE: "2", ISTHMUS_PAGE_SIZE_MAX: "2" } });
    for (let id = 1; id <= 9; id++) await test.seed.patient(id, { userId: 100 + id });
    await test.sync({ entities: ["profiles", "patients"] });
  });
  afterAll(() => test[Symbol.asyncDispose]());

  /** Changes patients and stamps them, as the old application would; null: as a bulk update does, without a stamp. */
  const change = async (ids: number[], suffix: string, stamp: string | null) => {
    await test.source.admin`
      update public.dispatch_patient set suffix = ${suffix}, updated_at = coalesce(${stamp}::text::timestamptz, updated_at) where id = any (${ids})`;
  };
  /** A stamp of now on the source's clock, moved by so much. */
  const now = async (moved = "0 seconds") => {
    const [row] = await test.source.admin<{ at: string }[]>`select (clock_timestamp() + ${moved}::interval)::text as at`;
    return row?.at ?? "";
  };
  const suffixes = async () =>
    Object.fromEntries(
      (
        await test.target.admin<{ id: number; suffix: string | null }[]>`
          select legacy_patient_id::integer as id, suffix from public.patients order by 1`
      ).map(({ id, suffix }) => [id, suffix]),
    );
  const checkpoint = async () => {
    const [row] = await test.target.admin<{ horizon: string; at: string; id: string; hash: string }[]>`
      select horizon::text, watermark_at as at, watermark_id::text as id, definition_hash as hash
        from public.sync_checkpoints where entity_type = 'patients'`;
    if (!row) throw new Error("no checkpoint");
    return { ...row };
  };
  const readBy = async (execution: string) => {
    const [row] = await test.target.admin<{ read: number }[]>`
      select coalesce(sum(read), 0)::integer as read from public.sync_page_log where execution_id = ${execution}`;
    return row?.read;
  };

  it("begins at the clock of the run that stands behind the checkpoint, and finds what was stamped since", async () => {
    await change([1], "a", await now());
    const before = await checkpoint();
    const { execution, chains } = await test.sync(MODIFIED);
    expect(chains).toMatchObject([{ entity: "patients", capture: "modified" }]);
    expect(await readBy(execution)).toBe(1);
    expect(await suffixes()).toMatchObject({ 1: "a" });
    const after = await checkpoint();
    expect(after).toMatchObject({ horizon: before.horizon, hash: before.hash, id: "1" });
    expect(Date.parse(after.at)).toBeGreaterThan(Date.parse(before.at));
  });

  it("an idle run opens no chain", async () => {
    const before = await checkpoint();
    expect((await test.sync(MODIFIED)).chains).toEqual([]);
    expect(await checkpoint()).toEqual(before);
  });

  it("rows of one stamp that a page's end parts are all found, once each", async () => {
    await change([2, 3, 4, 5, 6, 7, 8], "same", await now());
    const { execution } = await test.sync(MODIFIED);
    expect(await readBy(execution)).toBe(7);
    expect(await suffixes()).toMatchObject({ 2: "same", 5: "same", 8: "same" });
    expect((await checkpoint()).id).toBe("8");
  });

  it("microseconds count, and the keys of a page are locked in their order whatever that of the stamps", async () => {
    const at = (await now()).replace(/(\.\d+)?\+00$/, "");
    await change([9], "first", `${at}.000001+00`);
    await change([1], "second", `${at}.000002+00`);
    // Both lie before the last stamp of the page above unless the clock has moved on by a second.
    await test.target
      .admin`update public.sync_checkpoints set watermark_at = ${`${at}+00`}, watermark_id = 0 where entity_type = 'patients'`;
    const { execution } = await test.sync(MODIFIED);
    expect(await readBy(execution)).toBeGreaterThanOrEqual(2);
    const watermark = { at: `${at}.000001+00`, id: "9" };
    const entity = test.context.entities.get("patients");
    if (!entity) throw new Error("no entity");
    const found = modifiedKeys(entity, "updated_at", watermark, `${at}.000002+00`, 10);
    const rows = await query<{ id: string; at: string }>(test.context.source, "source", found.text, found.parameters);
    expect(rows.map(({ id }) => id)).toEqual(["1"]);
    expect(rows[0]?.at).toMatch(/\.000002/);
    expect(await suffixes()).toMatchObject({ 9: "first", 1: "second" });
  });

  it("a row stamped ahead of the source's clock waits for its time, and hides nothing that is stamped before", async () => {
    await change([1], "tomorrow", await now("1 day"));
    await change([2], "today", await now());
    const { execution } = await test.sync(MODIFIED);
    expect(await readBy(execution)).toBe(1);
    expect(await suffixes()).toMatchObject({ 1: "second", 2: "today" });
    await change([3], "after", await now());
    await test.sync(MODIFIED);
    expect(await suffixes()).toMatchObject({ 3: "after" });
    const { at, id } = await checkpoint();
    const entity = test.context.entities.get("patients");
    if (!entity) throw new Error("no entity");
    const later = modifiedKeys(entity, "updated_at", { at, id }, await now("2 days"), 10);
    expect(await query<{ id: string }>(test.context.source, "source", later.text, later.parameters)).toMatchObject([{ id: "1" }]);
  });

  it("what a clock that went back, a NULL or a bulk update hides is found by the next other run alone", async () => {
    await change([4], "went back", await now("-1 hour"));
    await test.source.admin`update public.dispatch_patient set suffix = 'none', updated_at = null where id = 5`;
    await change([6], "bulk", null);
    expect((await test.sync(MODIFIED)).chains).toEqual([]);
    await test.sync(PATIENTS);
    expect(await suffixes()).toMatchObject({ 1: "tomorrow", 4: "went back", 5: "none", 6: "bulk" });
  });

  it("a failed execution moves no watermark, and neither does a plan", async () => {
    await change([7, 8, 9], "again", await now());
    const before = await checkpoint();
    const { execution } = await test.start(MODIFIED);
    await test.runOne();
    await test.target.admin`
      update public.sync_chains set state = 'failed', closed_at = now(), due_at = null where execution_id = ${execution} and state = 'open'`;
    await test.target.admin`select sync.advance_execution(${execution})`;
    test.queue.length = 0;
    expect((await test.status(execution)).status).toBe("failed");
    expect(await checkpoint()).toEqual(before);

    const plan = await test.start({ ...MODIFIED, dryRun: true });
    await test.drain();
    expect((await test.status(plan.execution)).status).toBe("succeeded");
    expect(await readBy(plan.execution)).toBe(3);
    expect(await checkpoint()).toEqual(before);

    await test.sync(MODIFIED);
    expect(await suffixes()).toMatchObject({ 7: "again", 8: "again", 9: "again" });
    expect((await checkpoint()).id).toBe("9");
  });

  it("is refused while no scheduled job backs it, with the entities' names, and nothing is begun", async () => {
    await test.target.admin`update public.sync_jobs set enabled = false`;
    const refused: unknown = await test.start(MODIFIED).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(IsthmusError);
    expect(refused).toMatchObject({ code: "CAPTURE_UNBACKED", detail: { entities: ["patients"] } });
    // Offices have no such column: they are found by xmin.
    await expect(test.start({ entities: ["offices"], capture: "modified" })).resolves.toBeDefined();
    await test.drain();
    await test.target.admin`update public.sync_jobs set enabled = true`;
    await expect(test.sync(MODIFIED)).resolves.toBeDefined();
  });

  it.each([
    ["a job over everything", {}, []],
    ["one that reads it in full", { entities: ["patients"], capture: "full" }, ["orders"]],
    ["one that finds it by stamps as well", { capture: "modified" }, ["orders", "patients"]],
    ["one that reads a selection", { legacyIds: { patients: [1] } }, ["orders", "patients"]],
    ["a plan", { dryRun: true }, ["orders", "patients"]],
    ["one that is not valid", { entities: ["patients"], capture: "quick" }, ["orders", "patients"]],
  ])("%s backs what it covers", (_, configuration, unbacked) => {
    expect(withoutOtherCapture([configuration], ["orders", "patients"], test.context)).toEqual(unbacked);
  });
});
