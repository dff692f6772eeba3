import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { operations as operationsEntity } from "../clinic/entities/operations.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { differingKeys, differingSpans } from "../shared/page/digest.ts";
import type { Bucket, KeyDigest } from "../shared/sql/spans.ts";
import { HIGHEST, LOWEST } from "../shared/sql/key-range.ts";
import { NONE_STRAYED } from "./support/history-target.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const operations: Entity = { ...operationsEntity, onDelete: "hard" };
const only = { entities: ["operations"] };
const digest = { ...only, capture: "digest" } as const;

/** Operations without payments: 1 to `rows`, in pages and windows that are small on purpose. */
async function clinic(rows: number, env: Record<string, string> = {}): Promise<Pipeline> {
  const test = await createPipeline({ entities: [operations], env: { ISTHMUS_DIGEST_ROWS: "500", ...env } });
  await test.target.admin.unsafe(workerGrants([operations]));
  await test.source
    .admin`insert into public.dispatch_operation (id, type, price) select id, 1, id from generate_series(1, ${rows}::integer) id`;
  await test.sync(only);
  return test;
}

/** Changes that no transaction id tells of: as if the horizon had moved past them. */
async function behindTheHorizon(test: Pipeline): Promise<void> {
  const [now] = await test.source.admin<{ at: string }[]>`select pg_snapshot_xmin(pg_current_snapshot())::text as at`;
  await test.target.admin`update public.sync_checkpoints set horizon = ${now?.at ?? "0"}::xid8`;
}

async function report(test: Pipeline, execution: string) {
  const rows = await test.target.admin<{ reason: string; found: { legacy_ids: string[] } }[]>`
    select f.key as reason, f.value as found from public.sync_reports r cross join lateral jsonb_each(r.body) f
     where r.execution_id = ${execution} and r.kind = 'digest:operations' and f.key <> 'records'`;
  return Object.fromEntries(rows.map(({ reason, found }) => [reason, found.legacy_ids.map(Number).sort((a, b) => a - b)]));
}

