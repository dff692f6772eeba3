import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { addressesOf } from "../shared/db/connect.ts";
import type { IsthmusError } from "../shared/errors.ts";
import { claimPage } from "../shared/target/claims.ts";
import { commitPage, encodePage } from "../shared/target/pages.ts";
import type { PageMessage } from "../shared/target/sending.ts";
import { endState } from "./support/digest.ts";
import { Gate, gated } from "./support/gate.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

const SCALE = 0.01;
const env = { ISTHMUS_PAGE_SIZE: "40", ISTHMUS_PAGE_SIZE_MAX: "40" };

describe("duplicate, late and reordered deliveries change nothing", () => {
  let undisturbed: Record<string, string[]>;
  let pages: number;

  beforeAll(async () => {
    await using test = await createInProcess({ scale: SCALE, env });
    await test.sync();
    undisturbed = await endState(test.target.admin);
    pages = (await test.target.admin`select from public.sync_page_log`).length;
    expect(pages).toBeGreaterThan(15);
  });

  async function expectSame(test: InProcess, execution: string): Promise<void> {
    expect((await test.target.admin`select status from public.sync_executions where id = ${execution}`)[0]).toEqual({
      status: "succeeded",
    });
    expect(await endState(test.target.admin)).toEqual(undisturbed);
    expect((await test.target.admin`select from public.sync_page_log`).length).toBe(pages);
  }

  it("when every message comes twice at the same time, and all earlier ones again after each", async () => {
    await using test = await createInProcess({ scale: SCALE, env });
    const { execution } = await test.start();
    const history: PageMessage[] = [];
    for (let message = test.queue.shift(); message; message = test.queue.shift()) {
      const outcomes = await Promise.all([test.run(message), test.run(message)]);
      expect(
        outcomes.filter((outcome) => ["committed", "fanned_out", "validated"].includes(outcome.outcome)).length,
      ).toBeLessThanOrEqual(1);
      history.push(message);
      // Later a few of the old ones, at the end all of them.
      for (const old of history.slice(-3)) expect(["stale", "closed", "leased"]).toContain((await test.run(old)).outcome);
    }
    for (const old of history) expect((await test.run(old)).outcome).toBe("closed");
    await expectSame(test, execution);
  });

  it("when messages are taken in any order", async () => {
    await using test = await createInProcess({ scale: SCALE, env });
    const { execution } = await test.start();
    for (let turn = 0; test.queue.length > 0; turn++) {
      const [message] = test.queue.splice((turn * 7) % test.queue.length, 1);
      if (message) await test.run(message);
    }
    await expectSame(test, execution);
  });
});

