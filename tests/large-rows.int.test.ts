import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ExecutionState } from "../local/demo/watch.ts";
import { RECORD_BYTES } from "../shared/page/page-size.ts";
import { createSeeds } from "./support/legacy-seeds.ts";
import { startTestPlatform, type TestPlatform } from "./support/platform.ts";

const MEGABYTE = 1_048_576;
/** Above the ids of the generated records. */
const FIRST = 5_000_001;
const COMMENTS = { from: FIRST, count: 60, bytes: 4 * MEGABYTE };
const ORDERS = { from: FIRST, count: 120, bytes: 3 * MEGABYTE };
/** A comment that no page can carry, in the middle of the others. */
const TOO_LARGE = FIRST + 30;

describe("rows of some megabytes, on functions with the platform's 256 MB", () => {
  let test: TestPlatform;
  let ended: ExecutionState;

  beforeAll(async () => {
    test = await startTestPlatform("large-rows", { scale: 0.01 });
    const seed = createSeeds(test.source);
    await seed.patient(FIRST, { userId: FIRST });
    await test.source`set session_replication_role = replica`;
    await test.source`
      insert into public.dispatch_comment (id, created_at, text, author_id, plan_id)
      select id, now(), repeat(md5(id::text), ${COMMENTS.bytes / 32}), null, 1 from generate_series(${FIRST}::integer, ${FIRST + COMMENTS.count - 1}::integer) id`;
    await test.source`update public.dispatch_comment set text = repeat('x', ${RECORD_BYTES + MEGABYTE}) where id = ${TOO_LARGE}`;
    for (let id = FIRST; id < FIRST + ORDERS.count; id++) await seed.instruction(id, FIRST, { price: "1.10" });
    await test.source`update public.dispatch_instruction set notes = repeat(md5(id::text), ${ORDERS.bytes / 32}) where id >= ${FIRST}`;
    const { execution } = await test.start({ entities: ["profiles", "offices", "doctors", "patients", "orders", "comments"] });
    ended = await test.finish(execution, { timeoutMs: 400_000, pollMs: 250 });
  }, 500_000);
  afterAll(() => test[Symbol.asyncDispose]());

  it("land or are queued, and the execution succeeds", async () => {
    expect(ended).toMatchObject({ status: "succeeded", errors: null });
    const landed = async (sql: string) =>
      (await test.target.unsafe<{ id: number; hash: string }[]>(sql)).map(({ id, hash }) => [id, hash]);
    const sent = async (sql: string) =>
      (await test.source.unsafe<{ id: number; hash: string }[]>(sql)).map(({ id, hash }) => [id, hash]);
    const comments = await landed(
      `select legacy_comment_id::integer as id, md5(content) as hash from public.comments where legacy_comment_id >= ${FIRST} order by 1`,
    );
    expect(comments).toHaveLength(COMMENTS.count - 1);
    expect(comments).toEqual(
      await sent(
        `select id, md5(text) as hash from public.dispatch_comment where id >= ${FIRST} and id <> ${TOO_LARGE} order by 1`,
      ),
    );
    const orders = await landed(
      `select legacy_instruction_id::integer as id, md5(notes) as hash from public.orders where legacy_instruction_id >= ${FIRST} order by 1`,
    );
    expect(orders).toHaveLength(ORDERS.count);
    expect(orders).toEqual(
      await sent(`select id, md5(notes) as hash from public.dispatch_instruction where id >= ${FIRST} order by 1`),
    );
    expect([
      ...(await test.target`
      select source_record_id::integer as id, rule from public.sync_conflicts where state = 'open' and source_record_id >= ${FIRST}`),
    ]).toEqual([{ id: TOO_LARGE, rule: "record_too_large" }]);
  });

  it("and no function is killed for its memory or CPU", () => {
    const invocations = test.platform.functions.invocations();
    expect(invocations.flatMap(({ killed }) => killed ?? [])).toEqual([]);
  });
});
