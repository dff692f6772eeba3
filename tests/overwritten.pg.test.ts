import { describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { offices } from "../clinic/entities/offices.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { tick } from "../shared/tick/tick.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const ENV = {
  ISTHMUS_PAGE_SIZE: "5",
  ISTHMUS_PAGE_SIZE_MAX: "5",
  ISTHMUS_BRAKE_OVERWRITE_RECORDS: "3",
  ISTHMUS_BRAKE_OVERWRITE_SHARE: "0.25",
};
const only = { entities: ["offices"] };

/** Twenty offices, landed. */
async function made(entity: Entity = offices, env: Record<string, string> = {}): Promise<Pipeline> {
  const test = await createPipeline({ entities: [entity], env: { ...ENV, ...env } });
  await test.target.admin.unsafe(workerGrants([entity]));
  await test.target.admin`update public.sync_jobs set enabled = false`;
  for (let id = 1; id <= 20; id++) await test.seed.office(id, { name: `office ${id}` });
  await test.source.admin`update public.dispatch_office set phone = id::text, country = 'CH', city = 'Bern'`;
  await test.sync(only);
  return test;
}
async function redefine(test: Pipeline, entity: Entity): Promise<void> {
  (test.context.entities as Map<string, Entity>).set("offices", entity);
  (test.context.hashes as Map<string, string>).set("offices", definitionHash(entity));
  await test.target.admin.unsafe(workerGrants([entity]));
}
const run = async (test: Pipeline, request: Parameters<Pipeline["start"]>[0] = only) => {
  const { execution } = await test.start(request);
  await test.drain();
  return test.status(execution);
};
const count = async (test: Pipeline, where: string) =>
  (await test.target.admin.unsafe(`select from public.offices where ${where}`)).length;
const brakes = async (test: Pipeline) =>
  (
    await test.target.admin<{ kind: string; field: string | null; records: number; landed: number }[]>`
      select kind, field, records::integer, landed::integer from public.sync_brakes where closed_at is null`
  ).map((row) => ({ ...row }));
const alerts = async (test: Pipeline) =>
  (
    await test.target.admin<
      { message: string }[]
    >`select message from public.sync_alerts where kind = 'brake' and closed_at is null`
  ).map(({ message }) => message);
const confirm = (test: Pipeline) =>
  test.target.admin`update public.sync_brakes set confirmed_by = 'a person' where closed_at is null`;

describe("an execution that would overwrite values in far more records than usual", () => {
  it.each(["auto", "full", "digest"] as const)(
    "(%s) is stopped before the page that would pass the share, until a person has confirmed it",
    async (capture) => {
      await using test = await made();
      await test.source.admin`update public.dispatch_office set phone = 'x' where id <= 16`;
      expect(await run(test, { ...only, capture })).toMatchObject({
        status: "failed",
        errors: [{ code: "BRAKE_APPLIED", entity: "offices", kind: "overwrite", records: 10, landed: 20 }],
      });
      expect(await count(test, "phone = 'x'")).toBe(5);
      expect(await brakes(test)).toEqual([{ kind: "overwrite", field: null, records: 10, landed: 20 }]);
      expect(await alerts(test)).toEqual([
        "Far more records than usual would be overwritten: the execution was stopped. See sync_brakes.",
      ]);
      // What passed before does not add up over executions: from now on not one more does, and the tick leaves the
      // entity alone.
      expect((await run(test, { ...only, capture })).status).toBe("failed");
      await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 16, 'test' from public.sync_entities where entity_type = 'offices'
      on conflict do nothing`;
      expect((await tick(test.context)).released).toEqual([]);
      expect(await count(test, "phone = 'x'")).toBe(5);

      await confirm(test);
      await test.sync({ ...only, capture });
      expect(await count(test, "phone = 'x'")).toBe(16);
      expect([await brakes(test), await alerts(test)]).toEqual([[], []]);
    },
  );

  it("is stopped, too, when everything is read again because somebody has removed the checkpoint", async () => {
    await using test = await made();
    await test.target.admin`delete from public.sync_checkpoints`;
    await test.source.admin`update public.dispatch_office set phone = 'x' where id <= 16`;
    expect(await run(test)).toMatchObject({ status: "failed", errors: [{ code: "BRAKE_APPLIED", kind: "overwrite" }] });
    await confirm(test);
    await test.sync(only);
    expect(await count(test, "phone = 'x'")).toBe(16);
  });

  it("counts edits of people that the source overwrites, and few of them pass", async () => {
    await using test = await made();
    await test.source.admin`update public.dispatch_office set phone = 'x' where id <= 5`;
    await test.target.admin`update public.offices set phone = 'edited' where legacy_office_id <= 12`;
    expect((await run(test)).status).toBe("succeeded");
    expect(await count(test, "phone = 'x'")).toBe(5);
    await test.source.admin`update public.dispatch_office set phone = 'x' where id <= 12`;
    expect(await run(test)).toMatchObject({ status: "failed", errors: [{ code: "BRAKE_APPLIED", kind: "overwrite" }] });
    expect(await count(test, "phone = 'edited'")).toBeGreaterThan(0);
  });

  it("goes on when the source is right again, once a person has confirmed that", async () => {
    await using test = await made();
    await test.source.admin`update public.dispatch_office set phone = 'x'`;
    expect((await run(test)).status).toBe("failed");
    await test.source.admin`update public.dispatch_office set phone = id::text`;
    await confirm(test);
    await test.sync(only);
    expect(await count(test, "phone = 'x'")).toBe(0);
    expect(await brakes(test)).toEqual([]);
  });

  it("is left alone where the share is 1", async () => {
    await using test = await made(offices, { ISTHMUS_BRAKE_OVERWRITE_SHARE: "1" });
    for (const phone of ["x", "y"]) {
      await test.source.admin.unsafe(`update public.dispatch_office set phone = '${phone}'`);
      await test.sync(only);
    }
    expect(await count(test, "phone = 'y'")).toBe(20);
  });
});

describe("the brake on overwritten values lets pass", () => {
  it("empty fields that are filled, and inserts", async () => {
    await using test = await made();
    await test.source.admin`update public.dispatch_office set address = 'a street'`;
    for (let id = 21; id <= 40; id++) await test.seed.office(id);
    await test.sync(only);
    expect(await count(test, "address = 'a street'")).toBe(20);
    expect(await count(test, "true")).toBe(40);
  });

  it("adopted rows that an earlier migration got wrong", async () => {
    await using test = await createPipeline({ entities: [offices], env: ENV });
    await test.target.admin.unsafe(workerGrants([offices]));
    for (let id = 1; id <= 20; id++) {
      await test.seed.office(id, { name: `office ${id}` });
      await test.target
        .admin`insert into public.offices (legacy_office_id, name, is_active, email_notifications) values (${id}, 'wrong', true, true)`;
    }
    await test.start({ ...only, adopt: true });
    await test.drain();
    await test.sync(only);
    expect(await count(test, "name = 'wrong'")).toBe(0);
    expect(await brakes(test)).toEqual([]);
  });

  it("what an entity file says anew, a new field or another value, but not what is held already", async () => {
    const { city, ...fewer } = offices.fields;
    if (!city || !offices.fields["country"]) throw new Error("offices have other fields");
    await using test = await made({ ...offices, fields: fewer });
    await redefine(test, offices);
    await test.sync(only);
    expect(await count(test, "city = 'Bern'")).toBe(20);
    await redefine(test, { ...offices, fields: { ...offices.fields, city: offices.fields["country"] } });
    await test.sync(only);
    expect(await count(test, "city = 'CH'")).toBe(20);

    await test.source.admin`update public.dispatch_office set phone = 'x'`;
    expect((await run(test)).status).toBe("failed");
    await redefine(test, offices);
    expect((await run(test)).status).toBe("failed");
    expect(await count(test, "phone = 'x'")).toBe(5);
  });
});

describe("a plan", () => {
  const foretold = async (test: Pipeline, capture: "auto" | "full" | "digest") => {
    const { execution } = await test.start({ ...only, capture, dryRun: true });
    await test.drain();
    const [report] = await test.target.admin<{ brakes: unknown; deleted: number }[]>`
      select body -> 'entities' -> 0 -> 'brakes' as brakes, (body #>> '{entities,0,counts,deleted}')::integer as deleted
        from public.sync_reports where execution_id = ${execution} and kind = 'plan'`;
    return report?.brakes;
  };
  const HARD: Entity = { ...offices, onDelete: "hard" };

  it.each(["auto", "full", "digest"] as const)("(%s) foretells what the brake stops, and pulls none", async (capture) => {
    await using test = await made(HARD, { ISTHMUS_BRAKE_RECORDS: "2" });
    await test.source.admin`update public.dispatch_office set phone = 'x' where id <= 16`;
    await test.source.admin`update public.dispatch_office set city = null where id <= 5`;
    await test.source.admin`delete from public.dispatch_office where id > 16`;
    const found = [
      ...(capture === "auto" ? [] : [{ kind: "delete", field: null, records: 4, landed: 20 }]),
      { kind: "null", field: "city", records: 5, landed: 20 },
      { kind: "overwrite", field: null, records: 16, landed: 20 },
    ];
    expect(await foretold(test, capture)).toEqual(found);
    expect([await brakes(test), await alerts(test)]).toEqual([[], []]);
    expect((await run(test, { ...only, capture })).status).toBe("failed");
    await confirm(test);
    // What was pulled and confirmed passes; the rest stays foretold.
    const [pulled] = await brakes(test);
    expect(await foretold(test, capture)).toEqual(
      found.filter(({ kind, field }) => kind !== pulled?.kind || field !== pulled.field),
    );
  });

  it("foretells nothing that passes", async () => {
    await using test = await made(HARD);
    await test.source.admin`update public.dispatch_office set phone = 'x' where id <= 3`;
    await test.source.admin`delete from public.dispatch_office where id = 20`;
    expect(await foretold(test, "full")).toEqual([]);
    expect((await run(test, { ...only, capture: "full" })).status).toBe("succeeded");
  });
});