describe("a lease", () => {
  let test: InProcess;
  beforeAll(async () => {
    test = await createInProcess();
    await test.source.admin`insert into public.dispatch_office (id, name, valid, emails) values (1, 'one', true, true)`;
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it("is taken over by a later attempt of its message alone: the earlier one was killed", async () => {
    const { execution } = await test.start({ entities: ["offices"] });
    const message = test.queue.shift();
    if (!message) throw new Error("no page");
    const claim = (delivery?: { readonly id: string; readonly attempt: number }) =>
      claimPage(test.context.target, delivery ? { ...message, delivery } : message, 60, addressesOf(test.context.config));
    expect(await claim({ id: "msg_1", attempt: 0 })).toMatchObject({ outcome: "claimed", chain: { lease: 1, page_size: 2000 } });
    for (const other of [undefined, { id: "msg_1", attempt: 0 }, { id: "msg_2", attempt: 3 }]) {
      expect(await claim(other)).toEqual({ outcome: "leased" });
    }
    expect(await claim({ id: "msg_1", attempt: 1 })).toMatchObject({
      outcome: "claimed",
      chain: { lease: 2, page_size: 250, slow_growth: true },
    });
    expect(await claim({ id: "msg_1", attempt: 1 })).toEqual({ outcome: "leased" });
    await test.target.admin`update public.sync_chains set lease_until = null, due_at = now() where id = ${message.chain}`;
    // A lease without a message, as a person's call has it, waits for its end.
    expect(await claim()).toMatchObject({ outcome: "claimed" });
    expect(await claim({ id: "msg_1", attempt: 2 })).toEqual({ outcome: "leased" });
    await test.target.admin`update public.sync_executions set status = 'cancelled' where id = ${execution}`;
    await test.target
      .admin`update public.sync_chains set state = 'cancelled', closed_at = now(), lease_until = null, due_at = null where execution_id = ${execution}`;
  });

  it("that another delivery has taken over commits nothing", async () => {
    const { execution } = await test.start({ entities: ["offices"] });
    const message = test.queue.shift();
    if (!message) throw new Error("no page");
    const gate = new Gate(5);
    const slow = test.run(message, gated(test.context, gate));
    await gate.reached;
    await test.target.admin`update public.sync_chains set lease_until = now() - interval '1 second' where id = ${message.chain}`;
    const claim = await claimPage(test.context.target, message, 60, addressesOf(test.context.config));
    expect(claim).toMatchObject({
      outcome: "claimed",
      chain: { lease: 2, failures: 0, page_size: 250, slow_growth: true, crashes: 0 },
    });
    gate.open();
    expect((await slow).outcome).toBe("leased");
    expect((await test.target.admin`select from public.offices`).length).toBe(0);

    if (claim.outcome !== "claimed") throw new Error("not claimed");
    const stolen = { ...claim, chain: { ...claim.chain, lease: 1 } };
    const facts = {
      versions: {},
      read: 0,
      untouched: 0,
      keys: [],
      waived: 0,
      outside: [],
      absent: 0,
      gone: [],
      gone_ids: [],
      unmapped: [],
      cursor: null,
      cursor_at: null,
      table_file: null,
      done: true,
      present: [],
      warnings: [],
      pending: [],
      dependants: [],
      cache_lookups: 0,
      cache_hits: 0,
      heap_bytes: null,
      wall_ms: 1,
      next_page_size: 10,
      cut: false,
      definition_hash: "",
      lease_seconds: 60,
    };
    const refusal = await commitPage(test.context.target, stolen, encodePage([], []), facts).catch((error: unknown) => error);
    expect((refusal as IsthmusError).code).toBe("LEASE_LOST");

    await test.target.admin`update public.sync_chains set lease_until = null where id = ${message.chain}`;
    await test.run(message);
    await test.drain();
    expect((await test.target.admin`select status from public.sync_executions where id = ${execution}`)[0]).toEqual({
      status: "succeeded",
    });
  });

  it("whose commit succeeded although its answer was lost is settled by the chain's row", async () => {
    await test.source.admin`insert into public.dispatch_office (id, name, valid, emails) values (2, 'two', true, true)`;
    const { execution } = await test.start({ entities: ["offices"] });
    const message = test.queue.shift();
    if (!message) throw new Error("no page");
    // The connection breaks behind the COMMIT: the rows are there, and the caller sees an error.
    const target = test.context.target;
    const broken = Object.assign(Object.create(target) as typeof target, {
      unsafe: async (...args: Parameters<typeof target.unsafe>) => {
        const rows = await target.unsafe(...args);
        if (!args[0].includes("sync.commit_page")) return rows;
        throw Object.assign(new Error("write CONNECTION_CLOSED"), { code: "CONNECTION_CLOSED", errno: "CONNECTION_CLOSED" });
      },
    });
    expect((await test.run(message, { ...test.context, target: broken })).outcome).toBe("closed");
    expect((await test.target.admin`select from public.offices`).length).toBe(2);
    // The validating chain that this commit opened is due: the sweep would send it.
    const [open] = await test.target.admin<
      { chain: string; page: number; due: boolean }[]
    >`select id as chain, page, due_at <= now() as due from public.sync_chains where execution_id = ${execution} and state = 'open'`;
    expect(open?.due).toBe(true);
    await test.run({ execution, chain: open?.chain ?? "", page: open?.page ?? 0 });
    await test.drain();
    expect((await test.target.admin`select status from public.sync_executions where id = ${execution}`)[0]).toEqual({
      status: "succeeded",
    });
  });
});
