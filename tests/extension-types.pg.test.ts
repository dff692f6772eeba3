import { expect, it } from "vitest";
import { workerGrants } from "../shared/operate/grants.ts";
import { checkContract } from "../shared/contract/check-contract.ts";
import { beginSource } from "../shared/target/plan.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";

const EXTENSIONS = ["citext", "hstore", "ltree", "cube", "isn", "intarray"];

const STRANGER: Stranger = {
  source: "old",
  target: "fresh",
  columns: {
    mail: { type: "extensions.citext" },
    nick: { type: "extensions.citext", sourceType: "text" },
    bag: { type: "extensions.hstore" },
    place: { type: "extensions.ltree" },
    spot: { type: "extensions.cube" },
    book: { type: "extensions.isbn13" },
    tags: { type: "extensions.citext[]" },
  },
  computed: true,
};

async function withExtensions({ source, target }: Pick<Pipeline, "source" | "target">): Promise<void> {
  for (const { admin } of [source, target])
    await admin.unsafe(
      `create schema if not exists extensions; ${EXTENSIONS.map((name) => `create extension if not exists ${name} schema extensions`).join("; ")}`,
    );
}

const create = () => createStranger(STRANGER, { conflicts: { strategy: "manual_review" } }, {}, withExtensions);

const rows = async (test: Pipeline) => {
  const list = Object.keys(STRANGER.columns)
    .map((name) => `${name}::text as ${name}`)
    .join(", ");
  return [
    [...(await test.source.admin.unsafe(`select ${list} from public.old order by id`))],
    [...(await test.target.admin.unsafe(`select ${list} from public.fresh order by legacy_id`))],
  ] as const;
};

async function insert(test: Pipeline): Promise<void> {
  await test.source.admin.unsafe(`
    insert into public.old (id, mail, nick, bag, place, spot, book, tags) values
      (1, 'Ada@X.example', 'Ab', 'a=>1, "b c"=>NULL, d=>"=>"', 'Top.Science', '(1, 2),(3, 4)', '978-0-393-04002-9', '{A,"b,c"}'),
      (2, 'bob@x.example', '', '', 'a.b', '(0)', null, '{}')`);
}

it("values of extensions' types land as they are, through dry runs, changes, exchanges, conflicts and digests", async () => {
  await using test = await create();
  await test.target.admin`create unique index on public.fresh (mail)`;
  await test.target.admin`create unique index on public.fresh (place)`;
  await insert(test);
  await test.sync({ dryRun: true });
  await test.sync();
  expect(await test.live(ENTITY)).toEqual([]);
  const [there, here] = await rows(test);
  expect(here).toEqual(there);

  // Values that citext holds for equal change places.
  await test.source.admin`
    update public.old set mail = case id when 1 then 'BOB@x.example' else 'ada@x.example' end,
           place = case id when 1 then 'a.b' else 'Top.Science' end::extensions.ltree, bag = 'z=>1'`;
  await test.sync();
  expect(await test.live(ENTITY)).toEqual([]);
  expect((await rows(test))[1]).toEqual((await rows(test))[0]);

  await test.source.admin`update public.old set bag = 's=>1', nick = 'AB' where id = 1`;
  await test.target.admin`update public.fresh set bag = 'p=>1', nick = 'x' where legacy_id = 1`;
  await test.sync();
  expect(await test.live(ENTITY)).toMatchObject([{ id: 1, rule: "both_changed", field: "bag, nick" }]);
  await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
  expect((await rows(test))[1]).toEqual((await rows(test))[0]);
  const { execution } = await test.sync({ capture: "digest" });
  const [report] = await test.target.admin<{ body: { changed: { count: number }; edited: { count: number } } }[]>`
    select body from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
  expect([report?.body.changed.count, report?.body.edited.count]).toEqual([0, 0]);
});

it("a schema that the sync's roles may not use is told by the check with the grant, which `grants` prints, too", async () => {
  await using test = await create();
  await test.target.admin`revoke usage on schema extensions from isthmus_worker, isthmus_decisions`;
  const check = async () =>
    (await checkContract(test.context, await beginSource(test.context.target, "legacy"), { fresh: true })).findings.map(
      ({ code, remedy }) => [code, remedy] as const,
    );
  const grant = 'grant usage on schema "extensions" to "isthmus_worker", isthmus_decisions;';
  expect(await check()).toEqual([["target_grant_missing", grant]]);
  await test.target.admin.unsafe(grant);
  expect(await check()).toEqual([]);
  await test.target.admin`revoke usage on schema extensions from isthmus_worker, isthmus_decisions`;
  await test.target.admin.unsafe(workerGrants([...test.context.entities.values()]));
  expect(await check()).toEqual([]);
});
