import { describe, expect, it } from "vitest";
import { inZone, KEY, type Entity } from "../shared/entity/define-entity.ts";
import type { ZoneRules } from "../shared/entity/zones.ts";
import { createBuilders, directCopy } from "../shared/entity/fields.ts";
import { answered, keyQuestions } from "../shared/contract/key-claims.ts";
import { compareSource } from "../shared/contract/compare-source.ts";
import { compareTarget } from "../shared/contract/compare-target.ts";
import { compareTypes } from "../shared/contract/compare-types.ts";
import { FINDINGS, findingsOn, type FindingCode } from "../shared/contract/finding.ts";
import { moneyColumns, moneyFindings } from "../shared/contract/money-decimals.ts";
import { pauseBroken } from "../shared/contract/leave-out-unfit.ts";
import { effectFindings, sideEffects } from "../shared/contract/side-effects.ts";
import { denied } from "../clinic/denied.ts";
import type { ColumnKinds, KnownColumns } from "../shared/entity/kinds.ts";
import type { SourceCatalog } from "../shared/source/catalog.ts";
import type { TargetCatalog } from "../shared/target/catalog.ts";

const f = createBuilders("books");
const authors = entity("authors", "author", "a", { name: "a.name" }, { name: directCopy("name") });
const books: Entity = {
  ...entity(
    "books",
    "book",
    "b",
    { author_id: "b.author_id", title: "b.title", format: "b.format", price: "b.price", made_at: "b.made_at", by: "a.name" },
    {
      author_id: f.lookup("authors" as never, "author_id" as never, { required: true }),
      title: directCopy("title"),
      made_at: directCopy("made_at"),
      format: f.mapEnum("format", { "1": "paper", "2": "audio" }, { whenNull: "lost" }),
      price: f.money("price" as never),
      by_line: f.calculate(["title", "by"], () => "x"),
      state: f.decide(["title"], () => ({ value: "known" }), { members: { known: true } }),
    },
  ),
  dependsOn: ["authors"],
};
const ENTITIES = [authors, books];

function entity(
  name: string,
  table: string,
  alias: string,
  columns: Entity["source"]["columns"],
  fields: Entity["fields"],
): Entity {
  const joins = name === "books" ? { a: { table: "author", on: { id: "b.author_id" } } } : {};
  return {
    name,
    target: { table: name, legacyKey: `legacy_${table}_id` },
    source: {
      table,
      key: "id",
      alias,
      joins: joins,
      where: undefined,
      predicate: undefined,
      watches: {},
      modified: name === "books" ? "printed_at" : undefined,
      dated: undefined,
      filters: [],
      columns,
      ignored: { cover: "a picture", sold_at: "not of a book" },
    },
    conflicts: { strategy: "source_wins", deleted: "manual_review", fields: {}, types: {} },
    onDelete: "review",
    history: "values",
    fields: { [`legacy_${table}_id`]: directCopy(KEY), ...fields },
    rules: [],
    dependsOn: [],
  };
}

const KINDS: { source: ColumnKinds; beside: KnownColumns; target: ColumnKinds } = {
  beside: { author: "id name" },
  source: {
    book: { integer: "id author_id format", text: "title", numeric: "price", timestamp: "printed_at made_at" },
    author: { integer: "id", text: "name" },
  },
  target: { books: { text: "title by_line", enum: "format state" } },
};

type Mutable<T> = { -readonly [K in keyof T]: T[K] extends object | null ? Mutable<T[K]> : T[K] };
interface Catalogs {
  source: Mutable<SourceCatalog>;
  target: Mutable<TargetCatalog>;
}