describe("a digest", () => {
  it("finds every kind of difference by key, and has exactly those records read", async () => {
    await using test = await clinic(3000);
    await test.source.admin.unsafe(`
      insert into public.dispatch_operation (id, type, price) values (3001, 1, 1), (900000, 1, 1);
      delete from public.dispatch_operation where id in (10, 2999);
      update public.dispatch_operation set price = price + 1 where id in (64, 65, 1500);
      -- Two records change places: the sum of their amounts stays.
      update public.dispatch_operation set price = case id when 2000 then 2001 else 2000 end where id in (2000, 2001);
      update public.dispatch_operation set card_brand = '' where id = 700`);
    await behindTheHorizon(test);
    await test.target.admin`delete from public.operations where legacy_operation_id = 77`;
    await test.target.admin`update public.operations set card_brand = 'edited' where legacy_operation_id = 88`;
    // Without it nothing is found.
    expect((await test.sync(only)).chains).toEqual([]);

    const { execution } = await test.sync(digest);
    expect(await report(test, execution)).toEqual({
      missing: [3001, 900000],
      surplus: [10, 2999],
      changed: [64, 65, 700, 1500, 2000, 2001],
      target_deleted: [77],
      edited: [88],
      ...NONE_STRAYED,
    });
    const [counted] = await test.target.admin`
      select sum(read)::integer as read, sum(inserted)::integer as inserted, sum(updated)::integer as updated, sum(deleted)::integer as deleted,
             sum(in_conflict)::integer as "inConflict", sum(absent)::integer as absent
        from public.sync_page_log where execution_id = ${execution}`;
    // 10 and 2999 are looked at twice: found gone, and deleted.
    expect(counted).toEqual({ read: 12, inserted: 2, updated: 6, deleted: 2, inConflict: 1, absent: 2 });
    expect(await test.live("operations")).toMatchObject([{ id: 77, rule: "target_deleted" }]);

    // What is in the queue is not asked for again; what somebody has edited stays theirs, and is seen again.
    const again = await test.sync(digest);
    expect(await report(test, again.execution)).toEqual({
      missing: [],
      surplus: [],
      changed: [],
      target_deleted: [],
      edited: [88],
      ...NONE_STRAYED,
    });
  });

  it("sees an edit of a row that the sync has written since, and what deferred triggers make of a row is none", async () => {
    await using test = await clinic(4);
    await test.target.admin`update public.operations set card_brand = 'edited' where legacy_operation_id = 1`;
    await test.source.admin`update public.dispatch_operation set price = 50 where id = 1`;
    await test.target.admin.unsafe(`
      create function public.round_up() returns trigger language plpgsql as $$
        begin update public.operations set square_order_id = 'deferred' where id = new.id and square_order_id is distinct from 'deferred'; return null; end $$;
      create constraint trigger round_up after update on public.operations deferrable initially deferred for each row execute function public.round_up();
      grant update (square_order_id) on public.operations to isthmus_worker`);
    await test.source.admin`update public.dispatch_operation set price = 60 where id = 2`;
    await test.sync(only);
    expect(
      (
        await test.target
          .admin`select card_brand, square_order_id from public.operations where legacy_operation_id in (1, 2) order by legacy_operation_id`
      ).map((row) => ({ ...row })),
    ).toEqual([
      { card_brand: "edited", square_order_id: "deferred" },
      { card_brand: null, square_order_id: "deferred" },
    ]);
    expect(await report(test, (await test.sync(digest)).execution)).toMatchObject({ edited: [1] });
  });

  it("does not ask again for what waits or is in conflict, until the source changes it", async () => {
    await using test = await clinic(20);
    await test.source.admin`update public.dispatch_operation set type = 99 where id = 5`;
    await test.source.admin`insert into public.dispatch_operation (id, type, price, payment_id) values (21, 99, 1, null)`;
    await test.sync(only);
    expect((await test.live("operations")).map(({ id }) => id)).toEqual([5, 21]);
    expect(await report(test, (await test.sync(digest)).execution)).toMatchObject({ missing: [], changed: [] });
    await test.source.admin`update public.dispatch_operation set type = 1 where id in (5, 21)`;
    await behindTheHorizon(test);
    expect(await report(test, (await test.sync(digest)).execution)).toMatchObject({ missing: [], changed: [5, 21] });
    expect(await test.live("operations")).toEqual([]);
  });

  it("ends a page before more records than it may list, and finds all the same", async () => {
    await using test = await clinic(20);
    await test.source
      .admin`insert into public.dispatch_operation (id, type, price) select id, 1, 1 from generate_series(1001, 31000) id`;
    await behindTheHorizon(test);
    const { execution } = await test.start({ ...digest });
    await test.target
      .admin`update public.sync_chains set page_size = 100000 where execution_id = ${execution} and capture = 'digest'`;
    await test.drain();
    const [row] = await test.target.admin`
      select (select body #>> '{missing,count}' from public.sync_reports where execution_id = ${execution} and kind like 'digest:%') as missing,
             (select count(*)::integer from public.operations) as landed,
             (select page from public.sync_chains where execution_id = ${execution} and capture = 'digest') as pages`;
    expect(row).toEqual({ missing: "30000", landed: 30020, pages: 2 });
  });

  it("needs no right to see what was written, and lets the source move while both sides are compared", async () => {
    await using test = await clinic(5);
    await test.source.admin.unsafe(`
      do $$ declare c text := (select string_agg(quote_ident(attname), ', ') from pg_attribute
                                where attrelid = 'public.dispatch_operation'::regclass and attnum > 0 and not attisdropped);
      begin
        revoke select on public.dispatch_operation from isthmus_reader;
        execute format('grant select (%s) on public.dispatch_operation to isthmus_reader', c);
      end $$`);
    const { execution } = await test.start(digest);
    for (let id = 6; test.queue.length > 0; id++) {
      await test.source.admin`insert into public.dispatch_operation (id, type, price) values (${id}, 1, 1)`;
      await test.source.admin`update public.dispatch_operation set price = price + 1 where id = 1`;
      await test.runOne();
    }
    expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
  });

  it("is right while the source moves between any two of its statements", async () => {
    await using test = await clinic(600, { ISTHMUS_DIGEST_ROWS: "200" });
    await test.start(digest);
    let step = 0;
    while (test.queue.length > 0) {
      step++;
      await test.source.admin`update public.dispatch_operation set price = price + 1 where id % 50 = ${step % 50}`;
      await test.source.admin`delete from public.dispatch_operation where id = ${590 - step}`;
      await test.source.admin`insert into public.dispatch_operation (id, type, price) values (${600 + step}, 1, 1)`;
      await test.runOne();
    }
    await test.sync(digest);
    type Side = { id: number; price: number }[];
    const source = await test.source.admin<Side>`select id::integer, price::float8 from public.dispatch_operation order by 1`;
    const target = await test.target.admin<Side>`
      select legacy_operation_id::integer as id, amount::float8 as price from public.operations order by 1`;
    expect([...target]).toEqual([...source]);
  });
});

