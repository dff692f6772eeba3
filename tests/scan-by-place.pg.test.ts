import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { connect, type Sql } from "../shared/db/connect.ts";
import { nextWindow, scanPage, windowQuery, type Pace, type Place, type Scan, type Scanned } from "../shared/source/scan.ts";
import { createTestSource, readerUrl, type TestDatabase } from "./support/databases.ts";
import { createPipeline } from "./support/pipeline.ts";

interface Row {
  readonly id: string;
}
const START: Place = { cursor: null, file: null };
const PATIENT: Pace = { rows: 1_000, budgetMs: 60_000, clock: () => 0 };
/** A clock by which every window takes the whole time of a page. */
const slow = (): Pace["clock"] => {
  let now = 0;
  return () => (now += 60_000);
};

describe("a scan for changed rows", () => {
  let source: TestDatabase;
  let reader: Sql;
  beforeAll(async () => {
    source = await createTestSource();
    reader = connect({
      side: "source",
      url: readerUrl(source),
      tls: "disable",
      poolSize: 1,
      idleTimeoutSeconds: 60,
      connectTimeoutSeconds: 9,
      applicationName: "t",
    });
  });
  afterAll(async () => {
    await reader.end();
    await source[Symbol.asyncDispose]();
  });

  const present = async () =>
    (await source.admin.unsafe<{ at: string }[]>(`select pg_snapshot_xmin(pg_current_snapshot())::text as at`))[0]?.at ?? "0";
  /** Makes changes; gives the scan that has to find them, and the horizon from which the next one looks. */
  const changes = async (statement: string, table = "big"): Promise<Scan & { readonly next: string }> => {
    const from = await present();
    await source.admin.unsafe(statement);
    const next = await present();
    return { table, key: "id", values: {}, from, next };
  };
  const page = (scan: Scan, place: Place = START, pace: Partial<Pace> = {}) =>
    scanPage<Row>(reader, scan, place, { ...PATIENT, ...pace });
  const pages = async (
    scan: Scan,
    pace: () => Partial<Pace>,
    between: (done: number) => Promise<unknown> = () => Promise.resolve(),
  ) => {
    const all: Scanned<Row>[] = [];
    for (let place = START; all.at(-1)?.done !== true;) {
      if (all.length > 100) throw new Error("a scan without end");
      if (all.length > 0) await between(all.length);
      const one = await page(scan, place, pace());
      all.push(one);
      place = { cursor: one.cursor, file: one.file };
    }
    return all;
  };
  const ids = (all: readonly Scanned<Row>[]) => all.flatMap(({ rows }) => rows.map(({ id }) => Number(id)));

  describe("over a table of some windows", () => {
    // 12 rows to a block: 2,500 blocks, in windows of 1,024 when none is quick.
    beforeEach(async () => {
      await source.admin
        .unsafe(
          `
        drop table if exists big;
        create table big (id bigint primary key, filler text, n integer not null default 0);
        insert into big select n, repeat('x', 600) from generate_series(1, 30000) n`,
        )
        .simple();
      await source.admin.unsafe("vacuum analyze big");
    });

    it("ends each page in time, and goes on where the last one ended until the table does", async () => {
      const scan = await changes("update big set n = 1 where id in (1, 2, 15000, 29999, 30000)");
      const all = await pages(scan, () => ({ clock: slow() }));
      expect(all.map(({ rows }) => rows.length)).toEqual([0, 0, 5]);
      expect(all.map(({ cursor }) => cursor)).toEqual([1, 2, 3].map((n) => String((n * 1_024 - 1) * 65_536 + 65_535)));
      expect(new Set(all.map(({ file }) => file)).size).toBe(1);
      expect(ids(all)).toEqual([1, 2, 15_000, 29_999, 30_000]);
      expect(await pages(scan, () => ({}))).toMatchObject([{ done: true, rows: all[2]?.rows }]);
    });

    it("ends a page when it is full, and has every key once, ascending", async () => {
      const scan = await changes("update big set n = 1 where id % 1000 = 0");
      const all = await pages(scan, () => ({ rows: 7 }));
      expect(all.map(({ rows }) => rows.length)).toEqual([7, 7, 7, 7, 2]);
      expect(ids(all).sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, n) => (n + 1) * 1_000));
      for (const one of all) expect(ids([one])).toEqual(ids([one]).sort((a, b) => a - b));
    });

    it.each(["vacuum full big", "cluster big using big_pkey"])(
      "begins anew after %s, which moves rows to where it has been",
      async (rewrite) => {
        await source.admin.unsafe("delete from big where id <= 27000");
        const scan = await changes("update big set n = 1 where id in (27001, 30000)");
        const all = await pages(
          scan,
          () => ({ clock: slow() }),
          (done) => (done === 1 ? source.admin.unsafe(rewrite) : Promise.resolve()),
        );
        expect(all.length).toBe(2);
        expect(all[1]?.file).not.toBe(all[0]?.file);
        expect(ids(all)).toEqual([27_001, 30_000]);
      },
    );

    it("is not held up by a table that was emptied", async () => {
      const scan = await changes("update big set n = 1");
      const all = await pages(
        scan,
        () => ({ clock: slow() }),
        (done) => (done === 1 ? source.admin.unsafe("truncate big") : Promise.resolve()),
      );
      expect(all.at(-1)).toMatchObject({ done: true, rows: [] });
    });

    it("leaves rows that others move behind it while it runs to the next execution", async () => {
      await source.admin.unsafe("delete from big where id <= 12000");
      await source.admin.unsafe("vacuum big");
      const scan = await changes("update big set n = 1 where id in (29999, 30000) and false");
      const all = await pages(
        scan,
        () => ({ clock: slow() }),
        // Into the free space at the beginning of the table.
        (done) =>
          done === 1 ? source.admin.unsafe("update big set n = 2, filler = filler || 'y' where id = 30000") : Promise.resolve(),
      );
      expect(ids(all)).toEqual([]);
      const next: Scan = { ...scan, from: scan.next };
      expect(ids(await pages(next, () => ({})))).toEqual([30_000]);
    });

    it("reads ranges of the table and nothing else", async () => {
      const scan = await changes("update big set n = 1 where id = 5");
      const { text, parameters } = windowQuery(scan, "file", "65536", 100, 10);
      const plan = await reader.unsafe(`explain (costs off) ${text}`, [...parameters]);
      expect(JSON.stringify(plan)).toMatch(/Tid Range Scan on big w/);
      const byKey = windowQuery(scan, "keys", "100", 100, 10);
      const keyPlan = JSON.stringify(await reader.unsafe(`explain (costs off) ${byKey.text}`, [...byKey.parameters]));
      expect(keyPlan.match(/Index (Only )?Scan using big_pkey/g)).toHaveLength(2);
    });

    it("finds each changed row, whatever the size of pages and windows", async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(fc.integer({ min: 1, max: 30_000 }), { maxLength: 40 }),
          fc.integer({ min: 1, max: 20 }),
          fc.boolean(),
          async (changed, rows, quick) => {
            const scan = await changes(`update big set n = n + 1 where id in (${[0, ...changed].join(", ")})`);
            const all = await pages(scan, () => ({ rows, clock: quick ? () => 0 : slow() }));
            expect(ids(all).sort((a, b) => a - b)).toEqual(changed.sort((a, b) => a - b));
          },
        ),
        { numRuns: 25 },
      );
    });
  });

  it("is over at once where there is nothing", async () => {
    await source.admin.unsafe("create table empty (id integer primary key)");
    expect(await pages(await changes("select 1", "empty"), () => ({ clock: slow() }))).toMatchObject([{ done: true, rows: [] }]);
  });

  it.each([
    [
      "partitions",
      "create table %1 (id integer primary key) partition by range (id); create table %1_a partition of %1 for values from (minvalue) to (0); create table %1_b partition of %1 for values from (0) to (maxvalue)",
    ],
    ["children", "create table %1 (id integer primary key); create table %1_a (primary key (id)) inherits (%1)"],
  ])("goes through a table with %s by its keys, negative ones too", async (kind, create) => {
    await source.admin.unsafe(create.replaceAll("%1", kind)).simple();
    await source.admin.unsafe(`insert into ${kind} select n from generate_series(-2, 20001) n`);
    if (kind === "children") await source.admin.unsafe("insert into children_a select n from generate_series(30000, 30010) n");
    const wanted = kind === "children" ? [-2, 7, 20_001, 30_005] : [-2, 7, 20_001];
    const scan = await changes(`update ${kind} set id = id where id in (${wanted.join(", ")})`, kind);
    const all = await pages(scan, () => ({ clock: slow() }));
    expect(all.length).toBe(3);
    expect(all.map(({ file }) => file)).toEqual(["0", "0", "0"]);
    expect(ids(all)).toEqual(wanted);
  });

  it("begins anew when its place is of the other way", async () => {
    await source.admin.unsafe("create table ways (id integer primary key)");
    const scan = await changes("insert into ways values (1)", "ways");
    expect(await page(scan, { cursor: "-5", file: "0" })).toMatchObject({ rows: [{ id: "1" }], done: true });
    await source.admin.unsafe("create table ways_child () inherits (ways)");
    expect(await page(scan, { cursor: "6553600", file: "12345" })).toMatchObject({ rows: [{ id: "1" }], file: "0", done: true });
  });
});

