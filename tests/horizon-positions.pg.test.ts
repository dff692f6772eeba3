import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { startExecution } from "../shared/plan/plan.ts";
import { changedParameters, changedSql, spanIsComparable, XID_HALF, XID_MODULUS } from "../shared/sql/xid.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** 64-bit transaction ids, most of them near a multiple of 2^32, where their 32-bit halves wrap. */
const position = fc
  .tuple(fc.bigInt(1n, 5n), fc.oneof(fc.bigInt(-2_000n, 2_000n), fc.bigInt(-XID_HALF, XID_HALF)))
  .map(([epoch, offset]) => epoch * XID_MODULUS + offset);
const distance = fc.oneof(
  fc.bigInt(0n, 5_000n),
  fc.bigInt(0n, XID_HALF - 1n),
  fc.constantFrom(0n, 1n, XID_HALF - 1n, XID_HALF - 2n),
);

describe("the 32-bit comparison of PostgreSQL against a model of 64 bits", () => {
  it("finds every id in the span, and no id of the past that a row can still carry unfrozen", async () => {
    await using test = await createPipeline();
    const statement = `select v.id, ${changedSql("(v.raw::text::xid)", 1, 2)} as changed from unnest($3::text[], $4::text[]) v (id, raw)`;
    await fc.assert(
      fc.asyncProperty(
        position,
        distance,
        fc.array(fc.bigInt(-XID_HALF, XID_HALF), { maxLength: 20 }),
        async (from, span, offsets) => {
          const to = from + span;
          expect(spanIsComparable(from.toString(), to.toString())).toBe(true);
          // A row's id is less than 2^31 older than the newest one: PostgreSQL freezes what is older.
          const ids = [from - 1n, from, from + span / 2n, to - 1n, to, ...offsets.map((offset) => from + offset)].filter(
            (id) => id > 2n && id % XID_MODULUS > 2n && id > to - XID_HALF && id < from + XID_MODULUS,
          );
          const rows = await test.source.admin.unsafe<{ id: string; changed: boolean }[]>(statement, [
            ...changedParameters(from.toString(), to.toString()),
            ids.map(String),
            ids.map((id) => (id % XID_MODULUS).toString()),
          ]);
          expect(rows.length).toBe(ids.length);
          for (const { id, changed } of rows)
            expect(changed, `${id} in [${from}, ${to})`).toBe(BigInt(id) >= from && BigInt(id) < to);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("is trusted for fewer than 2^31 transactions, and never backwards", () => {
    fc.assert(
      fc.property(position, fc.bigInt(-XID_HALF * 3n, XID_HALF * 3n), (from, span) => {
        fc.pre(from + span > 0n);
        expect(spanIsComparable(from.toString(), (from + span).toString())).toBe(span >= 0n && span < XID_HALF);
      }),
    );
    expect(spanIsComparable("1000", (1000n + XID_HALF).toString())).toBe(false);
    expect(spanIsComparable("1000", (999n + XID_HALF).toString())).toBe(true);
  });
});

describe("a row that is older than half of all transaction ids", () => {
  it("is found by a full pass, because the position of the last execution no longer tells what is new", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync({ entities: ["offices"] });
    // The source cannot be made to consume 2^31 ids here, so the position that it reports is moved ahead.
    const start = (ahead: bigint) =>
      startExecution(
        { ...test.context, source: shifted(test, ahead) },
        { entities: ["offices"], capture: "auto", triggeredBy: "http:test" },
      );
    expect((await start(XID_HALF - 100_000n)).chains).toEqual([]);
    await test.drain();
    expect((await start(2n * XID_HALF)).chains).toMatchObject([{ entity: "offices", capture: "full" }]);
  });
});

/** The source's position, moved ahead; every other statement as it is. */
function shifted(test: Pipeline, by: bigint): Pipeline["context"]["source"] {
  const { source } = test.context;
  const unsafe = async (...args: Parameters<typeof source.unsafe>) => {
    const rows = await source.unsafe(...args);
    if (!args[0].includes("pg_snapshot_xmin(s)")) return rows;
    const moved = (bound: unknown) => (BigInt(String(bound)) + by).toString();
    return rows.map((row: Record<string, unknown>) => ({ ...row, xmin: moved(row["xmin"]), xmax: moved(row["xmax"]) }));
  };
  return { unsafe } as unknown as Pipeline["context"]["source"];
}

describe("changes that leave no trace in a timestamp", () => {
  it("a bulk update that bypasses updated_at, by many subtransactions more than a snapshot lists, is found whole", async () => {
    await using test = await createPipeline();
    await test.seed.doctor(1);
    for (let id = 1; id <= 3; id++) await test.seed.patient(id, { userId: 100 + id, doctorId: 1 });
    await test.source.admin`
      insert into public.dispatch_instruction (id, patient_id, status, deleted, updated_at, suffix, cbct, price)
      select id, 1, 1, false, '2001-01-01', '', false, id from generate_series(1, 100) id`;
    await test.sync();
    const session = await test.source.admin.reserve();
    try {
      // 80 savepoints: beyond the 64 that a backend lists, a snapshot knows nothing of them.
      await session.unsafe("begin");
      for (let id = 1; id <= 80; id++) {
        await session.unsafe(`savepoint s${id}`);
        await session.unsafe(`update public.dispatch_instruction set price = price + 1000 where id = ${id}`);
        if (id % 10 === 0) await session.unsafe(`rollback to savepoint s${id}`);
      }
      await test.seed.office(1);
      await test.sync();
      await test.seed.office(2);
      await test.sync();
      await session.unsafe("commit");
    } finally {
      session.release();
    }
    await test.sync();
    const [row] = await test.target.admin<{ moved: number; kept: number; stamp: string }[]>`
      select count(*) filter (where amount = legacy_instruction_id + 1000)::integer as moved,
             count(*) filter (where amount = legacy_instruction_id)::integer as kept,
             max(source_updated_at)::text as stamp from public.orders`;
    expect(row).toEqual({ moved: 72, kept: 28, stamp: "2001-01-01 00:00:00+00" });
  });

  it("a rolled back transaction, prepared or not, changes nothing and holds nothing up", async () => {
    await using test = await createPipeline();
    await test.seed.office(1, { name: "as it was" });
    await test.sync({ entities: ["offices"] });
    const session = await test.source.admin.reserve();
    const id = `isthmus ${test.source.name}`;
    try {
      await session.unsafe("begin");
      await session.unsafe("update public.dispatch_office set name = 'never' where id = 1");
      await session.unsafe(`prepare transaction '${id}'`);
      await test.seed.office(2);
      await test.sync({ entities: ["offices"] });
      await test.source.admin.unsafe(`rollback prepared '${id}'`);
      await session.unsafe("begin");
      await session.unsafe("delete from public.dispatch_office where id = 2");
      await test.seed.office(3);
      await test.sync({ entities: ["offices"] });
      await session.unsafe("rollback");
    } finally {
      session.release();
    }
    await test.sync({ entities: ["offices"] });
    const rows = await test.target.admin<{ name: string }[]>`select name from public.offices order by legacy_office_id`;
    expect(rows.map((row) => row.name)).toEqual(["as it was", "office 2", "office 3"]);
    // With nothing in flight any more, the horizon has passed it all.
    expect((await test.sync({ entities: ["offices"] })).chains).toEqual([]);
  });
});

describe("a patient who moves", () => {
  it("takes the orders along, though no order's row was written; a user who joins a group becomes a doctor", async () => {
    await using test = await createPipeline();
    await test.seed.group(3, "Technician");
    await test.seed.group(2, "Doctor");
    await test.seed.doctor(1);
    await test.seed.doctor(2);
    await test.seed.user(3);
    await test.seed.membership(1, 3, 3);
    await test.seed.office(1);
    await test.seed.office(2);
    await test.seed.patient(1, { userId: 100, doctorId: 1, officeId: 1, suffix: "A" });
    await test.seed.instruction(1, 1);
    await test.sync();
    await test.source.admin`update public.dispatch_patient set doctor_id = 2, office_id = 2, suffix = 'B' where id = 1`;
    const { chains } = await test.sync();
    expect(chains.find((chain) => chain.entity === "orders")).toMatchObject({ capture: "joins" });
    const [order] = await test.target.admin`
      select d.legacy_user_id::integer as doctor, f.legacy_office_id::integer as office, o.order_number
        from public.orders o join public.doctors d on d.id = o.doctor_id join public.offices f on f.id = o.office_id`;
    expect(order).toEqual({ doctor: 2, office: 2, order_number: "B-1" });

    const type = async () =>
      (await test.target.admin<{ type: string }[]>`select profile_type as type from public.profiles where legacy_user_id = 3`)[0]
        ?.type;
    expect(await type()).toBe("technician");
    await test.source.admin`update public.auth_user_groups set group_id = 2 where user_id = 3`;
    await test.sync();
    expect(await type()).toBe("doctor");
    expect((await test.target.admin`select from public.doctors where legacy_user_id = 3`).length).toBe(1);
  });

  it("and a group that gets another name changes the profiles of its members", async () => {
    await using test = await createPipeline();
    await test.seed.group(3, "Technician");
    await test.seed.user(3);
    await test.seed.membership(1, 3, 3);
    await test.sync();
    await test.source.admin`update public.auth_group set name = 'Sales' where id = 3`;
    await test.sync();
    const [row] = await test.target.admin`select profile_type from public.profiles where legacy_user_id = 3`;
    expect(row).toEqual({ profile_type: "sales_person" });
  });
});
