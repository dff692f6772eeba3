import { describe, expect, it } from "vitest";
import { SCHEMA_VERSION } from "../shared/db/schema-version.ts";
import { checkInstallation } from "../shared/jobs/check.ts";
import { tick } from "../shared/jobs/tick.ts";
import { MESSAGE_FORMAT } from "../shared/queue/message-format.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** The database as another release has it: its version, and the oldest functions that it works with. */
async function asRelease(test: Pipeline, version: number, oldest: number): Promise<void> {
  for (const [name, value] of Object.entries({ schema_version: version, oldest_functions: oldest }))
    await test.target.admin.unsafe(`create or replace function sync.${name}() returns bigint
      language sql immutable security invoker set search_path = pg_catalog, pg_temp as 'select ${value}::bigint'`);
}

const everything = async (test: Pipeline) =>
  test.target.admin`select to_jsonb(c) as row from public.sync_chains c union all select to_jsonb(e) from public.sync_executions e
    union all select to_jsonb(i) from public.sync_identities i union all select to_jsonb(t) from public.sync_ticks t order by 1`;

describe("functions meet a database of another release", () => {
  it.each([
    ["SCHEMA_OUTDATED", "the database is behind", SCHEMA_VERSION - 1, SCHEMA_VERSION - 1, /npm run sync -- setup --upgrade/],
    [
      "SCHEMA_AHEAD",
      "the database has left them behind",
      SCHEMA_VERSION + 2,
      SCHEMA_VERSION + 1,
      /from a checkout of that release/,
    ],
  ])(
    "%s, %s: no page is claimed, nothing begins, nothing is lost, and all goes on by itself",
    async (code, _, version, oldest, hint) => {
      await using test = await createPipeline();
      for (let id = 1; id <= 5; id++) await test.seed.office(id);
      const { execution } = await test.start({ entities: ["offices"], pageSize: 2 });
      await test.runJoins();
      expect((await test.runOne()).outcome).toBe("committed");
      // Whatever is due would be sent again by the next tick.
      await test.target.admin`update public.sync_chains set due_at = now() - interval '1 hour' where state = 'open'`;
      const messages = [...test.queue];
      expect(messages.length).toBeGreaterThan(0);
      await asRelease(test, version, oldest);

      const before = await everything(test);
      for (const message of messages)
        await expect(test.run(message)).rejects.toMatchObject({ code, detail: { hint: expect.stringMatching(hint) as string } });
      await expect(test.start({ entities: ["doctors"] })).rejects.toMatchObject({ code });
      await expect(test.start({ entities: ["offices"], dryRun: true })).rejects.toMatchObject({ code });
      test.queue.length = 0;
      expect(await tick(test.context)).toEqual({ started: [], resent: 0, stopped: [], released: [] });
      expect(test.queue).toEqual([]);
      expect(await everything(test)).toEqual(before);

      await asRelease(test, SCHEMA_VERSION, SCHEMA_VERSION);
      expect((await tick(test.context)).resent).toBe(messages.length);
      await test.drain();
      expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
      expect(await test.target.admin`select count(*)::int as n from public.offices`).toEqual([{ n: 5 }]);
    },
  );

  it("a check says it, too", async () => {
    await using test = await createPipeline();
    await asRelease(test, SCHEMA_VERSION - 1, SCHEMA_VERSION - 1);
    expect(await checkInstallation(test.context)).toMatchObject({ ok: false, error: { code: "SCHEMA_OUTDATED" } });
  });

  it("a later database that still works with these functions is met as before, with messages of both in flight", async () => {
    await using test = await createPipeline();
    for (let id = 1; id <= 5; id++) await test.seed.office(id);
    await test.start({ entities: ["offices"], pageSize: 2 });
    await asRelease(test, SCHEMA_VERSION + 1, SCHEMA_VERSION);
    const [message] = test.queue;
    if (!message) throw new Error("no page");
    // A later format is for later functions; the message stays what it is, and comes back.
    await expect(test.run({ ...message, format: MESSAGE_FORMAT + 1 })).rejects.toMatchObject({ code: "DEPLOYMENT_BEHIND" });
    await test.drain();
    expect(await test.target.admin`select status from public.sync_executions`).toEqual([{ status: "succeeded" }]);
  });
});