describe("windows", () => {
  it("double while a quarter of the time would do", () => {
    expect(nextWindow(1_024, 1_249, 5_000)).toBe(2_048);
    expect(nextWindow(1_024, 1_250, 5_000)).toBe(1_024);
  });
});

describe("a large table", () => {
  it("gets its chains without a look; an idle one costs a page and moves the horizon", async () => {
    await using test = await createPipeline({ env: { ISTHMUS_LOOK_MB: "0" } });
    await test.seed.office(1);
    await test.sync({ entities: ["offices"] });
    const horizon = async () =>
      BigInt((await test.target.admin<{ at: string }[]>`select horizon::text as at from public.sync_checkpoints`)[0]?.at ?? 0);
    const before = await horizon();
    await test.source.admin`create table elsewhere ()`;
    const idle = await test.sync({ entities: ["offices"] });
    expect(idle.chains).toMatchObject([{ entity: "offices", capture: "xmin" }]);
    expect(await test.sums(idle.execution)).toMatchObject({ read: 0, pages: 1 });
    expect(await horizon()).toBeGreaterThan(before);
  });

  it("keeps its place and its file between pages, for records and for joined rows alike", async () => {
    await using test = await createPipeline({ env: { ISTHMUS_PAGE_SIZE: "2", ISTHMUS_JOIN_ROWS: "2" } });
    await test.seed.doctor(1);
    for (let id = 1; id <= 5; id++) {
      await test.seed.patient(id, { userId: 100 + id, doctorId: 1, suffix: "A" });
      await test.seed.instruction(id, id);
    }
    await test.sync();
    await test.source.admin`update public.dispatch_patient set suffix = 'B'`;
    const { execution } = await test.start();
    let rewritten = 0;
    for (let message = test.queue.shift(); message; message = test.queue.shift()) {
      const [chain] = await test.target.admin<{ page: number; capture: string }[]>`
        select page, capture from public.sync_chains where id = ${message.chain}`;
      if (chain?.page === 1 && ["xmin", "joins"].includes(chain.capture)) {
        rewritten++;
        await test.source.admin.unsafe("vacuum full public.dispatch_patient");
      }
      await test.runOne(message);
    }
    expect(rewritten).toBeGreaterThan(1);
    expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
    const orders = await test.target.admin<{ order_number: string }[]>`select order_number from public.orders order by 1`;
    expect(orders.map(({ order_number }) => order_number)).toEqual(["B-1", "B-2", "B-3", "B-4", "B-5"]);
  });
});