describe("the comparison of two sides", () => {
  const side = fc.dictionary(
    fc
      .tuple(fc.constantFrom(LOWEST, -4_096n, 0n, 4_096n, HIGHEST), fc.bigInt({ min: -150n, max: 150n }))
      .map(([around, away]) => around + away)
      .filter((key) => key >= LOWEST && key <= HIGHEST)
      .map(String),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
    { maxKeys: 60 },
  );
  const bucketsOf = (
    records: Record<string, string>,
    bits: number,
    within: readonly { from: bigint; to: bigint }[],
  ): Bucket[] => {
    const sums = new Map<bigint, { n: number; digest: bigint }>();
    for (const [id, hash] of Object.entries(records)) {
      if (!within.some(({ from, to }) => BigInt(id) >= from && BigInt(id) <= to)) continue;
      const bucket = BigInt(id) >> BigInt(bits);
      const { n, digest: sum } = sums.get(bucket) ?? { n: 0, digest: 0n };
      sums.set(bucket, { n: n + 1, digest: sum + BigInt(hash) });
    }
    return [...sums].map(([bucket, { n, digest: sum }]) => ({ bucket: String(bucket), n: String(n), digest: String(sum) }));
  };

  it("drills to exactly the records that differ, in as many pages as it takes", () => {
    fc.assert(
      fc.property(side, side, fc.integer({ min: 1, max: 40 }), (one, other, most) => {
        const there = { ...one, ...other };
        const found = new Set<string>();
        let from = LOWEST;
        for (let page = 0; from <= HIGHEST; page++) {
          expect(page).toBeLessThan(400);
          let window = { from, to: HIGHEST };
          let spans: readonly { from: bigint; to: bigint }[] = [window];
          for (const bits of [5, 2]) {
            const { differing, end } = differingSpans(
              bucketsOf(there, bits, spans),
              bucketsOf(one, bits, spans),
              window,
              bits,
              most,
            );
            spans = differing;
            window = { ...window, to: end };
          }
          const list = (records: Record<string, string>): KeyDigest[] =>
            Object.entries(records)
              .filter(([id]) => spans.some((span) => BigInt(id) >= span.from && BigInt(id) <= span.to))
              .map(([id, hash]) => ({ id, digest: hash }));
          const { missing, surplus, changed } = differingKeys(list(there), list(one));
          for (const id of [...missing, ...surplus, ...changed]) found.add(id);
          from = window.to + 1n;
        }
        const expected = Object.keys(there).filter((id) => one[id] !== there[id]);
        expect([...found].sort()).toEqual(expected.sort());
      }),
    );
  });
});
