import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { offices as officeEntity } from "../clinic/entities/offices.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import type { SelectionRequest } from "../shared/plan/plan-selection.ts";
import { tick } from "../shared/tick/tick.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const only = { entities: ["offices"] };

describe.each(["values", "hashes"] as const)("what a person has been asked, of an entity that keeps %s,", (history) => {
  const offices: Entity = { ...officeEntity, history, onDelete: "hard" };
  let test: Pipeline;

  /** An office whose phone both sides have changed, put to a person by a request. */
  beforeEach(async () => {
    test = await createPipeline({ entities: [offices] });
    await test.target.admin.unsafe(workerGrants([offices]));
    await test.target.admin`update public.sync_jobs set enabled = false`;
    for (const id of [1, 2]) await test.seed.office(id, { name: `office ${id}` });
    await fromSource("phone = '1'");
    await test.sync(only);
    await fromSource("phone = '2'");
    await test.target.admin`update public.offices set phone = 'a person''s' where legacy_office_id = 1`;
    await test.sync({ ...only, conflictStrategy: "manual_review" });
  });
  afterEach(() => test[Symbol.asyncDispose]());

  const fromSource = (set: string) => test.source.admin.unsafe(`update public.dispatch_office set ${set} where id = 1`);
  const row = async () => {
    const [office] = await test.target.admin`select name, phone from public.offices where legacy_office_id = 1`;
    return { ...office };
  };
  const queue = async () =>
    (
      await test.target.admin<{ id: string; state: string; rule: string; by: string | null }[]>`
        select id, state, rule, resolved_by as by from public.sync_conflicts where source_record_id = 1 and rule = 'both_changed' and resolved_by is distinct from 'policy'
         order by first_seen_at, last_seen_at, (state <> 'superseded')::integer`
    ).map((one) => ({ ...one }));
  const redefine = async (changes: Partial<Entity>) => {
    const changed = { ...offices, ...changes };
    (test.context.entities as Map<string, Entity>).set("offices", changed);
    (test.context.hashes as Map<string, string>).set("offices", definitionHash(changed));
    await test.target.admin.unsafe(workerGrants([changed]));
  };

  const runs: readonly (Partial<SelectionRequest> & { readonly title: string })[] = [
    { title: "what has changed" },
    { title: "a digest", capture: "digest" },
    { title: "everything", capture: "full" },
    { title: "the record by its id", legacyIds: { offices: ["1"] } },
    ...(["source_wins", "target_wins", "merge"] as const).flatMap((conflictStrategy) => [
      { title: `everything, with ${conflictStrategy}`, capture: "full" as const, conflictStrategy },
    ]),
  ];
  it.each(runs)("stays open when the next run reads $title", async ({ title: _, ...request }) => {
    const before = await queue();
    expect(before).toMatchObject([{ state: "open", by: null }]);
    await test.sync({ ...only, ...request });
    expect(await queue()).toEqual(before);
    expect(await row()).toMatchObject({ phone: "a person's" });
  });

  it("stays open when a job reads it, and when it is tried again by the tick", async () => {
    const before = await queue();
    await test.target.admin`
      insert into public.sync_jobs (name, schedule_type, cron_expression, configuration, next_execution_at)
      values ('nightly', 'cron', '0 0 1 1 *', '{"entities": ["offices"], "capture": "full", "conflictStrategy": "source_wins"}', now())`;
    expect((await tick(test.context)).started).toHaveLength(1);
    await test.drain();
    await test.target.admin`select sync.replay('offices')`;
    expect((await tick(test.context)).released).toEqual(["offices"]);
    await test.drain();
    expect(await queue()).toEqual(before);
    expect(await row()).toMatchObject({ phone: "a person's" });
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'source_wins', resolved_by = 'a person' where state = 'open'`;
    expect(await row()).toMatchObject({ phone: "2" });
  });

  it("is asked again when the source changes it once more, and other fields flow meanwhile", async () => {
    await fromSource("name = 'renamed', phone = '3'");
    await test.sync(only);
    expect(await queue()).toMatchObject([{ state: "superseded" }, { state: "open" }]);
    expect(await row()).toEqual({ name: "renamed", phone: "a person's" });
    await test.target.admin`update public.offices set phone = 'another person''s' where legacy_office_id = 1`;
    await test.sync({ ...only, capture: "full" });
    expect(await row()).toEqual({ name: "renamed", phone: "another person's" });
    expect((await queue()).map(({ state }) => state).sort()).toEqual(["open", "superseded", "superseded"]);
  });

  it.each([
    ["the source takes the person's value", "source", "phone = 'a person''s'", "a person's"],
    ["the target takes the source's value", "target", "phone = '2'", "2"],
  ] as const)("is closed when %s", async (_, side, set, phone) => {
    if (side === "source") await fromSource(set);
    else await test.target.admin.unsafe(`update public.offices set ${set} where legacy_office_id = 1`);
    await test.sync({ ...only, capture: "full" });
    expect(await queue()).toMatchObject([{ state: "resolved", by: "sync" }]);
    expect(await row()).toMatchObject({ phone });
  });

  it("is asked again when what stopped the whole record meanwhile is gone", async () => {
    await test.target.admin`alter table public.offices add constraint no_bad check (name <> 'bad')`;
    await fromSource("name = 'bad'");
    await test.sync(only);
    expect((await test.live("offices")).map(({ rule }) => rule)).toEqual(["no_bad"]);
    await fromSource("name = 'good'");
    await test.sync(only);
    expect((await test.live("offices")).map(({ rule, field }) => [rule, field])).toEqual([
      ["both_changed", history === "values" ? "phone" : expect.stringMatching(/\bphone\b/)],
    ]);
    expect(await row()).toMatchObject({ phone: "a person's" });
  });

  it("stays open when the entity is declared anew with another strategy", async () => {
    await redefine({ conflicts: { ...offices.conflicts, strategy: "source_wins", fields: { phone: "target_wins" } } });
    await test.sync(only);
    expect(await queue()).toMatchObject([{ state: "open" }]);
    expect(await row()).toMatchObject({ phone: "a person's" });
  });

  it("is planned as it is done", async () => {
    const { execution } = await test.start({ ...only, capture: "full", dryRun: true });
    await test.drain();
    const [report] = await test.target.admin<{ outcomes: { outcome: string; rule: string; count: number }[] }[]>`
      select body -> 'entities' -> 0 -> 'outcomes' as outcomes from public.sync_reports where execution_id = ${execution} and kind = 'plan'`;
    expect(report?.outcomes).toMatchObject([{ outcome: "in_conflict", rule: "both_changed", count: 1 }]);
  });
});

describe("a question about a whole record", () => {
  const asking: Entity = {
    ...officeEntity,
    onDelete: "review",
    conflicts: { ...officeEntity.conflicts, deleted: "manual_review" },
  };
  const bold: Entity = { ...officeEntity, onDelete: "hard", conflicts: { ...officeEntity.conflicts, deleted: "source_wins" } };

  it.each([
    ["target_deleted", (test: Pipeline) => test.target.admin`delete from public.offices where legacy_office_id = 1`, 1],
    ["deleted_in_source", (test: Pipeline) => test.source.admin`delete from public.dispatch_office where id = 1`, 2],
  ] as const)("(%s) stays open when the entity is declared anew with another answer", async (rule, happens, rows) => {
    await using test = await createPipeline({ entities: [asking] });
    await test.target.admin.unsafe(workerGrants([asking]));
    for (const id of [1, 2]) await test.seed.office(id);
    await test.sync(only);
    await happens(test);
    await test.source.admin`update public.dispatch_office set phone = '2'`;
    await test.sync({ ...only, capture: "digest" });
    expect(await test.live("offices")).toMatchObject([{ rule, state: "open" }]);
    (test.context.entities as Map<string, Entity>).set("offices", bold);
    (test.context.hashes as Map<string, string>).set("offices", definitionHash(bold));
    await test.target.admin.unsafe(workerGrants([bold]));
    for (const capture of ["full", "digest"] as const) await test.sync({ ...only, capture });
    expect(await test.live("offices")).toMatchObject([{ rule, state: "open" }]);
    expect((await test.target.admin`select from public.offices`).length).toBe(rows);
  });
});
