import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Entity, Predicate } from "../shared/entity/define-entity.ts";
import { operations } from "../clinic/entities/operations.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { everything, planned } from "./support/plan.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const SETTLED: Predicate = { name: "settled", version: 1, where: "c.attempts >= 1", reason: "not tried yet", onLeave: "keep" };
const only = { entities: ["operations"] };
const full = { ...only, capture: "full" } as const;
const POLICIES = { hard: "hard", soft: { soft: { card_brand: "gone" } }, review: "review", ignore: "ignore" } as const;
type Policy = keyof typeof POLICIES;
type Joins = Entity["source"]["joins"];
/** By what the source is asked for the record. */
const CAPTURES = ["full", "digest", "its key"] as const;
type Capture = (typeof CAPTURES)[number];

describe("a record that is kept outside its predicate, and that the source then deletes", () => {
  let test: Pipeline;
  const define = async (predicate: Partial<Predicate> | null, policy: Policy, joins: Joins = {}) => {
    const kept = predicate === null ? undefined : { ...SETTLED, ...predicate };
    const source = { ...operations.source, joins, predicate: kept };
    const entity: Entity = { ...operations, source, onDelete: POLICIES[policy] };
    (test.context.entities as Map<string, Entity>).set("operations", entity);
    (test.context.hashes as Map<string, string>).set("operations", definitionHash(entity));
    await test.target.admin.unsafe(workerGrants([entity]));
  };
  /** 7 and 8 have landed, 8 has left its predicate since, and its row stays. */
  const keptOutside = async (policy: Policy) => {
    await define({}, policy);
    await test.source
      .admin`insert into public.dispatch_operation (id, type, price, attempts) values (7, 1, 10, 1), (8, 1, 10, 1)`;
    await test.sync(only);
    await test.source.admin`update public.dispatch_operation set attempts = 0 where id = 8`;
    await test.sync(full);
    expect(await state()).toEqual({ gone: true, outside: true });
  };
  const remove = () => test.source.admin`delete from public.dispatch_operation where id = 8`;
  const look = async (capture: Capture) => {
    if (capture !== "its key") return test.sync({ ...only, capture });
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 8, 'test' from public.sync_entities where entity_type = 'operations'`;
    return test.sync(only);
  };
  const deleted = async ({ execution }: { execution: string }) => {
    const { outcomes, read } = await test.sums(execution);
    expect(outcomes).toBe(read);
    const [row] = await test.target.admin<{ n: number }[]>`
      select coalesce(sum(deleted), 0)::integer as n from public.sync_page_log where execution_id = ${execution}`;
    return row?.n;
  };
  const landed = async () =>
    (await test.target.admin<{ id: number }[]>`select legacy_operation_id::integer as id from public.operations order by 1`).map(
      ({ id }) => id,
    );
  const state = async () => {
    const [row] = await test.target.admin<{ gone: boolean; outside: boolean | null }[]>`
      select s.gone_at is not null as gone, s.outside from public.sync_row_states s join public.sync_entities e on e.id = s.entity_id
       where e.entity_type = 'operations' and s.legacy_id = 8`;
    return row;
  };

  beforeEach(async () => {
    test = await createPipeline({});
  });
  afterEach(() => test[Symbol.asyncDispose]());

  it.each([
    ["hard", "full"],
    ["hard", "digest"],
    ["hard", "its key"],
    ["soft", "digest"],
    ["review", "full"],
    ["review", "digest"],
    ["ignore", "digest"],
    ["ignore", "its key"],
  ] as const)("goes as any other does (onDelete %s), found by: %s", async (policy, capture) => {
    await keptOutside(policy);
    await remove();
    if (capture !== "its key") {
      const before = await everything(test.target.admin);
      const { records } = await planned(test, { ...only, capture });
      expect(await everything(test.target.admin)).toEqual(before);
      expect(records.map(({ legacyId, outcome }) => [legacyId, outcome])).toEqual(
        policy === "ignore" ? [] : [["8", policy === "review" ? "in_conflict" : "deleted"]],
      );
    }
    for (const n of [policy === "hard" || policy === "soft" ? 1 : 0, 0]) {
      expect(await deleted(await look(capture))).toBe(n);
      expect(await landed()).toEqual(policy === "hard" ? [7] : [7, 8]);
      expect(await test.live("operations")).toMatchObject(
        policy === "review" ? [{ id: 8, state: "open", rule: "deleted_in_source" }] : [],
      );
      expect(await state()).toEqual(policy === "hard" ? undefined : { gone: true, outside: policy === "review" ? true : null });
    }
  });

  it("is not told while the source has it, and is synced again when the predicate lets it in", async () => {
    await keptOutside("hard");
    for (const capture of CAPTURES) {
      expect(await deleted(await look(capture))).toBe(0);
      expect(await test.live("operations")).toEqual([]);
      expect(await state()).toEqual({ gone: true, outside: true });
    }
    await test.source.admin`update public.dispatch_operation set attempts = 1 where id = 8`;
    await test.sync(full);
    expect(await state()).toEqual({ gone: false, outside: null });
  });

  it("stays where a person has decided so", async () => {
    await keptOutside("review");
    await remove();
    await look("digest");
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where source_record_id = 8 and state = 'open'`;
    for (const capture of CAPTURES) await look(capture);
    expect(await test.live("operations")).toEqual([]);
    expect(await landed()).toEqual([7, 8]);
    expect(await state()).toEqual({ gone: true, outside: null });
  });

  it("is asked about no more where it comes back, still outside", async () => {
    await keptOutside("review");
    await test.source.admin`create table public.aside as select * from public.dispatch_operation where id = 8`;
    await remove();
    await look("digest");
    expect(await test.live("operations")).toHaveLength(1);
    await test.source.admin`insert into public.dispatch_operation select * from public.aside`;
    await look("full");
    expect(await test.live("operations")).toEqual([]);
    expect(await state()).toEqual({ gone: true, outside: true });
  });

  it("leaves as others do where the predicate no longer keeps it", async () => {
    await keptOutside("review");
    await define({ version: 2, onLeave: "delete" }, "review");
    expect(await deleted(await test.sync(only))).toBe(1);
    expect(await landed()).toEqual([7]);
  });

  it.each(["full", "digest"] as const)("is found by a %s pass where the entity has no predicate any more", async (capture) => {
    await keptOutside("hard");
    await remove();
    await define(null, "hard");
    expect(await deleted(await look(capture))).toBe(1);
    expect(await landed()).toEqual([7]);
  });

  describe("fares as one inside does when the source shows neither any more:", () => {
    /** 7 inside and 8 outside have landed, of one partition and one kind; 9 is of others. */
    const both = async (policy: Policy) => {
      await define({}, policy, { g: { table: "auth_group", on: { id: "c.type" }, required: true } });
      await test.source.admin.unsafe(`
        alter table public.dispatch_operation rename to operations_part;
        create table public.dispatch_operation (like public.operations_part including defaults including constraints including indexes) partition by range (id);
        alter table public.dispatch_operation attach partition public.operations_part for values from (minvalue) to (9);
        create table public.operations_rest partition of public.dispatch_operation for values from (9) to (maxvalue);
        grant select on public.dispatch_operation to isthmus_reader`);
      for (const id of [1, 2]) await test.seed.group(id, `Kind ${id}`);
      await test.source
        .admin`insert into public.dispatch_operation (id, type, price, attempts) values (7, 1, 10, 1), (8, 1, 10, 1), (9, 2, 10, 1)`;
      await test.sync(only);
      await test.source.admin`update public.dispatch_operation set attempts = 0 where id = 8`;
      await test.sync(full);
      expect(await landed()).toEqual([7, 8, 9]);
      expect(await state()).toEqual({ gone: true, outside: true });
    };
    const HIDE = {
      "a partition that is detached": "alter table public.dispatch_operation detach partition public.operations_part",
      "the row of a required join": "delete from public.auth_group where id = 1",
    };

    it.each([
      ["a partition that is detached", "auto"],
      ["a partition that is detached", "full"],
      ["the row of a required join", "digest"],
      ["the row of a required join", "full"],
    ] as const)("%s (%s)", async (what, capture) => {
      await both("hard");
      await test.source.admin.unsafe(HIDE[what]);
      expect(await deleted(await test.sync({ ...only, capture }))).toBe(2);
      expect(await landed()).toEqual([9]);
    });

    it.each(["a partition that is detached", "the row of a required join"] as const)(
      "%s, where people are asked",
      async (what) => {
        await both("review");
        await test.source.admin.unsafe(HIDE[what]);
        await look("digest");
        expect(await test.live("operations")).toMatchObject(
          [7, 8].map((id) => ({ id, state: "open", rule: "deleted_in_source" })),
        );
        expect(await landed()).toEqual([7, 8, 9]);
      },
    );

    it("row level security of the source has the entity left out, and nothing of either is touched", async () => {
      await both("hard");
      await test.source.admin`alter table public.dispatch_operation enable row level security`;
      for (const capture of ["auto", "full", "digest"] as const)
        await expect(test.sync({ ...only, capture })).rejects.toThrow("Row level security");
      await expect(test.sync({ legacyIds: { operations: ["7", "8"] } })).rejects.toThrow("Row level security");
      // Neither does a page that is under way take hidden rows for deleted ones.
      await test.source.admin`alter table public.dispatch_operation disable row level security`;
      const { execution } = await test.start({ ...only, capture: "digest" });
      await test.source.admin`alter table public.dispatch_operation enable row level security`;
      await test.drain();
      expect((await test.status(execution)).status).toBe("failed");
      expect(await landed()).toEqual([7, 8, 9]);
      expect(await state()).toEqual({ gone: true, outside: true });
    });
  });

  it("counts for the brake among those that have landed", async () => {
    await define({}, "hard");
    await test.source
      .admin`insert into public.dispatch_operation (id, type, price, attempts) select n, 1, 10, 1 from generate_series(1, 1200) n`;
    await test.sync(only);
    await test.source.admin`update public.dispatch_operation set attempts = 0 where id > 10`;
    await test.sync(full);
    await test.source.admin`delete from public.dispatch_operation where id > 1090`;
    expect(await deleted(await look("digest"))).toBe(110);
    await test.source.admin`delete from public.dispatch_operation where id > 950`;
    await expect(look("digest")).rejects.toThrow("BRAKE_APPLIED");
    expect(await landed()).toHaveLength(1090);
  });
});
