import { describe, expect, it } from "vitest";
import { operations } from "../clinic/entities/operations.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { createStranger } from "./support/stranger.ts";

const ROWS = 5_000;

/** An installation whose next page has all records. Nobody has to acknowledge a trigger that comes after the first load. */
async function clinic(): Promise<Pipeline> {
  const test = await createPipeline({
    entities: [operations],
    env: { ISTHMUS_PAGE_SIZE: String(ROWS + 1), ISTHMUS_PAGE_SIZE_MAX: String(ROWS + 1) },
  });
  await test.target.admin.unsafe(workerGrants([operations]));
  await test.sync();
  await test.source.admin`
    insert into public.dispatch_operation (id, type, price, card_brand, attempts)
    select id, 1, id, 'brand ' || id, 100000 + id from generate_series(1, ${ROWS}::integer) id`;
  return test;
}

/** Runs the one page of records: how long that took, and what came of it. */
async function page(test: Pipeline): Promise<{ ms: number; counts: object }> {
  await test.start({ capture: "full" });
  const begun = performance.now();
  const outcome = await test.runOne();
  const ms = performance.now() - begun;
  return { ms, counts: outcome.outcome === "committed" ? outcome.counts : outcome };
}

let landing: Promise<number> | undefined;
/** How long a page of records that land takes: measured once. */
async function landed(): Promise<number> {
  await using test = await clinic();
  const { ms, counts } = await page(test);
  expect(counts).toMatchObject({ inserted: ROWS });
  return ms;
}

const brands = (when: string) => `
  create table public.brands (name text primary key);
  alter table public.operations add constraint one_brand foreign key (card_brand) references public.brands ${when}`;

describe("a page whose 5,000 records are all refused", () => {
  it.each([
    ["a type", "22003", "attempts", "alter table public.operations alter column attempts type smallint"],
    ["a length", "22001", "card_brand", "alter table public.operations alter column card_brand type varchar(3)"],
    ["a check", "one_brand", null, "alter table public.operations add constraint one_brand check (card_brand = 'VISA')"],
    [
      "rows that hold their unique values",
      "one_brand",
      null,
      `create unique index one_brand on public.operations (card_brand);
       insert into public.operations (id, legacy_operation_id, operation_type, card_brand)
       select gen_random_uuid(), -n, 'payment', 'brand ' || n from generate_series(1, ${ROWS}) n`,
    ],
    ["a foreign key", "one_brand", null, brands("")],
    ["a deferred foreign key", "one_brand", null, brands("initially deferred")],
    [
      "a trigger",
      "P0001",
      null,
      `create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
       create trigger refuse before insert or update on public.operations for each row execute function public.refuse()`,
    ],
    [
      "a trigger that cancels without an error",
      "write_cancelled",
      null,
      `create function public.cancel() returns trigger language plpgsql as $$ begin return null; end $$;
       create trigger cancel before insert or update on public.operations for each row execute function public.cancel()`,
    ],
  ])("by %s takes at most ten times as long as one that lands", { timeout: 300_000 }, async (_, rule, field, prepare) => {
    landing ??= landed();
    const ms = await landing;
    await using test = await clinic();
    await test.target.admin.unsafe(prepare);
    const refused = await page(test);
    expect(refused.counts).toMatchObject({ inserted: 0, in_conflict: ROWS });
    const queue = await test.target.admin`select rule, field, count(*)::integer as n from public.sync_conflicts group by 1, 2`;
    expect(queue.map((row) => ({ ...row }))).toEqual([{ rule, field, n: ROWS }]);
    expect(refused.ms).toBeLessThan(10 * ms);
    expect(refused.ms).toBeLessThan(60_000);
  });
});

describe("a page whose 5,000 records a trigger changes", () => {
  it(
    "takes at most four times as long as one that lands as it is, and so does the next look at them",
    { timeout: 300_000 },
    async () => {
      landing ??= landed();
      const ms = await landing;
      await using test = await clinic();
      await test.target.admin.unsafe(`
      create function public.change() returns trigger language plpgsql as $$ begin new.card_brand := upper(new.card_brand); return new; end $$;
      create trigger change before insert or update on public.operations for each row execute function public.change()`);
      const changed = await page(test);
      expect(changed.counts).toMatchObject({ inserted: ROWS });
      await test.drain();
      const again = await page(test);
      expect(again.counts).toMatchObject({ unchanged: ROWS });
      const [told] = await test.target
        .admin`select count(*)::integer as n from public.sync_warnings where rule = 'written_otherwise: card_brand'`;
      expect(told).toEqual({ n: ROWS });
      expect(Math.max(changed.ms, again.ms)).toBeLessThan(4 * ms);
    },
  );
});

describe("a page of 1,000 marks of deleted records that do not hold", () => {
  const MARKS = 1_000;
  /** How long the commits of pages of marks take, by their log; `prepare` is what the target has by then. */
  async function marks(prepare: string): Promise<{ ms: number; deleted: number; in_conflict: number }> {
    const shape = { source: "old", target: "fresh", columns: { name: { type: "text" }, gone: { type: "boolean" } } } as const;
    await using test = await createStranger(
      shape,
      { onDelete: { soft: { gone: "true" } } },
      {
        ISTHMUS_PAGE_SIZE: String(MARKS),
        ISTHMUS_PAGE_SIZE_MAX: String(MARKS),
        ISTHMUS_BRAKE_RECORDS: String(MARKS),
      },
    );
    await test.source.admin`insert into public.old select i, 'Name ' || i, false from generate_series(1, ${MARKS}::integer) i`;
    await test.sync();
    await test.target.admin.unsafe(prepare);
    await test.source.admin`delete from public.old`;
    await test.sync({ capture: "digest" });
    const [log] = await test.target.admin<{ ms: number; deleted: number; in_conflict: number }[]>`
      select sum(wall_ms)::integer as ms, sum(deleted)::integer as deleted, sum(in_conflict)::integer as in_conflict
        from public.sync_page_log where deleted + in_conflict > 0`;
    if (log === undefined) throw new Error("no page has marked anything");
    return log;
  }

  it("takes at most ten times as long as one whose marks hold", { timeout: 300_000 }, async () => {
    const held = await marks("select 1");
    expect(held).toMatchObject({ deleted: MARKS, in_conflict: 0 });
    const undone = await marks(`
      create function public.keep() returns trigger language plpgsql as $$ begin new.gone := old.gone; return new; end $$;
      create trigger keep before update on public.fresh for each row execute function public.keep()`);
    expect(undone).toMatchObject({ deleted: 0, in_conflict: MARKS });
    process.stdout.write(`marks that hold: ${held.ms} ms; that do not: ${undone.ms} ms\n`);
    expect(undone.ms).toBeLessThan(10 * held.ms);
  });
});