function fitting(): Catalogs {
  const read = (type: string) => ({ type, money: false, parts: null, enum: false, readable: true });
  const column = (type: string, required = false, members: string[] | null = null) => ({
    type,
    money: false,
    parts: null,
    members,
    required,
    generated: false,
    typeSchema: null,
    select: true,
    insert: true,
    update: true,
  });
  const table = (legacyKey: string, columns: Record<string, ReturnType<typeof column>>) => ({
    relkind: "r",
    hidden: false,
    empty: true,
    delete: false,
    xmin: true,
    released: Object.fromEntries(["authors", "books"].map((entity) => [entity, [legacyKey, ...Object.keys(columns)]])),
    columns: { id: column("uuid"), [legacyKey]: column("bigint", true), ...columns },
    primaryKey: ["id"],
    unique: ["id", legacyKey],
    indexed: ["id", legacyKey],
    foreignKeys: [] as { column: string; table: string; references: string }[],
    referred: [] as Mutable<TargetCatalog>["tables"][string]["referred"],
    triggers: [] as Mutable<TargetCatalog>["tables"][string]["triggers"],
    rules: [] as Mutable<TargetCatalog>["tables"][string]["rules"],
    publications: [] as Mutable<TargetCatalog>["tables"][string]["publications"],
  });
  const source = (columns: Record<string, string>) => ({
    relkind: "r",
    hidden: false,
    columns: Object.fromEntries(
      Object.entries({ id: "integer", xmin: "xid", ...columns }).map(([name, type]) => [name, read(type)]),
    ),
    kept: { notNull: ["id"], unique: [["id"]] },
  });
  return {
    source: {
      serverVersion: 130_004,
      role: "reader",
      lcMonetary: ["C"],
      tables: {
        author: source({ name: "text" }),
        book: source({
          author_id: "integer",
          title: "character varying",
          format: "integer",
          price: "numeric",
          cover: "bytea",
          printed_at: "timestamp with time zone",
          made_at: "timestamp with time zone",
          sold_at: "timestamp with time zone",
        }),
      },
    },
    target: {
      role: "worker",
      lcMonetary: ["C"],
      tables: {
        authors: table("legacy_author_id", { name: column("text", true) }),
        books: {
          ...table("legacy_book_id", {
            author_id: column("uuid", true),
            title: column("text", true),
            made_at: column("timestamp with time zone"),
            format: column("book_format", false, ["paper", "audio", "lost", "other"]),
            price: column("numeric"),
            by_line: column("text", true),
            state: column("book_state", false, ["known", "unknown"]),
            notes: column("text"),
          }),
          foreignKeys: [{ column: "author_id", table: "public.authors", references: "id" }],
        },
      },
    },
  };
}

function found(change: (catalogs: Catalogs) => void, entities: readonly Entity[] = ENTITIES) {
  const catalogs = fitting();
  change(catalogs);
  const { source, target } = catalogs;
  return [
    ...compareSource(entities, source, { columns: KINDS, denied }),
    ...compareTarget(entities, target),
    ...compareTypes(entities, source, target, KINDS.target),
  ];
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the catalogs of this test do not have it");
  return value;
}
const book = ({ source }: Catalogs) => present(source.tables["book"]);
const bookColumn = (catalogs: Catalogs, name: string) => present(book(catalogs).columns[name]);
const target = (catalogs: Catalogs) => present(catalogs.target.tables["books"]);
const column = (catalogs: Catalogs, name: string) => present(target(catalogs).columns[name]);

interface Case {
  readonly code: keyof typeof FINDINGS;
  readonly violate: (catalogs: Catalogs) => void;
  /** What looks alike and is in order. */
  readonly nearMiss: (catalogs: Catalogs) => void;
  readonly on: { entity?: string | null; column?: string; severity?: "fatal" | "warn" };
  /** Of what the remedy speaks. */
  readonly remedy: RegExp;
}

