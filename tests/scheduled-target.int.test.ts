import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ExecutionState } from "../local/demo/watch.ts";
import { applyEdits } from "../clinic/dataset/edit.ts";
import { AFTER_A_FIRST_LOAD } from "./support/after-a-first-load.ts";
import { startTestPlatform, type TestPlatform } from "./support/platform.ts";

/** The same as end-to-end.int.test.ts on the oldest target, smaller, and nobody calls a tick but the target's own schedule. */
describe("a target on PostgreSQL 15 whose pg_cron calls sync-tick", () => {
  let test: TestPlatform;
  let first: ExecutionState;
  const never = { tickEveryMs: 1_000_000 };

  beforeAll(async () => {
    test = await startTestPlatform("scheduled", { scale: 0.02, scheduled: true });
    first = await test.finish((await test.start()).execution, never);
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it("is migrated and synced by roles that are no superusers", async () => {
    const roles = await test.target`
      select current_setting('server_version_num')::integer / 10000 as version, rolname as name, rolsuper as super, rolbypassrls as bypasses from pg_roles
       where rolname in ('postgres', 'isthmus_worker', 'isthmus_decisions') order by 2`;
    expect(roles.map((row) => ({ ...row }))).toEqual(
      ["isthmus_decisions", "isthmus_worker", "postgres"].map((name) => ({ version: 15, name, super: false, bypasses: true })),
    );
    const [owner] =
      await test.target`select pg_get_userbyid(relowner) as name from pg_class where oid = 'public.sync_jobs'::regclass`;
    expect(owner?.["name"]).toBe("postgres");
  });

  it("succeeds", () => {
    expect(first).toMatchObject({ status: "succeeded", errors: null });
  });

  it.each(AFTER_A_FIRST_LOAD)("$title", ({ holds }) => holds(test, first));

  it("finds what has changed, and nothing when all is read again", async () => {
    await applyEdits({ url: test.platform.urls.sourceOwner, count: 40 });
    expect((await test.finish((await test.start()).execution, never)).status).toBe("succeeded");
    const third = await test.finish((await test.start({ capture: "full" })).execution, never);
    expect(third.status).toBe("succeeded");
    for (const { entity, counts } of third.entities)
      expect(counts, entity).toMatchObject({ inserted: 0, updated: 0, surplus: 0 });
  });

  it(
    "is called by its schedule, through pg_net, with the key of Vault, and the tick's work is there",
    { timeout: 150_000 },
    async () => {
      const worked = () =>
        test.target`select status_code, timed_out, error from public.sync_ticks where request_id is not null and ended_at is not null and answered_at is not null`;
      await expect.poll(async () => (await worked()).length, { timeout: 140_000, interval: 250 }).toBeGreaterThan(0);
      expect({ ...(await worked())[0] }).toEqual({ status_code: 202, timed_out: false, error: null });
      expect([
        ...(await test.target`select kind, message from public.sync_alerts where kind like 'tick_%' and closed_at is null`),
      ]).toEqual([]);
    },
  );
});
