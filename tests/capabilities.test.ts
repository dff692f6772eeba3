import { describe, expect, it } from "vitest";
import { registry } from "../clinic/entities/registry.gen.ts";
import {
  improvements,
  recommend,
  SCAN_BYTES_PER_SECOND,
  serverFindings,
  tableFindings,
  tablesUsed,
  type TableFacts,
  type TableUse,
} from "../shared/contract/capabilities.ts";
import { needsXmin } from "../shared/contract/without-xmin.ts";
import type { SourceServerFacts } from "../shared/source/capabilities.ts";

const SERVER = { serverVersion: 150_004, role: "reader" };
const USE: TableUse = { table: "book", entities: ["books"], keys: ["id"], modified: undefined };
const STAMPED: TableUse = { ...USE, modified: "updated_at" };
const column = (type: string) => ({ type, money: false, parts: null, enum: false, readable: true });
const index = (name: string, ...columns: (string | null)[]) => ({ name, columns, usable: true });
const KEY = index("book_pkey", "id");
const STAMP = index("book_updated", "updated_at", "id");
const unusable = { ...STAMP, usable: false };
/** Scanned in five seconds. */
const BIG: TableFacts = {
  relkind: "r",
  hidden: false,
  rows: 5_000_000,
  bytes: 5 * SCAN_BYTES_PER_SECOND,
  columns: { xmin: column("xid"), id: column("integer"), updated_at: column("timestamp with time zone") },
  kept: { notNull: [], unique: [] },
  notNull: ["id", "updated_at"],
  indexes: [KEY],
};
const INDEXED = { ...BIG, indexes: [KEY, STAMP] };
const without = (name: string, readable?: boolean) => {
  const { [name]: gone, ...columns } = BIG.columns;
  return { ...BIG, columns: readable === undefined || !gone ? columns : { ...columns, [name]: { ...gone, readable } } };
};

describe("the capture that is recommended for a table", () => {
  it.each<[string, TableUse, TableFacts | undefined, number, object]>([
    [
      "an ordinary table: xmin",
      USE,
      BIG,
      150_004,
      { capture: "xmin", backedBy: "digest", seconds: 5, cost: /about 5\.0 s \(1000 MiB\)/ },
    ],
    ["a partitioned table: xmin", USE, { ...BIG, relkind: "p" }, 150_004, { capture: "xmin", backedBy: "digest" }],
    ["an index on a column that no entity declares: xmin", USE, INDEXED, 150_004, { capture: "xmin" }],
    [
      "a big table with an indexed modification time",
      STAMPED,
      INDEXED,
      150_004,
      { capture: "modified", backedBy: "xmin", seconds: null, reason: /5\.0 s; xmin finds what it misses$/ },
    ],
    [
      "one that may be NULL: what has none is named",
      STAMPED,
      { ...INDEXED, notNull: ["id"] },
      150_004,
      { capture: "modified", reason: /rows without it/ },
    ],
    [
      "a small one: the scan is shorter than the trouble",
      STAMPED,
      { ...INDEXED, bytes: 1_000_000 },
      150_004,
      { capture: "xmin", reason: /short/ },
    ],
    ["no index on it", STAMPED, BIG, 150_004, { capture: "xmin", reason: /no usable index .* \(updated_at, id\)/ }],
    [
      "an invalid or partial index",
      STAMPED,
      { ...BIG, indexes: [KEY, unusable] },
      150_004,
      { capture: "xmin", reason: /no usable index/ },
    ],
    [
      "an index on it that does not go on with the key",
      STAMPED,
      { ...BIG, indexes: [KEY, index("i", "updated_at")] },
      150_004,
      { capture: "xmin" },
    ],
    [
      "an index that leads with something else",
      STAMPED,
      { ...BIG, indexes: [index("i", "id", "updated_at")] },
      150_004,
      { capture: "xmin" },
    ],
    ["an index on an expression", STAMPED, { ...BIG, indexes: [KEY, index("i", null, "id")] }, 150_004, { capture: "xmin" }],
    [
      "a modification time that is text",
      STAMPED,
      { ...INDEXED, columns: { ...BIG.columns, updated_at: column("text") } },
      150_004,
      { capture: "xmin", reason: /no timestamp/ },
    ],
    ["one that is missing", STAMPED, without("updated_at"), 150_004, { capture: "xmin", reason: /no column/ }],
    ["one that is not readable", STAMPED, without("updated_at", false), 150_004, { capture: "xmin", reason: /may not read/ }],
    [
      "a view: digest",
      USE,
      { ...BIG, relkind: "v", bytes: 0 },
      150_004,
      { capture: "digest", backedBy: null, seconds: null, reason: /a view/ },
    ],
    ["a view with a modification time: still digest", STAMPED, { ...INDEXED, relkind: "v" }, 150_004, { capture: "digest" }],
    [
      "a materialised view: digest, at the cost of a scan",
      USE,
      { ...BIG, relkind: "m" },
      150_004,
      { capture: "digest", seconds: 5 },
    ],
    ["a foreign table: digest", USE, { ...BIG, relkind: "f", bytes: 0 }, 150_004, { capture: "digest", reason: /foreign/ }],
    [
      "rights on single columns, without xmin: digest",
      USE,
      without("xmin", false),
      150_004,
      { capture: "digest", reason: /xmin/ },
    ],
    ["row level security: none", USE, { ...BIG, hidden: true }, 150_004, { capture: null, reason: /row level security/ }],
    [
      "no rights: none",
      USE,
      { ...BIG, columns: { id: { ...column("integer"), readable: false } } },
      150_004,
      { capture: null, reason: /may not read/ },
    ],
    ["no table: none", USE, undefined, 150_004, { capture: null, reason: /no such table/ }],
    ["a server that is too old: none", USE, BIG, 90_600, { capture: null, reason: /too old/ }],
  ])("%s", (_, use, table, serverVersion, expected) => {
    const { ...found }: Record<string, unknown> = { ...recommend(use, table, { ...SERVER, serverVersion }) };
    for (const [name, value] of Object.entries(expected)) {
      if (value instanceof RegExp) expect(found[name]).toMatch(value);
      else expect(found[name]).toBe(value);
    }
  });
});