const CASES: readonly Case[] = [
  {
    code: "source_version",
    violate: (c) => (c.source.serverVersion = 110_022),
    nearMiss: (c) => (c.source.serverVersion = 120_000),
    on: { entity: null },
    remedy: /Upgrade/,
  },
  {
    code: "source_table_missing",
    violate: (c) => delete c.source.tables["book"],
    nearMiss: (c) => (book(c).relkind = "p"),
    on: {},
    remedy: /Restore the table/,
  },
  {
    code: "capture_impossible",
    violate: (c) => (book(c).relkind = "v"),
    nearMiss: (c) => (book(c).relkind = "p"),
    on: {},
    remedy: /table behind it/,
  },
  {
    code: "source_column_missing",
    violate: (c) => delete book(c).columns["title"],
    // It is ignored.
    nearMiss: (c) => delete book(c).columns["cover"],
    on: { column: "title" },
    remedy: /Restore the column/,
  },
  {
    code: "source_column_type",
    violate: (c) => (bookColumn(c, "format").type = "text"),
    nearMiss: (c) => (bookColumn(c, "format").type = "smallint"),
    on: { column: "format" },
    remedy: /schema:types/,
  },
  {
    code: "source_stamp_type",
    violate: (c) => (bookColumn(c, "printed_at").type = "timestamp without time zone"),
    nearMiss: (c) => (bookColumn(c, "sold_at").type = "timestamp without time zone"),
    on: { column: "printed_at" },
    remedy: /alter the column's type/,
  },
  {
    code: "source_not_readable",
    violate: (c) => (bookColumn(c, "price").readable = false),
    nearMiss: (c) => (bookColumn(c, "cover").readable = false),
    on: {},
    remedy: /grant select \("xmin", "ctid", "price"\) on public\."book" to "reader"/,
  },
  {
    code: "source_rows_hidden",
    violate: (c) => (book(c).hidden = true),
    nearMiss: (c) => (c.source.tables["other"] = { ...book(c), hidden: true }),
    on: {},
    remedy: /bypassrls/,
  },
  {
    code: "source_column_new",
    violate: (c) => (book(c).columns["isbn"] = { ...bookColumn(c, "title") }),
    // A table that no entity reads is nobody's.
    nearMiss: (c) => (c.source.tables["review"] ??= { ...book(c) }),
    on: { column: "isbn", severity: "warn" },
    remedy: /ignored with a reason/,
  },
  {
    code: "target_table_missing",
    violate: (c) => (target(c).relkind = "v"),
    nearMiss: (c) => (target(c).relkind = "p"),
    on: {},
    remedy: /Create the table/,
  },
  {
    code: "target_primary_key",
    violate: (c) => (target(c).primaryKey = ["id", "title"]),
    nearMiss: (c) => target(c).unique.push("title"),
    on: { column: "id" },
    remedy: /primary key/,
  },
  {
    code: "target_rows_hidden",
    violate: (c) => (target(c).hidden = true),
    nearMiss: (c) => (c.target.tables["other"] = { ...target(c), hidden: true }),
    on: {},
    remedy: /alter role "worker" bypassrls/,
  },
  {
    code: "target_column_missing",
    violate: (c) => delete target(c).columns["by_line"],
    nearMiss: (c) => delete target(c).columns["notes"],
    on: { column: "by_line" },
    remedy: /Add the column/,
  },
  {
    code: "target_column_generated",
    violate: (c) => (column(c, "title").generated = true),
    nearMiss: (c) => (column(c, "notes").generated = true),
    on: { column: "title" },
    remedy: /ordinary column/,
  },
  {
    code: "target_column_type",
    violate: (c) => (column(c, "price").type = "integer"),
    nearMiss: (c) => (column(c, "title").type = "character varying"),
    on: { column: "price" },
    remedy: /column's type/,
  },
  {
    code: "zone_undeclared",
    violate: (c) => (bookColumn(c, "made_at").type = "timestamp without time zone"),
    nearMiss: (c) => {
      bookColumn(c, "made_at").type = "timestamp without time zone";
      column(c, "made_at").type = "timestamp without time zone";
    },
    on: { column: "made_at" },
    remedy: /inZone\("b\.made_at"/,
  },
  {
    code: "target_enum_member_missing",
    violate: (c) => (column(c, "format").members = ["paper", "audio"]),
    nearMiss: (c) => (column(c, "format").members = ["lost", "audio", "paper"]),
    on: { column: "format" },
    remedy: /alter type book_format add value 'lost';/,
  },
  {
    code: "target_column_required",
    violate: (c) => (column(c, "notes").required = true),
    nearMiss: (c) => (column(c, "id").required = true),
    on: { column: "notes" },
    remedy: /alter "notes" drop not null/,
  },
  {
    code: "target_legacy_key_not_unique",
    violate: (c) => (target(c).unique = ["id"]),
    nearMiss: (c) => target(c).unique.reverse(),
    on: { column: "legacy_book_id", severity: "fatal" },
    remedy: /^alter table public\."books" add unique \("legacy_book_id"\);$/,
  },
  {
    code: "target_legacy_key_not_unique",
    violate: (c) => Object.assign(target(c), { unique: ["id"], empty: false }),
    nearMiss: (c) => (target(c).empty = false),
    on: { column: "legacy_book_id", severity: "warn" },
    remedy: /^Merge the rows that share a value, then: alter table/,
  },
  {
    code: "target_legacy_key_not_indexed",
    violate: (c) => (target(c).indexed = ["id"]),
    nearMiss: (c) => target(c).indexed.push("notes"),
    on: { column: "legacy_book_id", severity: "warn" },
    remedy: /create index concurrently on public\."books" \("legacy_book_id"\);/,
  },
  {
    code: "target_foreign_key_missing",
    violate: (c) => (target(c).foreignKeys = []),
    nearMiss: (c) => target(c).foreignKeys.push({ column: "notes", table: "public.shelves", references: "id" }),
    on: { column: "author_id", severity: "warn" },
    remedy: /add foreign key \("author_id"\) references public\."authors" \(id\);/,
  },
  {
    code: "target_foreign_key_elsewhere",
    violate: (c) => (target(c).foreignKeys = [{ column: "author_id", table: "auth.authors", references: "id" }]),
    nearMiss: (c) => target(c).foreignKeys.push({ column: "author_id", table: "public.authors", references: "id" }),
    on: { column: "author_id" },
    remedy: /Look the id up/,
  },
  {
    code: "target_reference_unfed",
    violate: (c) => target(c).referred.push({ name: "books_id_fkey", columns: ["id"], table: "auth.prints", empty: true }),
    // Fed by an entity, or nothing of ours.
    nearMiss: (c) =>
      target(c).referred.push(
        { name: "by", columns: ["author_id"], table: "public.authors", empty: true },
        { name: "on", columns: ["notes"], table: "public.shelves", empty: true },
      ),
    on: { column: "id", severity: "fatal" },
    remedy: /feeds auth\.prints.*: alter table public\."books" drop constraint "books_id_fkey";$/,
  },
  {
    code: "target_reference_unfed",
    violate: (c) =>
      target(c).referred.push({ name: "fk", columns: ["legacy_book_id", "notes"], table: "public.shelves", empty: false }),
    // Its parent says where it is from; that the key leads elsewhere is told as such.
    nearMiss: (c) => target(c).referred.push({ name: "fk", columns: ["author_id"], table: "public.shelves", empty: false }),
    on: { column: "legacy_book_id", severity: "warn" },
    remedy: /have the application fill it before/,
  },
  {
    code: "target_grant_missing",
    violate: (c) => (column(c, "title").update = false),
    // Neither is written.
    nearMiss: (c) => Object.assign(column(c, "id"), { update: false }) && Object.assign(column(c, "notes"), { insert: false }),
    on: {},
    remedy: /grant select \(id, .*update \(.*"title".*on public\."books" to "worker";/,
  },
  {
    code: "target_not_released",
    violate: (c) => (target(c).released["books"] = target(c).released["books"]?.filter((name) => name !== "title") ?? []),
    // Nobody decides on it.
    nearMiss: (c) => (target(c).released["books"] = target(c).released["books"]?.filter((name) => name !== "notes") ?? []),
    on: { severity: "warn" },
    remedy: /select sync\.release_entity\('books', 'books', array\['legacy_book_id', .*'title'/,
  },
];

describe("the check of the catalogs", () => {
  it("finds nothing where both fit", () => {
    expect(found(() => undefined)).toEqual([]);
  });

  it.each(CASES)("finds $code ($on.severity), and not what is nearly that", ({ code, violate, nearMiss, on, remedy }) => {
    const findings = found(violate);
    // A table that two entities read is found for either.
    expect(findings.filter(({ entity: name }) => name !== "authors")).toEqual([
      {
        code,
        severity: on.severity ?? FINDINGS[code],
        entity: on.entity === undefined ? "books" : on.entity,
        table: on.entity === null ? null : (expect.stringMatching(/^books?$/) as string),
        column: on.column ?? null,
        message: expect.stringMatching(/\.$/) as string,
        remedy: expect.stringMatching(remedy) as string,
      },
    ]);
    expect(found(nearMiss)).toEqual([]);
  });

  it("has a case for every finding that needs no database of its own", () => {
    const elsewhere = ["source_key_type", "source_key_null", "source_key_repeated", "source_key_unproven"] as const;
    // Of the parties, not of their catalogs: tests/identities.pg.test.ts.
    const parties = [
      "source_unknown",
      "target_unknown",
      "installation_unknown",
      "target_state_unknown",
      "source_address_unknown",
      "target_address_unknown",
    ] as const;
    const covered = new Set<FindingCode>([
      ...CASES.map(({ code }) => code),
      ...elsewhere,
      ...parties,
      "source_refused",
      "side_effect",
      // Of a person's word: tests/control.pg.test.ts.
      "entity_paused",
      // Only a server tells: below, and tests/money-decimals.pg.test.ts.
      "money_decimals",
      "money_locale_hidden",
    ]);
    expect([...covered].sort()).toEqual(Object.keys(FINDINGS).sort());
  });

  it.each<[string, (c: Catalogs) => void, FindingCode | undefined]>([
    [
      "a foreign key to another column of the parent",
      (c) => Object.assign(target(c).foreignKeys[0] ?? {}, { references: "other_id" }),
      "target_foreign_key_elsewhere",
    ],
    ["a parent's id in a text column", (c) => (column(c, "author_id").type = "text"), "target_column_type"],
    ["money in a float column", (c) => (column(c, "price").type = "double precision"), "target_column_type"],
    ["money in a text column", (c) => (column(c, "price").type = "text"), "target_column_type"],
    [
      "a computed value in a column of another kind than at compile time",
      (c) => (column(c, "by_line").type = "integer"),
      "target_column_type",
    ],
    [
      "a computed value in an enum of unknown members",
      (c) => Object.assign(column(c, "by_line"), { type: "e", members: ["x"] }),
      "target_column_type",
    ],
    [
      "declared members in an enum that became text",
      (c) => Object.assign(column(c, "state"), { type: "text", members: null }),
      undefined,
    ],
    [
      "a member that decide() declares and the enum lost",
      (c) => (column(c, "state").members = ["unknown"]),
      "target_enum_member_missing",
    ],
    ["a source column that the target's text takes as well", (c) => (bookColumn(c, "title").type = "uuid"), "source_column_type"],
    ["no right to the transaction id", (c) => (bookColumn(c, "xmin").readable = false), "capture_impossible"],
    ["no right to delete where nothing leaves", (c) => (target(c).delete = false), undefined],
    ["no right to see who wrote a target row last", (c) => (target(c).xmin = false), "target_grant_missing"],
  ])("judges %s", (_, change, code) => {
    const codes = found(change).map((finding) => finding.code);
    expect(codes).toEqual(code === undefined ? [] : [code]);
  });

  it.each([
    ["timestamp without time zone", "timestamp with time zone", []],
    ["timestamp with time zone", "timestamp without time zone", []],
    ["timestamp with time zone", "timestamp with time zone", ["zone_undeclared"]],
    // A day has no time of its own, whatever its zone.
    ["date", "timestamp with time zone", ["source_column_type", "zone_undeclared"]],
    // Text takes the times that the zone's clocks skip and repeat, too.
    ["timestamp without time zone", "text", ["zone_undeclared"]],
    ["timestamp without time zone", "text", [], { skipped: "forward", repeated: "first" }],
  ] as const)("lets %s, read in a zone, into a column of type %s, or not: %j", (from, to, codes, rules?: ZoneRules) => {
    const made_at = inZone("b.made_at", "Europe/Zurich", "a test", rules);
    const zoned = { ...books, source: { ...books.source, columns: { ...books.source.columns, made_at } } };
    const findings = found(
      (c) => {
        bookColumn(c, "made_at").type = from;
        column(c, "made_at").type = to;
      },
      [authors, zoned],
    );
    expect(findings.map(({ code }) => code)).toEqual(codes);
  });

  it.each([
    ["inet", "inet", []],
    ["inet", "text", []],
    ["public.hstore", "extensions.hstore", []],
    ["inet", "cidr", ["target_column_type"]],
    ["tsrange", "tstzrange", ["target_column_type"]],
    ["text[]", "character varying[]", []],
    ["timestamp without time zone[]", "timestamp with time zone[]", ["target_column_type"]],
  ])("lets %s into a column of type %s, or not: %j", (from, to, codes) => {
    const findings = found((c) => {
      bookColumn(c, "made_at").type = from;
      column(c, "made_at").type = to;
    });
    expect(findings.map(({ code }) => code).filter((code) => code !== "source_column_type")).toEqual(codes);
  });

  it("a type in a schema that the sync's roles may not use is told with the grant", () => {
    const [finding] = found((c) => (column(c, "notes").typeSchema = "extensions"));
    expect(finding).toBeUndefined();
    expect(found((c) => (column(c, "title").typeSchema = "extensions"))).toMatchObject([
      { code: "target_grant_missing", remedy: 'grant usage on schema "extensions" to "worker", isthmus_decisions;' },
    ]);
  });

  it.each([
    ["price", "numeric", []],
    ["format", "numeric", []],
    ["format", "integer", []],
    ["price", "integer", ["target_column_type"]],
    ["format", "real", ["target_column_type"]],
  ])("lets money of %s into a column of type %s, or not: %j", (name, type, codes) => {
    const paying = { ...books, fields: { ...books.fields, price: f.money(name as never) } };
    const findings = found((c) => (column(c, "price").type = type), [authors, paying]);
    expect(findings.map(({ code }) => code)).toEqual(codes);
  });

  it.each(["price", "format"])("rounds no number of %s, which is no money, in a float column", (name) => {
    const rated = { ...books, fields: { ...books.fields, price: directCopy(name) } };
    const findings = found((c) => (column(c, "price").type = "double precision"), [authors, rated]);
    expect(findings.map(({ code }) => code)).toEqual(["target_column_type"]);
  });

  it("finds a column that a table which is only joined got, once, whoever reads the table", () => {
    const gain = (column: string) => (c: Catalogs) => {
      present(c.source.tables["author"]).columns[column] = { ...bookColumn(c, "title") };
    };
    const findings = found(gain("pen_name"), [books, { ...books, dependsOn: [] }]);
    expect(findings).toMatchObject([
      { code: "source_column_new", severity: "warn", entity: "books", table: "author", column: "pen_name" },
    ]);
    expect(found(gain("access_token"), [books])).toEqual([]);
    expect(found((c) => (c.source.tables["review"] = { ...book(c) }), [books])).toEqual([]);
  });

  it("asks for the right to delete where records leave", () => {
    const leaving: Entity = {
      ...books,
      source: {
        ...books.source,
        predicate: { name: "kept", version: 1, where: "b.price > 0", reason: "free", onLeave: "delete" },
      },
    };
    expect(found(() => undefined, [authors, leaving]).map(({ code }) => code)).toEqual(["target_grant_missing"]);
    expect(found((c) => (target(c).delete = true), [authors, leaving])).toEqual([]);
  });
});

describe("what writes to a target table set off", () => {
  const trigger = (type: number, more: object = {}) => ({
    name: "t",
    type,
    columns: [] as string[],
    function: "public.f",
    calls: [] as string[],
    definition: "d",
    ...more,
  });
  const effects = (change: (table: Mutable<TargetCatalog>["tables"][string]) => void) => {
    const catalogs = fitting();
    change(target(catalogs));
    return sideEffects(ENTITIES, catalogs.target).map(({ kind, does }) => [kind, does]);
  };
  it.each<[string, number, object, [string, string] | undefined]>([
    ["a toucher", 1 + 2 + 16, {}, ["trigger", "before update, for each row: public.f"]],
    ["a statement's trigger", 4 + 8, {}, ["trigger", "after insert or delete, for each statement: public.f"]],
    [
      "a database webhook",
      1 + 4,
      { function: "supabase_functions.http_request", calls: ["supabase_functions.http_request"] },
      ["webhook", "after insert, for each row: supabase_functions.http_request, which calls supabase_functions.http_request"],
    ],
    [
      "a function that posts",
      1 + 4,
      { calls: ["net.http_post"] },
      ["webhook", "after insert, for each row: public.f, which calls net.http_post"],
    ],
    [
      "a broadcast",
      1 + 4,
      { calls: ["realtime.send"] },
      ["trigger", "after insert, for each row: public.f, which calls realtime.send"],
    ],
    [
      "an update of a column that is written",
      1 + 16,
      { columns: ["title"] },
      ["trigger", "after update, for each row: public.f"],
    ],
    ["an update of a column that is not", 1 + 16, { columns: ["notes"] }, undefined],
    ["a truncate", 32, {}, undefined],
  ])("lists %s", (_, type, more, expected) => {
    expect(effects((table) => table.triggers.push(trigger(type, more)))).toEqual(expected ? [expected] : []);
  });

  it("lists rules and publications, of all tables too, and no publication of nothing", () => {
    expect(effects((table) => table.rules.push({ name: "r", event: "insert", definition: "d" }))).toEqual([
      ["rule", "on insert: the rule's own statement"],
    ]);
    expect(
      effects((table) => table.publications.push({ name: "supabase_realtime", all: false, writes: ["insert", "update"] })),
    ).toEqual([["publication", "Realtime sends every insert, update"]]);
    expect(effects((table) => table.publications.push({ name: "etl", all: true, writes: ["insert"] }))).toEqual([
      ["publication", "subscribers get every insert (the publication covers all tables)"],
    ]);
    expect(effects((table) => table.publications.push({ name: "etl", all: false, writes: [] }))).toEqual([]);
  });

  it("stops a first load, and warns after it", () => {
    const effect = { kind: "webhook", table: "books", name: "mail", does: "after insert", definition: "d" };
    const finding = (loaded: string[]) => effectFindings([effect], ENTITIES, new Set(loaded))[0];
    expect(finding([])).toMatchObject({ code: "side_effect", severity: "fatal", entity: "books" });
    expect(finding(["authors"])?.severity).toBe("fatal");
    expect(finding(["books"])?.severity).toBe("warn");
    expect(finding([])?.remedy).toContain("npm run sync -- acknowledge books");
    expect(effectFindings([{ ...effect, table: "elsewhere" }], ENTITIES, new Set())).toEqual([]);
  });
});

describe("who is left out", () => {
  const on = (name: string | null, severity: "fatal" | "warn") =>
    findingsOn(name, null)("source_refused", { severity, message: "m", remedy: "r" });
  const names = (findings: ReturnType<typeof on>[], requested = ENTITIES) => {
    const { runnable, paused, warnings } = pauseBroken(requested, findings);
    return {
      runnable: runnable.map(({ name }) => name),
      paused: paused.map(({ entity: name }) => name),
      warnings: warnings.length,
    };
  };
  it.each([
    ["nobody without findings", [], { runnable: ["authors", "books"], paused: [], warnings: 0 }],
    ["a fatal finding's own entity alone", [on("books", "fatal")], { runnable: ["authors"], paused: ["books"], warnings: 0 }],
    ["a parent without its children", [on("authors", "fatal")], { runnable: ["books"], paused: ["authors"], warnings: 0 }],
    ["nobody for a warning", [on("books", "warn")], { runnable: ["authors", "books"], paused: [], warnings: 1 }],
    [
      "everybody for a finding on the whole source",
      [on(null, "fatal")],
      { runnable: [], paused: ["authors", "books"], warnings: 0 },
    ],
    ["nobody for another entity's finding", [on("others", "fatal")], { runnable: ["authors", "books"], paused: [], warnings: 0 }],
  ])("is %s", (_, findings, expected) => {
    expect(names(findings)).toEqual(expected);
  });
});

describe("what identifies the rows of a source table", () => {
  const types = (type: string) =>
    found((c) => (bookColumn(c, "id").type = type))
      .filter(({ code }) => code === "source_key_type")
      .map(({ entity: name, table, column: key, remedy }) => ({ name, table, key, remedy }));

  it.each(["smallint", "integer", "bigint"])("may be %s", (type) => {
    expect(types(type)).toEqual([]);
  });

  it.each(["numeric", "text", "uuid", "double precision"])("may not be %s, and what to do is told", (type) => {
    expect(types(type)).toEqual([
      {
        name: "books",
        table: "book",
        key: "id",
        remedy: expect.stringMatching(type === "numeric" ? /type bigint/ : /generated always as identity unique/) as string,
      },
    ]);
  });

  const asked = (change: (c: Catalogs) => void, entities: readonly Entity[] = ENTITIES) => {
    const catalogs = fitting();
    change(catalogs);
    return keyQuestions(entities, catalogs.source)
      .filter(({ entity: name }) => name === "books")
      .map(({ table, columns, asks, use }) => `${table} ${columns.join("+")} ${asks} ${use}`);
  };
  const author = (c: Catalogs) => present(c.source.tables["author"]);
  const joinedBy = (...columns: string[]): Entity[] => [
    {
      ...books,
      source: {
        ...books.source,
        joins: { a: { table: "author", key: "id", on: Object.fromEntries(columns.map((one) => [one, "b.author_id"])) } },
      },
    },
  ];

  it.each<[string, (c: Catalogs) => void, readonly Entity[], readonly string[]]>([
    ["a primary key says all", () => undefined, ENTITIES, []],
    [
      "nothing is kept, as of a view",
      (c) => (book(c).kept = { notNull: [], unique: [] }),
      ENTITIES,
      ["book id null key", "book id repeated key"],
    ],
    ["a unique column may be null", (c) => (book(c).kept.notNull = []), ENTITIES, ["book id null key"]],
    ["no unique index", (c) => (book(c).kept.unique = []), ENTITIES, ["book id repeated key"]],
    ["one over more columns", (c) => (book(c).kept.unique = [["format", "id"]]), ENTITIES, ["book id repeated key"]],
    ["a joined table's rows", (c) => (author(c).kept.unique = []), ENTITIES, ["author id repeated key"]],
    ["a join by a column that repeats", () => undefined, joinedBy("name"), ["author name repeated join"]],
    ["a join by more than a unique column", () => undefined, joinedBy("name", "id"), []],
    [
      "a join by two columns that are unique together",
      (c) => (author(c).kept.unique = [["id"], ["house", "name"]]),
      joinedBy("name", "house"),
      [],
    ],
    [
      "a column that the role may not read: that is told",
      (c) => Object.assign(bookColumn(c, "id"), { readable: false }) && (book(c).kept.unique = []),
      ENTITIES,
      [],
    ],
  ])("is asked of the rows where the catalog does not say it: %s", (_, change, entities, questions) => {
    expect(
      asked((c) => {
        Object.assign(author(c).columns, { house: { type: "text", enum: false, readable: true } });
        change(c);
      }, entities),
    ).toEqual(questions);
  });

  it.each(["null", "repeated"] as const)(
    "leaves the entity out when rows answer that it is %s, and warns when they do not answer",
    (asks) => {
      const question = { entity: "books", table: "book", columns: ["id"], asks, use: "key" } as const;
      expect(answered(question, false)).toEqual([]);
      expect(answered(question, true)).toMatchObject([
        { code: `source_key_${asks}`, severity: "fatal", entity: "books", table: "book", column: "id" },
      ]);
      expect(answered(question, undefined)).toMatchObject([
        { code: "source_key_unproven", severity: "warn", entity: "books", column: "id" },
      ]);
    },
  );
});

describe("amounts of money", () => {
  const catalogs = (change: (c: Catalogs) => void): Catalogs => {
    const made = fitting();
    change(made);
    return made;
  };

  it("are asked about where an entity reads or fills a column of the type, an array too", () => {
    const made = catalogs((c) => {
      Object.assign(bookColumn(c, "price"), { type: "money", money: true });
      Object.assign(bookColumn(c, "cover"), { type: "money", money: true });
      Object.assign(column(c, "title"), { type: "money[]", money: true });
      Object.assign(column(c, "notes"), { type: "money", money: true });
    });
    expect(moneyColumns(ENTITIES, made, "source")).toEqual([{ entity: "books", table: "book", column: "price", type: "money" }]);
    expect(moneyColumns(ENTITIES, made, "target")).toEqual([
      { entity: "books", table: "books", column: "title", type: "money[]" },
    ]);
    expect(
      moneyColumns(
        ENTITIES,
        catalogs(() => undefined),
        "source",
      ),
    ).toEqual([]);
  });

  it.each([
    ["source", "reads"],
    ["target", "writes"],
  ] as const)("of other decimals than two are refused on the %s, by the name of the locale", (side, does) => {
    const columns = [{ entity: "books", table: "book", column: "price", type: "money[]" }];
    const scales = new Map([
      ["C", 100],
      ["ja_JP.utf8", 1],
      ["ar_BH", 1_000],
    ]);
    const findings = moneyFindings(columns, side, scales);
    expect(findings).toMatchObject([
      { code: "money_decimals", severity: "fatal", entity: "books", table: "book", column: "price" },
      { code: "money_decimals" },
    ]);
    expect(findings[0]?.message).toContain(
      `lc_monetary = ja_JP.utf8 of the ${side} gives amounts no decimals, where the sync ${does} two`,
    );
    expect(findings[1]?.message).toContain("3 decimals");
    expect(moneyFindings(columns, side, new Map([["xx_XX", undefined]]))).toMatchObject([
      { code: "money_decimals", message: expect.stringContaining("does not have the locale") as string },
    ]);
    expect(findings[0]?.remedy).toMatch(/alter table public\."book" alter column "price" type numeric\[\];/);
    expect(
      moneyFindings(
        columns,
        side,
        new Map([
          ["C", 100],
          ["en_US.utf8", 100],
        ]),
      ),
    ).toEqual([]);
  });
});
