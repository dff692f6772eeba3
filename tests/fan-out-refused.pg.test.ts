import { describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { offices } from "../clinic/entities/offices.ts";
import { limited, seedOffices, toItsEnd } from "./support/limits.ts";
import type { Pipeline } from "./support/pipeline.ts";

const REGIONS: Entity = {
  ...offices,
  source: {
    ...offices.source,
    // A table of this test alone.
    joins: { r: { table: "region", on: { id: "o.region" }, required: true } },
    columns: { ...offices.source.columns, address: "r.label" },
  },
};
const OFFICES = 9;

/** Offices 1 to 4 and 6 to 9 are in region 1, and 5 in region 2. A region is named by a text, which a cast of the source reads as a number, as some old applications have it. */
async function withRegions(env: Record<string, string> = {}): Promise<Pipeline> {
  const test = await limited({ entity: REGIONS, env });
  await test.source.admin.unsafe(`
    create table public.region (id bigint primary key, label text);
    grant select on public.region to isthmus_reader;
    insert into public.region values (1, 'old'), (2, 'old');
    alter table public.dispatch_office add column region varchar default '1'`);
  await test.source.admin.unsafe(`
    create table public.left_out (letter text);
    insert into public.left_out values ('x');
    grant select on public.left_out to isthmus_reader;
    create function public.key_of_test(varchar) returns bigint language sql immutable
      as 'select replace($1::text, (select letter from public.left_out), '''')::bigint'`);
  await test.source.admin`create cast (varchar as bigint) with function public.key_of_test(varchar) as implicit`;
  await seedOffices(test, OFFICES);
  await test.source.admin`update public.dispatch_office set region = '2' where id = 5`;
  return test;
}

/** The letter that the source leaves out where it reads a region's text as a number. Its function stays as it is: another body would have everything compared. */
const leavesOut = (test: Pipeline, letter: string) => test.source.admin`update public.left_out set letter = ${letter}`;

const addresses = async (test: Pipeline) =>
  (
    await test.target.admin<{ id: number; address: string }[]>`
      select legacy_office_id::integer as id, address from public.offices order by legacy_office_id`
  ).map(({ id, address }) => `${id} ${address}`);

async function run(test: Pipeline) {
  const { execution } = await test.start({ entities: ["offices"] });
  const { status, queued } = await toItsEnd(test, execution);
  const ranges = await test.target.admin<{ range: string }[]>`
    select range_from || '-' || range_to as range from public.sync_chains where execution_id = ${execution} and capture = 'full'`;
  return { status, queued, ranges: ranges.map(({ range }) => range), read: (await test.sums(execution)).read };
}

describe("a record of whose reference to a joined row the source can tell nothing any more", () => {
  const expected = (read: number, broken: readonly number[]) => ({
    status: "succeeded",
    read,
    queued: broken.map((id) => [id, "source_22P02"]),
  });

  it.each([
    { broken: [4], keys: "100", ranges: [] },
    { broken: [4, 7], keys: "100", ranges: [] },
    // The lowest and the highest of those that changed are none of those that the source cannot compute.
    { broken: [1, 9], keys: "1", ranges: ["1-9"] },
  ])(
    "is read again when a joined row changes, and told, although nobody has written it: $broken, with room for $keys keys",
    async ({ broken, keys, ranges }) => {
      await using test = await withRegions({ ISTHMUS_FANOUT_KEYS: keys });
      await test.source.admin`update public.dispatch_office set region = '1x' where id = any (${broken})`;
      await test.sync({ entities: ["offices"] });
      expect(await addresses(test)).toEqual(Array.from({ length: OFFICES }, (_, n) => `${n + 1} old`));

      // No row is written, and the source cannot read these regions any more.
      await leavesOut(test, "-");
      await test.source.admin`update public.region set label = 'new' where id = 1`;
      // With a range, the office of the other region is read with the rest.
      expect(await run(test)).toEqual({ ...expected(ranges.length > 0 ? 9 : 8, broken), ranges });
      expect(await addresses(test)).toEqual(
        Array.from({ length: OFFICES }, (_, n) => `${n + 1} ${n + 1 === 5 || broken.includes(n + 1) ? "old" : "new"}`),
      );

      // The source can read them again: with the next change of a joined row they land.
      await leavesOut(test, "x");
      await test.source.admin`update public.region set label = 'newer' where id = 1`;
      expect(await run(test)).toMatchObject({ status: "succeeded", queued: [] });
      expect(await addresses(test)).toEqual(
        Array.from({ length: OFFICES }, (_, n) => `${n + 1} ${n + 1 === 5 ? "old" : "newer"}`),
      );
    },
  );
});