describe("what would make a table cheaper", () => {
  const sql = (use: TableUse, table: TableFacts) => improvements(use, table).map((one) => one.sql);
  it("nothing, where there is an index for the key and nothing else is declared", () => {
    expect(sql(USE, BIG)).toEqual([]);
    expect(tableFindings(USE, BIG)).toEqual([]);
    expect(sql(STAMPED, INDEXED)).toEqual([]);
  });
  it("an index on the key, and one on the modification time with the key behind it, built concurrently", () => {
    expect(sql(STAMPED, { ...BIG, indexes: [] })).toEqual([
      'create index concurrently "isthmus_book_id" on public."book" ("id");',
      'create index concurrently "isthmus_book_updated_at_id" on public."book" ("updated_at", "id");',
    ]);
    expect(tableFindings(STAMPED, { ...BIG, indexes: [] }).map(({ code }) => code)).toEqual([
      "source_key_not_indexed",
      "source_modified_not_indexed",
    ]);
  });
  it("an index on each other column by which joins find its rows", () => {
    expect(sql({ ...USE, keys: ["id", "user_id"] }, BIG)).toEqual([
      'create index concurrently "isthmus_book_user_id" on public."book" ("user_id");',
    ]);
  });
  it("what a build that failed has left behind is dropped first", () => {
    const left = { ...unusable, name: "isthmus_book_updated_at_id" };
    expect(sql(STAMPED, { ...BIG, indexes: [KEY, left] })[0]).toMatch(
      /^drop index concurrently public\."isthmus_book_updated_at_id"; create/,
    );
  });
  it("of a partitioned table not concurrently, and nothing of a view or a foreign table", () => {
    expect(sql(USE, { ...BIG, relkind: "p", indexes: [] })).toEqual(['create index "isthmus_book_id" on public."book" ("id");']);
    for (const relkind of ["v", "f"]) expect(sql(USE, { ...BIG, relkind, indexes: [] })).toEqual([]);
  });
});

describe("the role and the server", () => {
  const READER: SourceServerFacts = {
    replica: false,
    hotStandbyFeedback: "off",
    maxStandbyStreamingDelay: "30s",
    readOnlyByDefault: true,
    superuser: false,
    createsRoles: false,
    createsDatabases: false,
    createsTables: false,
    writable: [],
    log: { walLevel: "replica", mayReplicate: false },
  };
  it("a reader has nothing to mend", () => expect(serverFindings(READER, "reader")).toEqual([]));
  it.each<[Partial<SourceServerFacts>, RegExp]>([
    [{ superuser: true, createsRoles: true }, /setup-source/],
    [{ createsRoles: true, createsDatabases: true }, /alter role "reader" nocreaterole nocreatedb;/],
    [{ writable: ["book"] }, /revoke insert, update/],
    [{ createsTables: true }, /revoke create on schema/],
    [{ readOnlyByDefault: false }, /default_transaction_read_only = on/],
    [{ replica: true }, /hot_standby_feedback = on/],
  ])("%j is told once, with what to do", (more, remedy) => {
    const findings = serverFindings({ ...READER, ...more }, "reader");
    expect(findings).toMatchObject([{ severity: "warn" }]);
    expect(findings[0]?.remedy).toMatch(remedy);
  });
  it("a replica that tells the primary what it reads is in order", () => {
    expect(serverFindings({ ...READER, replica: true, hotStandbyFeedback: "on" }, "reader")).toEqual([]);
  });
});

it("captures that do not ask for written rows are the only ones that can do without xmin", () => {
  expect(["auto", "xmin", "modified", "log", "full", "digest", "keys"].filter(needsXmin)).toEqual([
    "auto",
    "xmin",
    "modified",
    "log",
  ]);
});

it("every table that an entity names is looked at, with its driving key first", () => {
  const uses = tablesUsed(registry);
  expect(uses.map(({ table }) => table)).toEqual(
    [
      ...new Set(
        registry.flatMap(({ source: { table, joins, watches } }) => [
          table,
          ...Object.values({ ...joins, ...watches }).map((step) => step.table),
        ]),
      ),
    ].sort(),
  );
  for (const { name, source } of registry) {
    const use = uses.find(({ table }) => table === source.table);
    expect(use?.entities).toContain(name);
    expect(use?.keys).toContain(source.key);
  }
});
