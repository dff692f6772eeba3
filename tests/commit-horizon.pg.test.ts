import postgres, { type ReservedSql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { IsthmusError } from "../shared/errors.ts";
import { startExecution } from "../shared/plan/plan.ts";
import { changedParameters, changedSql, scannedParameter, scannedSql, XID_HALF, XID_MODULUS } from "../shared/sql/xid.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

describe("everything committed before an execution began is found, however late it committed", () => {
  let test: InProcess;
  let session: ReservedSql;

  beforeAll(async () => {
    test = await createInProcess();
    session = await test.source.admin.reserve();
  });
  afterAll(async () => {
    session.release();
    await test[Symbol.asyncDispose]();
  });

  const offices = { entities: ["offices"] };
  const names = async () =>
    (await test.target.admin<{ name: string }[]>`select name from public.offices order by legacy_office_id`).map(
      (row) => row.name,
    );
  const office = (id: number, name: string) =>
    `insert into public.dispatch_office (id, name, valid, emails) values (${id}, '${name}', true, true)`;
  const elsewhere = (statement: string) => test.source.admin.unsafe(statement);

  it("a first run reads what is committed", async () => {
    await elsewhere(office(1, "one"));
    await test.sync(offices);
    expect(await names()).toEqual(["one"]);
  });

  it("a transaction open across syncs is found by the first that begins after its commit", async () => {
    await session.unsafe("begin");
    await session.unsafe(office(2, "two, late"));
    await elsewhere(office(3, "three"));
    await test.sync(offices);
    expect(await names()).toEqual(["one", "three"]);
    await elsewhere(office(4, "four"));
    await test.sync(offices);
    await test.sync(offices);
    await session.unsafe("commit");
    await test.sync(offices);
    expect(await names()).toEqual(["one", "two, late", "three", "four"]);
  });

  it("so are the rows of its savepoints, whose transaction ids no snapshot lists, and not those it rolled back", async () => {
    await session.unsafe("begin");
    await session.unsafe("savepoint a");
    await session.unsafe(office(5, "five, in a savepoint"));
    await session.unsafe("savepoint b");
    await session.unsafe(office(6, "six, rolled back"));
    await session.unsafe("rollback to savepoint b");
    await session.unsafe("update public.dispatch_office set name = 'one, changed in a savepoint' where id = 1");
    await elsewhere(office(7, "seven"));
    await test.sync(offices);
    await elsewhere(office(8, "eight"));
    await test.sync(offices);
    await session.unsafe("commit");
    await test.sync(offices);
    expect(await names()).toEqual([
      "one, changed in a savepoint",
      "two, late",
      "three",
      "four",
      "five, in a savepoint",
      "seven",
      "eight",
    ]);
  });

  it("so is a prepared transaction, even from a session that is gone", async () => {
    await session.unsafe("begin");
    await session.unsafe("update public.dispatch_office set name = 'three, prepared' where id = 3");
    await session.unsafe(`prepare transaction 'isthmus ${test.source.name}'`);
    await elsewhere(office(9, "nine"));
    await test.sync(offices);
    await test.sync(offices);
    expect(await names()).toContain("three");
    await elsewhere(`commit prepared 'isthmus ${test.source.name}'`);
    await test.sync(offices);
    expect(await names()).toContain("three, prepared");
  });

  it("freezing changes nothing and hides nothing", async () => {
    await elsewhere("update public.dispatch_office set name = 'four, frozen at once' where id = 4");
    await elsewhere("vacuum (freeze) public.dispatch_office");
    const { execution } = await test.sync(offices);
    const [read] = await test.target.admin<
      { read: number }[]
    >`select sum(read)::integer as read from public.sync_page_log where execution_id = ${execution}`;
    expect(read?.read).toBe(1);
    expect(await names()).toContain("four, frozen at once");
    await elsewhere("vacuum (freeze) public.dispatch_office");
    expect((await test.sync(offices)).chains).toEqual([]);
  });

  it("the horizon moves only in the commit that closes the entity's last chain", async () => {
    const horizon = async () =>
      (
        await test.target.admin<
          { at: string }[]
        >`select horizon::text as at from public.sync_checkpoints where entity_type = 'offices'`
      )[0]?.at;
    await elsewhere(office(10, "ten"));
    const before = await horizon();
    await test.start(offices);
    expect(await horizon()).toBe(before);
    await test.drain();
    expect(BigInt((await horizon()) ?? 0)).toBeGreaterThan(BigInt(before ?? 0));
  });

  it("another server or timeline forces a full pass", async () => {
    await test.target.admin`update public.sync_checkpoints set timeline = timeline + 1`;
    expect((await test.sync(offices)).chains).toMatchObject([{ entity: "offices", capture: "full" }]);
    await test.target.admin`update public.sync_checkpoints set system_identifier = '1'`;
    expect((await test.sync(offices)).chains).toMatchObject([{ entity: "offices", capture: "full" }]);
    await test.target.admin`update public.sync_checkpoints set definition_hash = 'older'`;
    expect((await test.sync(offices)).chains).toMatchObject([{ entity: "offices", capture: "full" }]);
    expect((await test.sync(offices)).chains).toEqual([]);
  });

  it("a replica that lags behind the last horizon is waited for, and nothing is begun", async () => {
    await test.target.admin`update public.sync_checkpoints set horizon = (horizon::text::bigint + 100000)::text::xid8`;
    const before = (await test.target.admin`select from public.sync_executions`).length;
    const { source } = test.context;
    const unsafe = async (...args: Parameters<typeof source.unsafe>) =>
      (await source.unsafe(...args)).map((row: Record<string, unknown>) =>
        "in_recovery" in row ? { ...row, in_recovery: true } : row,
      );
    const replica = { ...test.context, source: { unsafe } as unknown as typeof source };
    const refusal = await startExecution(replica, { ...offices, capture: "auto", triggeredBy: "http:test" }).catch(
      (error: unknown) => error as IsthmusError,
    );
    expect(refusal).toBeInstanceOf(IsthmusError);
    expect((refusal as IsthmusError).code).toBe("SOURCE_BEHIND");
    expect((await test.target.admin`select from public.sync_executions`).length).toBe(before);
  });
});

describe("a record that never rests", () => {
  const offices = { entities: ["offices"] };

  it("lands although it is written again between every plan and its page", async () => {
    await using test = await createInProcess();
    await test.source.admin`insert into public.dispatch_office (id, name, valid, emails) values (1, 'new', true, true)`;
    await test.sync(offices);
    for (const round of [1, 2, 3]) {
      const write = (when: string) =>
        test.source.admin`update public.dispatch_office set name = ${`${when} ${round}`} where id = 1`;
      await write("before");
      await test.start(offices);
      await write("after");
      await test.drain();
      expect((await test.target.admin`select name from public.offices`)[0]).toEqual({ name: `after ${round}` });
    }
  });
});

describe("rows joined to a record change it", () => {
  it("moves a patient's orders with the patient, and makes a user a doctor by a group", async () => {
    await using test = await createInProcess({ scale: 0.01 });
    await test.sync();
    const [patient] = await test.source.admin<{ id: number; doctor: number }[]>`
      select p.id, (select min(user_id) from public.dispatch_doctorsetting where user_id <> p.doctor_id) as doctor
        from public.dispatch_patient p join public.dispatch_instruction i on i.patient_id = p.id
       where p.doctor_id is not null group by p.id order by count(*) desc limit 1`;
    if (!patient) throw new Error("no patient with orders");
    await test.source.admin`update public.dispatch_patient set doctor_id = ${patient.doctor} where id = ${patient.id}`;
    await test.source
      .admin`insert into public.auth_user_groups select 900000, u.id, 2 from public.auth_user u where not exists (select from public.auth_user_groups g where g.user_id = u.id and g.group_id in (1, 2)) order by u.id limit 1`;
    const [added] = await test.source.admin<
      { user: number }[]
    >`select user_id as user from public.auth_user_groups where id = 900000`;
    await test.sync();
    const doctors = await test.target.admin<{ doctor: number }[]>`
      select distinct d.legacy_user_id::integer as doctor from public.orders o join public.patients p on p.id = o.patient_id join public.doctors d on d.id = o.doctor_id
       where p.legacy_patient_id = ${patient.id}`;
    expect([...doctors]).toEqual([{ doctor: patient.doctor }]);
    expect((await test.target.admin`select from public.doctors where legacy_user_id = ${added?.user ?? 0}`).length).toBe(1);
  });
});

describe("the comparison of transaction ids around a wraparound", () => {
  it("has no end for scans, whatever the present of the server is", async () => {
    await using test = await createInProcess();
    const statement = `select v.id, ${scannedSql("(v.raw::text::xid)", 1)} as scanned from unnest($2::text[], $3::text[]) v (id, raw)`;
    const [now] = await test.source.admin<{ at: string }[]>`select pg_snapshot_xmax(pg_current_snapshot())::text as at`;
    // Far enough ahead for ids before 0: the server itself sees their lower 32 bits.
    const present = BigInt(now?.at ?? 0) + XID_MODULUS;
    for (const ago of [0n, 1n, 5n, 1_000_000n, XID_HALF - 1n, XID_HALF, XID_HALF + 5n]) {
      const from = present - ago;
      const ids = [from - 1_000n, from - 1n, from, from + 1n, from + ago / 2n, present - 1n, present].filter(
        (id) => id % XID_MODULUS > 2n && id <= present && id > present - XID_HALF,
      );
      const rows = await test.source.admin.unsafe<{ id: string; scanned: boolean }[]>(statement, [
        scannedParameter(from.toString()),
        ids.map(String),
        ids.map((id) => (id % XID_MODULUS).toString()),
      ]);
      for (const { id, scanned } of rows) {
        expect(scanned, `${id} since ${from} at ${present}`).toBe(ago >= XID_HALF || BigInt(id) >= from);
      }
    }
  });

  it("agrees with the 64-bit ids behind the 32-bit ones, in PostgreSQL itself", async () => {
    await using test = await createInProcess();
    const MODULUS = 4_294_967_296n;
    const froms = [5_000n, MODULUS - 10n, MODULUS, MODULUS + 3n, 3n * MODULUS - 1_000n];
    for (const from of froms) {
      for (const span of [0n, 1n, 20n, 2_000n, 2_147_483_647n]) {
        const to = from + span;
        // 64-bit positions whose rows may still carry their id: within half the space below `to`.
        const written = [from - 1_000_000n, from - 1n, from, from + span / 2n, to - 1n, to, to + 7n].filter(
          (id) => id > 2n && id > to - 2_147_483_648n,
        );
        const rows = await test.source.admin.unsafe<{ id: string; changed: boolean }[]>(
          `select v.id, ${changedSql("(v.raw::text::xid)", 1, 2)} as changed from unnest($3::text[], $4::text[]) v (id, raw)`,
          [
            ...changedParameters(from.toString(), to.toString()),
            written.map(String),
            written.map((id) => (id % MODULUS).toString()),
          ],
        );
        for (const { id, changed } of rows)
          expect(changed, `${id} in [${from}, ${to})`).toBe(BigInt(id) >= from && BigInt(id) < to);
      }
    }
  });

  it("finds changes on a server whose ids have really wrapped", async () => {
    const { wrappedServer } = await import("./support/wrapped-server.ts");
    await using server = await wrappedServer();
    const sql = postgres(server.url, { max: 1, onnotice: () => undefined });
    try {
      await sql`create table t (id integer primary key)`;
      await sql`insert into t values (1)`;
      const [before] = await sql<{ at: string }[]>`select pg_snapshot_xmin(pg_current_snapshot())::text as at`;
      for (let id = 2; id <= 60; id++) await sql`insert into t values (${id})`;
      const [after] = await sql<
        { at: string; epoch: string }[]
      >`select pg_snapshot_xmax(s)::text as at, (pg_snapshot_xmax(s)::text::bigint >> 32)::text as epoch from pg_current_snapshot() s`;
      expect(after?.epoch).toBe("1");
      expect(BigInt(before?.at ?? 0) >> 32n).toBe(0n);
      const span = changedParameters(before?.at ?? "0", after?.at ?? "0");
      for (const [condition, parameters] of [
        [changedSql("xmin", 1, 2), span],
        [scannedSql("xmin", 1), span.slice(0, 1)],
      ] as const) {
        const found = await sql.unsafe<{ id: number }[]>(`select id from t where ${condition} order by id`, [...parameters]);
        expect(found.map((row) => row.id)).toEqual(Array.from({ length: 59 }, (_, index) => index + 2));
      }
    } finally {
      await sql.end();
    }
  });
});
