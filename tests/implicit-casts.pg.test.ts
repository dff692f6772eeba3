import { expect, it } from "vitest";
import { createStranger } from "./support/stranger.ts";

const TYPES = ["smallint", "integer", "bigint", "numeric", "date", "timestamptz", "uuid", "boolean", "jsonb"];

/**
 * Databases that were made before PostgreSQL 8.3 often have the casts back with which values became text by
 * themselves, and operators of their own between types that have none. Then `text || smallint` is ambiguous, and an
 * equality may be somebody else's.
 */
it("a source with implicit casts to and from text, and operators of its own, is read as any other", async () => {
  await using test = await createStranger(
    {
      source: "old",
      target: "fresh",
      modified: "m",
      columns: {
        value: { type: "integer" },
        name: { type: "text" },
        amount: { type: "numeric(10,2)" },
        at: { type: "timestamptz" },
      },
    },
    { conflicts: { strategy: "manual_review" }, onDelete: "hard" },
  );
  const { admin } = test.source;
  for (const type of TYPES) {
    await admin.unsafe(
      `do $$ begin create cast (${type} as text) with inout as implicit; exception when duplicate_object then
         update pg_cast set castcontext = 'i' where castsource = '${type}'::regtype and casttarget = 'text'::regtype; end $$`,
    );
    await admin.unsafe(
      `do $$ begin create cast (text as ${type}) with inout as implicit; exception when duplicate_object then null; end $$`,
    );
  }
  await admin.unsafe(`
    create function public.no(text, integer) returns boolean language sql immutable as 'select false';
    create operator public.= (leftarg = text, rightarg = integer, procedure = public.no);
    create function public.no(bigint, text) returns boolean language sql immutable as 'select false';
    create operator public.= (leftarg = bigint, rightarg = text, procedure = public.no)`);
  const same = async () =>
    expect([
      ...(await test.target.admin`select legacy_id::text as id, value, name, amount::text from public.fresh order by legacy_id`),
    ]).toEqual([...(await admin`select id::text, value, name, amount::text from public.old order by id`)]);

  await admin.unsafe("insert into public.old select n, n, 'x', n, now() from generate_series(1, 4) n");
  await test.sync({ capture: "full" });
  await same();
  await admin.unsafe("update public.old set name = 'y', value = 9, m = clock_timestamp() where id = 1");
  await test.sync({ dryRun: true });
  await test.sync();
  await same();
  await admin.unsafe("update public.old set name = 's' where id = 2");
  await test.target.admin.unsafe("update public.fresh set name = 't' where legacy_id = 2");
  await test.sync({ capture: "digest" });
  await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
  await admin.unsafe("delete from public.old where id = 3");
  await test.sync({ capture: "digest" });
  await test.sync({ legacyIds: { things: ["4"] } });
  await same();
});
