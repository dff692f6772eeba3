import type { ReservedSql } from "postgres";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { operations as operationsEntity } from "../clinic/entities/operations.ts";
import { executionState } from "../shared/target/execution-state.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const { payment_id: _, ...fields } = operationsEntity.fields;
const operations: Entity = { ...operationsEntity, fields, rules: [], dependsOn: [] };

describe("a transaction that is open on the source over many runs", () => {
  let test: Pipeline;
  let session: ReservedSql;

  beforeEach(async () => {
    test = await createPipeline({ entities: [operations], env: { ISTHMUS_PAGE_SIZE: "70", ISTHMUS_PAGE_SIZE_MAX: "70" } });
    await test.source
      .admin`insert into public.dispatch_operation (id, type, price) select id, 1, 1 from generate_series(1, 500) id`;
    session = await test.source.admin.reserve();
    await session`set application_name = 'night batch'`;
  });
  afterEach(async () => {
    session.release();
    await test[Symbol.asyncDispose]();
  });

  const run = async () => {
    const begun = await test.sync();
    const [row] = await test.target.admin<{ read: number }[]>`
      select coalesce(sum(read), 0)::integer as read from public.sync_page_log where execution_id = ${begun.execution}`;
    return { ...begun, read: row?.read };
  };
  const open = async () => {
    await session`begin`;
    await session`insert into public.dispatch_category (id, name) values (1, 'held')`;
  };
  const change = (from: number, to: number, more = "") =>
    test.source.admin.unsafe(`update public.dispatch_operation set price = price + 1 ${more} where id between ${from} and ${to}`);
  const prices = async () => {
    const there = await test.source.admin<{ id: number; price: number }[]>`
      select id, price::float8 as price from public.dispatch_operation order by id`;
    const here = await test.target.admin<{ id: number; price: number }[]>`
      select legacy_operation_id::integer as id, amount::float8 as price from public.operations order by 1`;
    return { there: [...there], here: [...here] };
  };
  const expectSame = async () => {
    const { there, here } = await prices();
    expect(here).toEqual(there);
  };
  const alerts = async () => [
    ...(await test.target.admin<{ open: boolean; details: Record<string, unknown>; message: string }[]>`
      select closed_at is null as open, details, message from public.sync_alerts where kind = 'horizon_held' order by first_seen_at`),
  ];

  it("has each run read what has changed since the last, a run without changes nothing, and its own rows when it commits", async () => {
    await open();
    await run();
    const reads: (number | undefined)[] = [];
    for (let first = 1; first <= 500; first += 100) {
      await change(first, first + 99);
      reads.push((await run()).read);
    }
    reads.push((await run()).read);
    expect(reads).toEqual([100, 100, 100, 100, 100, 0]);
    await expectSame();

    // Its id lies before everything that was read; so does that of a savepoint, which no snapshot lists.
    await session`update public.dispatch_operation set price = 0 where id = 7`;
    await session`savepoint a`;
    await session`update public.dispatch_operation set price = 0 where id in (8, 499)`;
    await change(20, 20);
    expect((await run()).read).toBe(1);
    await session`commit`;
    expect((await run()).read).toBe(3);
    await expectSame();
    expect((await run()).chains).toEqual([]);
  });

  it("leaves what is in the queue there until the source changes it, and finds what is written twice or comes back", async () => {
    await open();
    await run();
    await change(1, 5, ", type = 99");
    expect((await run()).read).toBe(5);
    expect((await test.live("operations")).map(({ id }) => id)).toEqual([1, 2, 3, 4, 5]);
    expect((await run()).read).toBe(0);
    await change(1, 2, ", type = 1");
    await change(3, 3);
    await change(3, 3);
    expect((await run()).read).toBe(3);
    expect((await test.live("operations")).map(({ id }) => id)).toEqual([3, 4, 5]);
    await change(3, 5, ", type = 1");
    await test.source.admin`insert into public.dispatch_operation (id, type, price) values (501, 1, 1)`;
    expect((await run()).read).toBe(4);
    await test.source.admin`delete from public.dispatch_operation where id = 501`;
    await test.source.admin`insert into public.dispatch_operation (id, type, price) values (501, 1, 2)`;
    expect((await run()).read).toBe(1);
    await session`rollback`;
    await expectSame();
  });

  it("is named in the answer, an alert and the state, which closes when the horizon moves", async () => {
    expect((await run()).warnings).toEqual([]);
    await open();
    const [{ pid } = { pid: 0 }] = await session<{ pid: number }[]>`select pg_backend_pid() as pid`;
    await change(1, 1);
    // The horizon has come to the transaction with this run.
    await run();
    await change(2, 2);
    const held = await run();
    const who = `process ${pid} (application night batch, database ${test.source.name}, user supabase_admin)`;
    expect(held.warnings).toMatchObject([{ code: "horizon_held", severity: "warn", entity: null }]);
    expect(held.warnings[0]?.message).toContain(who);
    expect(held.warnings[0]?.remedy).toContain(`pg_terminate_backend(${pid})`);
    expect(held.warnings[0]?.remedy).toContain("grant pg_read_all_stats");
    expect(await alerts()).toMatchObject([{ open: true, details: { kind: "session", id: String(pid), seconds: null } }]);
    const state = (await executionState(test.context.target, held.execution)) as { notices: string[] };
    expect(state.notices[0]).toContain(who);

    // Seen by a member, how long it has been open is told; a plan tells as well, and raises no alert of its own.
    await test.source.admin`grant pg_read_all_stats to isthmus_reader`;
    try {
      await change(3, 3);
      const plan = await test.sync({ dryRun: true });
      expect(plan.warnings[0]?.message).toContain("user supabase_admin, for 0 minutes)");
      expect(plan.warnings[0]?.remedy).not.toContain("grant");
    } finally {
      await test.source.admin`revoke pg_read_all_stats from isthmus_reader`;
    }
    await session`commit`;
    const free = await run();
    expect(free.warnings).toEqual([]);
    expect(await alerts()).toMatchObject([{ open: false }]);
    expect(await executionState(test.context.target, free.execution)).toMatchObject({ notices: [] });
  });

  it("is named by its gid when it is prepared", async () => {
    await open();
    const gid = `held ${test.source.name}`;
    await session.unsafe(`prepare transaction '${gid}'`);
    await run();
    await change(1, 1);
    const [warning] = (await run()).warnings;
    expect(warning?.message).toContain(
      `the prepared transaction ${gid} (database ${test.source.name}, user supabase_admin, for 0 minutes)`,
    );
    expect(warning?.remedy).toContain(`rollback prepared '${gid}'`);
    await session.unsafe(`rollback prepared '${gid}'`);
    expect((await run()).warnings).toEqual([]);
  });
});
