import { describe, expect, it } from "vitest";
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

/** A type as an extension would bring it, with a modifier: a text of at most so many letters, cut by a cast and with an `=` of its own. */
const labelIn = (schema: string) => `
  create schema if not exists ${schema}; create type ${schema}.label;
  create function ${schema}.label_in(cstring, oid, integer) returns ${schema}.label language internal immutable strict as 'varcharin';
  create function ${schema}.label_out(${schema}.label) returns cstring language internal immutable strict as 'varcharout';
  create function ${schema}.label_receive(internal, oid, integer) returns ${schema}.label language internal stable strict as 'varcharrecv';
  create function ${schema}.label_send(${schema}.label) returns bytea language internal stable strict as 'varcharsend';
  create function ${schema}.label_modifier(cstring[]) returns integer language internal immutable strict as 'varchartypmodin';
  create function ${schema}.label_modifier_out(integer) returns cstring language internal immutable strict as 'varchartypmodout';
  create type ${schema}.label (input = ${schema}.label_in, output = ${schema}.label_out, receive = ${schema}.label_receive, send = ${schema}.label_send, typmod_in = ${schema}.label_modifier,
    typmod_out = ${schema}.label_modifier_out, like = text, collatable = true);
  create function ${schema}.label(${schema}.label, integer, boolean) returns ${schema}.label language internal immutable strict as 'varchar';
  create cast (${schema}.label as ${schema}.label) with function ${schema}.label(${schema}.label, integer, boolean) as implicit;
  create function ${schema}.label_eq(${schema}.label, ${schema}.label) returns boolean language internal immutable strict as 'texteq';
  create operator ${schema}.= (leftarg = ${schema}.label, rightarg = ${schema}.label, function = ${schema}.label_eq, commutator = operator(${schema}.=));
  create domain ${schema}.short as ${schema}.label(3)`;

it("blanks between numbers in brackets say nothing, and letters do", async () => {
  await using test = await createStranger(
    {
      source: "old",
      target: "fresh",
      columns: { spot: { type: "extensions.cube", sourceType: "text" }, mail: { type: "extensions.citext", sourceType: "text" } },
      computed: true,
    },
    {},
    {},
    withExtensions,
  );
  await test.source.admin`
    insert into public.old (id, spot, mail) values
      (1, '(1,2)', '[1,  2]'), (2, '(0.5, 1e+20) , (3,4)', 'a , b'), (3, '(0.12345678901234567890)', null), (4, '1', null), (5, '(1 ,2.0)', null)`;
  await test.sync();
  expect((await test.live(ENTITY)).map(({ id, type, field }) => [id, type, field])).toEqual(
    [3, 4, 5].map((id) => [id, "schema_mismatch", "spot"]),
  );
  expect(await test.target.admin`select mail::text from public.fresh order by legacy_id`).toEqual([
    { mail: "[1,  2]" },
    { mail: "a , b" },
  ]);
});

describe("a type with a modifier is compared whatever its schema", () => {
  it.each(["public", "extensions", '"crm types"'])("%s", async (schema) => {
    const label = (of: string) => `${schema}.${of}`;
    await using test = await createStranger(
      {
        source: "old",
        target: "fresh",
        columns: {
          tag: { type: label("label(3)"), sourceType: "text" },
          short: { type: label("short"), sourceType: "text" },
          tags: { type: label("label(3)[]"), sourceType: "text" },
          n: { type: "integer", sourceType: "text" },
        },
        computed: true,
      },
      { conflicts: { strategy: "manual_review" } },
      {},
      async ({ target }) => {
        await target.admin.unsafe(labelIn(schema)).simple();
        await target.admin.unsafe(`grant usage on schema ${schema} to isthmus_worker, isthmus_decisions`);
      },
    );
    await test.source.admin`insert into public.old values
      (1, 'abc', 'ab', '{abc,a}', '1'), (2, 'abcd', null, null, '1'), (3, null, 'abcd', null, '1'), (4, null, null, '{abcd}', '1'),
      (5, 'abc', null, null, 'x'), (6, 'ab ', null, '{}', null)`;
    for (const dryRun of [true, false]) await test.sync({ dryRun });
    const queued = async () => (await test.live(ENTITY)).map(({ id, type, field }) => [id, type, field]);
    expect(await queued()).toEqual(["tag", "short", "tags", "n"].map((field, at) => [at + 2, "schema_mismatch", field]));
    const landed = async () => [
      ...(await test.target.admin`
        select legacy_id::integer as id, tag::text, short::text, tags::text, n from public.fresh order by legacy_id`),
    ];
    expect(await landed()).toEqual([
      { id: 1, tag: "abc", short: "ab", tags: "{abc,a}", n: 1 },
      { id: 6, tag: "ab ", short: null, tags: "{}", n: null },
    ]);

    await test.source.admin`update public.old set tag = 'cba', short = 'x' where id = 1`;
    await test.target.admin`update public.fresh set tag = 'me', short = 'me' where legacy_id = 1`;
    await test.sync();
    const decide = (tag: string) => test.target.admin`
      update public.sync_conflicts set resolution_strategy = 'merge', resolution_data = ${test.target.admin.json({ tag, short: "x" })}
       where state = 'open' and source_record_id = 1`;
    await expect(decide("abcd")).rejects.toMatchObject({ code: "IS022" });
    await decide("abc");
    expect((await landed())[0]).toMatchObject({ tag: "abc", short: "x" });
    await test.sync({ capture: "digest" });
    expect((await landed())[0]).toMatchObject({ tag: "abc", short: "x" });
  });
});

it("a text that an extension's type would read otherwise, and write back in other letters, is in the queue", async () => {
  const types = { spot: "cube", bag: "hstore", book: "isbn13", place: "ltree" };
  await using test = await createStranger(
    {
      source: "old",
      target: "fresh",
      columns: Object.fromEntries(
        Object.entries(types).map(([name, type]) => [name, { type: `extensions.${type}`, sourceType: "text" }]),
      ),
      computed: true,
    },
    {},
    {},
    withExtensions,
  );
  await test.source.admin`insert into public.old values
    (1, '(0.1, 2)', '"a"=>"1"', '978-0-393-04002-9', 'Top.Science'), (2, '(0.12345678901234567890)', null, null, null),
    (3, null, 'a=>1, a=>2', null, null), (4, null, null, '978-0-393-04002-?', null)`;
  await test.sync();
  expect((await test.live(ENTITY)).map(({ id, type, field }) => [id, type, field])).toEqual([
    [2, "schema_mismatch", "spot"],
    [3, "schema_mismatch", "bag"],
    [4, "schema_mismatch", "book"],
  ]);
  expect(await test.target.admin`select spot::text, bag::text, book::text, place::text from public.fresh`).toEqual([
    { spot: "(0.1, 2)", bag: '"a"=>"1"', book: "978-0-393-04002-9", place: "Top.Science" },
  ]);
});
