import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadConfig } from "../shared/config.ts";
import { ident, integerArray } from "../shared/db/ident.ts";
import { describeError, ERRORS, IsthmusError } from "../shared/errors.ts";
import { equalSecrets } from "../shared/http/authenticate.ts";
import { HIGHEST, LOWEST } from "../shared/sql/key-range.ts";
import { chooseCapture, splitRange } from "../shared/plan/choose-capture.ts";
import { dependencyOrder, withAncestors } from "../shared/plan/dependency-order.ts";
import { nextTime } from "../shared/tick/start-jobs.ts";
import { differingBuckets, total } from "../shared/page/validate.ts";
import { denied } from "../clinic/denied.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { createBuilders } from "../shared/entity/fields.ts";
import { definitionHash, validateRegistry } from "../shared/entity/validate-registry.ts";
import { seal, unseal } from "../shared/cache/mapping-cache.ts";
import { addDecimals } from "../shared/sql/decimals.ts";
import { mintUuid } from "../shared/page/mint-uuid.ts";
import {
  MEMORY_BUDGET_BYTES,
  nextPageSize,
  nextWindowSize,
  PAGE_BYTES,
  SENT_BYTES,
  smallerPageSize,
} from "../shared/page/page-size.ts";

const HASH = "a".repeat(40);
const server = { system_identifier: "1", timeline: 1, database_oid: "5" };
const position = {
  ...server,
  xmin: "5000",
  xmax: "5010",
  server_start: "monday",
  in_recovery: false,
  server_version: 170_000,
  source_time: "2026-01-02T00:00:00+00:00",
};
const watermark = { at: "2026-01-01T00:00:00.000001+00:00", id: "7" };
const checkpoint = {
  ...server,
  entity: "patients",
  horizon: "4000",
  server_starts: ["sunday", "monday"],
  definition_hash: HASH,
  snapshot_xmax: null,
  watermark_at: watermark.at,
  watermark_id: watermark.id,
};

describe("how changes are found", () => {
  it.each([
    ["nothing was read before", undefined, position, HASH, "auto", { capture: "full", reason: "first_time" }],
    ["all is well", checkpoint, position, HASH, "auto", { capture: "xmin", from: "4000", digest: false }],
    ["xmin is asked for", checkpoint, position, HASH, "xmin", { capture: "xmin", from: "4000", digest: false }],
    ["a comparison is asked for", checkpoint, position, HASH, "digest", { capture: "xmin", from: "4000", digest: true }],
    [
      "modified rows are asked for on a server that nobody knows",
      checkpoint,
      { ...position, server_start: "tuesday" },
      HASH,
      "modified",
      { capture: "xmin", from: "4000", digest: true },
    ],
    ["modified rows are asked for", checkpoint, position, HASH, "modified", { capture: "modified", after: watermark }],
    ["they are, and nothing was read", undefined, position, HASH, "modified", { capture: "full", reason: "first_time" }],
    [
      "they are, and the entity file changed",
      checkpoint,
      position,
      "b",
      "modified",
      { capture: "full", reason: "definition_changed" },
    ],
    ["a full pass is asked for", checkpoint, position, HASH, "full", { capture: "full", reason: "requested" }],
    [
      "another server answers",
      checkpoint,
      { ...position, system_identifier: "2" },
      HASH,
      "auto",
      { capture: "full", reason: "source_changed" },
    ],
    [
      "the server failed over, or was restored to a point in time and has moved on",
      checkpoint,
      { ...position, timeline: 2 },
      HASH,
      "auto",
      { capture: "full", reason: "source_promoted" },
    ],
    [
      "the server was restored to a point in time, or failed over and lost transactions",
      checkpoint,
      { ...position, timeline: 2, xmin: "3999" },
      HASH,
      "auto",
      { capture: "full", reason: "source_restored" },
    ],
    [
      "a replica lags behind a promoted one",
      checkpoint,
      { ...position, timeline: 2, xmin: "3999", in_recovery: true },
      HASH,
      "auto",
      { capture: "wait" },
    ],
    [
      "another database of the server answers",
      checkpoint,
      { ...position, database_oid: "6" },
      HASH,
      "auto",
      { capture: "full", reason: "source_changed" },
    ],
    ["a replica lags behind", checkpoint, { ...position, xmin: "3999", in_recovery: true }, HASH, "full", { capture: "wait" }],
    [
      "a replica is just there",
      checkpoint,
      { ...position, xmin: "4000", in_recovery: true },
      HASH,
      "auto",
      { capture: "xmin", from: "4000", digest: false },
    ],
    [
      "a primary is behind: it was put back",
      checkpoint,
      { ...position, xmin: "3999" },
      HASH,
      "auto",
      { capture: "full", reason: "source_restored" },
    ],
    [
      "a server answers that started since",
      checkpoint,
      { ...position, server_start: "tuesday" },
      HASH,
      "auto",
      { capture: "xmin", from: "4000", digest: true },
    ],
    ["the entity file changed", checkpoint, position, "b", "auto", { capture: "full", reason: "definition_changed" }],
    [
      "2^31 transactions passed",
      checkpoint,
      { ...position, xmin: "2147487000", xmax: "2147487648" },
      HASH,
      "auto",
      { capture: "full", reason: "too_long_ago" },
    ],
    [
      "one fewer passed",
      checkpoint,
      { ...position, xmin: "2147487000", xmax: "2147487647" },
      HASH,
      "auto",
      { capture: "xmin", from: "4000", digest: false },
    ],
  ] as const)("when %s", (_, known, now, hash, requested, choice) => {
    expect(chooseCapture(known, now, hash, requested, true)).toEqual(choice);
  });

  it("when modified rows are asked for of an entity without such a column, as by default", () => {
    expect(chooseCapture(checkpoint, position, HASH, "modified", false)).toEqual({
      capture: "xmin",
      from: "4000",
      digest: false,
    });
  });
});

describe("key ranges of a full pass", () => {
  it("cover every integer exactly once, at most as many as allowed", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.bigInt(-1_000n, 1_000n), fc.constantFrom(LOWEST, LOWEST + 1n, HIGHEST - 3n, HIGHEST)),
        fc.oneof(fc.bigInt(0n, 5_000n), fc.constant(HIGHEST - LOWEST)),
        fc.integer({ min: 0, max: 100_000 }),
        fc.integer({ min: 1, max: 9 }),
        fc.oneof(fc.bigInt(-9_000n, 9_000n), fc.bigInt(LOWEST, HIGHEST), fc.constantFrom(LOWEST, HIGHEST)),
        (low, width, rows, chains, key) => {
          const high = low + width > HIGHEST ? HIGHEST : low + width;
          const ranges = splitRange(low.toString(), high.toString(), rows, 1_000, chains);
          const bounds = ranges.flatMap(({ range_from, range_to }) => [range_from, range_to]);
          // Each is a bigint of the target.
          expect(bounds.filter((bound) => bound !== null && BigInt.asIntN(64, BigInt(bound)) !== BigInt(bound))).toEqual([]);
          expect(ranges.length).toBeLessThanOrEqual(chains);
          const holding = ranges.filter(
            ({ range_from, range_to }) =>
              (range_from === null || key >= BigInt(range_from)) && (range_to === null || key <= BigInt(range_to)),
          );
          expect(holding).toHaveLength(1);
        },
      ),
    );
  });
  it("is one open range for an empty table", () => {
    expect(splitRange(null, null, 0, 1_000, 4)).toEqual([{ range_from: null, range_to: null }]);
  });
});

describe("order of entities", () => {
  it("puts every parent before its children", () => {
    const order = dependencyOrder(registry).map((entity) => entity.name);
    for (const entity of registry)
      for (const parent of entity.dependsOn) expect(order.indexOf(parent)).toBeLessThan(order.indexOf(entity.name));
    expect(order).toHaveLength(registry.length);
  });

  it("puts those that are to come first, and what they depend on, before all others; parents still before children", () => {
    const order = dependencyOrder(registry, ["payments", "offices"]).map((entity) => entity.name);
    const all = new Map(registry.map((entity) => [entity.name, entity]));
    const first = withAncestors(all, ["payments", "offices"]);
    expect(new Set(order.slice(0, first.length))).toEqual(new Set(first));
    for (const entity of registry)
      for (const parent of entity.dependsOn) expect(order.indexOf(parent)).toBeLessThan(order.indexOf(entity.name));
    expect(order).toHaveLength(registry.length);
  });
});

describe("doctors and profiles", () => {
  /** Source table and column of each id that is looked up as a doctor; a patient's doctor comes from a join as well. */
  const named = registry.flatMap(({ fields, source: { table, alias, joins, columns } }) =>
    Object.values(fields).flatMap((field) => {
      const column = field.parent === "doctors" ? columns[field.columns[0] ?? ""] : undefined;
      if (typeof column !== "string") return [];
      const [of = "", name = ""] = column.split(".");
      return [`${of === alias ? table : (joins[of]?.table ?? of)}.${name}`];
    }),
  );
  it.each(["doctors", "profiles"])("%s take everybody who is named as a doctor anywhere for one", (name) => {
    const entity = registry.find((one) => one.name === name);
    const asked = `${entity?.source.where ?? ""}${JSON.stringify(entity?.source.columns)}`;
    const traces = Object.entries(entity?.source.watches ?? {}).flatMap(([alias, { table, on }]) =>
      Object.keys(on).flatMap((column) => (asked.includes(`${alias}.${column} = u.id`) ? [`${table}.${column}`] : [])),
    );
    expect(named.length).toBeGreaterThan(7);
    expect(named.filter((trace) => !traces.includes(trace))).toEqual([]);
  });
});

describe("the registry", () => {
  it("has no problems", () => expect(validateRegistry(registry, denied)).toEqual([]));

  const [offices, patients, profiles] = ["offices", "patients", "profiles"].map((name) =>
    registry.find((entity) => entity.name === name),
  );
  if (!offices || !patients || !profiles) throw new Error("entities are missing");
  /** Offices that read a column, with a field that does. */
  const reading = (column: string, sensitive: boolean) => {
    const { name } = offices.fields;
    if (!name) throw new Error("offices have no name");
    const source = { ...offices.source, columns: { ...offices.source.columns, secret: `o.${column}` } };
    return [{ ...offices, source, fields: { ...offices.fields, name: { ...name, columns: ["name", "secret"], sensitive } } }];
  };
  const OPT_IN = { card_bin: "Chargebacks are sorted by issuing bank." };
  it("denies the BIN of a card unless somebody has opted in to it with a reason, and then it is sensitive", () => {
    const refused = ["offices: column secret reads card_bin, which never leaves the source."];
    expect(validateRegistry(reading("card_bin", true), denied)).toEqual(refused);
    expect(validateRegistry(reading("card_bin", true), { ...denied, optedIn: { card_bin: "" } })).toEqual(refused);
    expect(validateRegistry(reading("card_bin", true), { ...denied, optedIn: OPT_IN })).toEqual([]);
    expect(validateRegistry(reading("card_bin", false), { ...denied, optedIn: OPT_IN })).toEqual([
      "offices: field name reads card_bin: mark it sensitive.",
    ]);
  });
  it.each(["password", "access_token"])("denies %s whatever somebody opts in to", (column) => {
    const optedIn = { ...OPT_IN, password: "Why not?", access_token: "Why not?" };
    expect(validateRegistry(reading(column, true), { ...denied, optedIn })).toEqual([
      `offices: column secret reads ${column}, which never leaves the source.`,
    ]);
  });

  const asking = (where: string) => [{ ...profiles, source: { ...profiles.source, where } }];
  const RULE = { id: "named", version: 1, severity: "warn", fields: ["name"], remedy: "Name it.", holds: () => true } as const;
  const PREDICATE = { name: "valid", version: 1, where: "o.valid", reason: "closed", onLeave: "delete" } as const;
  const expressing = (sql: string) => [
    { ...profiles, source: { ...profiles.source, columns: { ...profiles.source.columns, username: { sql, type: "text" } } } },
  ];
  const joining = (kind: "joins" | "watches", alias: string, on: Readonly<Record<string, string>>) => {
    const step = { table: "dispatch_usersetting" as const, on };
    return [{ ...profiles, source: { ...profiles.source, [kind]: { ...profiles.source[kind], [alias]: step } } }];
  };
  const waiving = (predicate: object, where?: string) => [
    { ...offices, source: { ...offices.source, where, predicate: { ...PREDICATE, ...predicate } } },
  ];
  /** The registry, with a field more in each of these entities, which alone says whom it depends on. */
  const needing = (parents: Readonly<Record<string, string>>) =>
    registry.map((entity) => {
      const parent = parents[entity.name];
      const [field] = Object.values(entity.fields);
      if (parent === undefined || field === undefined) return entity;
      const fields = { ...entity.fields, [`needs_${parent}`]: { ...field, parent } };
      return { ...entity, fields, dependsOn: [parent] };
    });
  it("gives an entity another hash when a field asks whether its records have landed as others", () => {
    const asks = (landedAs: readonly ("doctors" | "technicians")[]) => {
      const field = createBuilders("profiles").decide([], () => ({ value: "doctor" }), { landedAs });
      return definitionHash({ ...profiles, fields: { ...profiles.fields, profile_type: field } });
    };
    expect(asks(["doctors"])).toBe(asks(["doctors"]));
    expect(asks(["doctors", "technicians"])).not.toBe(asks(["doctors"]));
  });
  it("accepts a predicate on an entity that nobody refers to", () => expect(validateRegistry(waiving({}), denied)).toEqual([]));
  it.each([
    "u.id * 2 > (select count(*) from public.dispatch_patient dp where dp.user_id = u.id)",
    `upper(u."username") = ' u is it''s ' || p.public`,
  ])("accepts %s as a condition", (where) => {
    const others = registry.filter((entity) => entity !== profiles);
    expect(validateRegistry([...asking(where), ...others], denied)).toEqual([]);
  });
  it.each([
    ["an entity defined twice", [offices, offices], /defined twice/],
    ["a parent that is no entity", [patients], /is not an entity/],
    [
      "the question whether a record has landed as one of another source row",
      [profiles, ...registry.filter(({ name }) => name === "doctors"), { ...offices, name: "technicians" }],
      /field profile_type asks whether a record has landed as technicians, which is not an entity of auth_user/,
    ],
    [
      "a denied column",
      [{ ...offices, source: { ...offices.source, columns: { ...offices.source.columns, secret: "o.password" } } }],
      /never leaves the source/,
    ],
    [
      "a column nobody uses",
      [{ ...offices, source: { ...offices.source, columns: { ...offices.source.columns, extra: "o.extra" } } }],
      /no field uses it/,
    ],
    ["a field without its column", [{ ...offices, source: { ...offices.source, columns: {} } }], /not declared/],
    [
      "an ignored column without a reason",
      [{ ...offices, source: { ...offices.source, ignored: { extra: " " } } }],
      /needs a reason/,
    ],
    ["a rule defined twice", [{ ...offices, rules: [RULE, { ...RULE, version: 2 }] }], /offices: rule named is defined twice/],
    ["a rule without a version", [{ ...offices, rules: [{ ...RULE, version: 0 }] }], /needs a plain name and a version/],
    ["a rule without a remedy", [{ ...offices, rules: [{ ...RULE, remedy: " " }] }], /needs a remedy/],
    ["a rule about no field", [{ ...offices, rules: [{ ...RULE, fields: ["nme"] }] }], /nme, which is no field/],
    ["a predicate without a version", waiving({ version: 0 }), /valid@0 needs a plain name and a version/],
    ["a predicate without a plain name", waiving({ name: "is valid" }), /needs a plain name and a version/],
    ["a predicate without a condition", waiving({ where: " " }), /needs a condition/],
    ["a predicate without a reason", waiving({ reason: " " }), /needs a reason/],
    ["a predicate beside a plain where", waiving({}, "true"), /instead of where/],
    [
      "a predicate on an entity that others refer to",
      [...waiving({}), ...registry.filter((entity) => entity !== offices)],
      /offices: predicate valid@1 would waive records that .*patients.* may refer to/,
    ],
    [
      "an alias defined twice",
      [
        {
          ...profiles,
          source: {
            ...profiles.source,
            watches: { ...profiles.source.watches, p: { table: "dispatch_office" as const, on: {} } },
          },
        },
      ],
      /the alias p is defined twice/,
    ],
    ["a joined row read as a whole", asking("to_jsonb(p) is not null"), /p is read as a whole row/],
    ["all columns of a joined row", asking("(select p.*) is not null"), /p is read as a whole row/],
    ["the driving row as an expression", expressing("u"), /u is read as a whole row/],
    ["the driving row behind an operator", expressing("'' || u"), /u is read as a whole row/],
    ["the driving row in an array", expressing("array[u]::text"), /u is read as a whole row/],
    ["the driving row in quotes", expressing('"u"::text'), /u is read as a whole row/],
    ["the driving row in capitals", expressing("U::text"), /u is read as a whole row/],
    ["the driving row under an odd name", expressing('(select t::text from (select u ".x") t)'), /u is read as a whole row/],
    ["the driving row by its star", expressing("(u.*)::text"), /u is read as a whole row/],
    ["a watched row as a whole", asking("exists (select from public.dispatch_patient dp where dp is not null)"), /dp is read/],
    [
      "every column of a watched table",
      expressing("(select t::text from (select * from public.dispatch_patient dp) t)"),
      /\* reads every column/,
    ],
    [
      "a table behind a comma",
      asking("exists (select from public.dispatch_patient dp, auth_user x where x::text = '')"),
      /otherwise than by from or join/,
    ],
    ["a table as a whole", expressing("(select 1 from (table public.auth_user) x)"), /otherwise than by from or join/],
    ["a comment", expressing("u.username -- '\n || u"), /comments, escapes/],
    ["an escape", expressing("e'\\'' || u || ''"), /comments, escapes/],
    ["a dollar quote", expressing("$$'$$ || u || $$'$$"), /comments, escapes/],
    ["a name in escapes", expressing('u.u&"p\\0061ssword"'), /comments, escapes/],
    ["a denied column in where", asking("u.password <> ''"), /its SQL names password, which never leaves/],
    ["a watched table's denied column in where", asking("s.\"access_token\" <> ''"), /its SQL names access_token/],
    ["a denied column in a predicate", waiving({ where: "o.access_token is null" }), /its SQL names access_token/],
    ["a join by a denied column", joining("joins", "x", { access_token: "u.id" }), /its SQL names access_token/],
    ["a join to a denied column", joining("joins", "x", { user_id: "u.password" }), /its SQL names password/],
    ["a watch by a denied column", joining("watches", "x", { user_id: "u.id", card_bin: "u.id" }), /its SQL names card_bin/],
    [
      "a query of a table that is not watched",
      asking("exists (select from public.dispatch_jaw j where j.id = u.id)"),
      /asks about dispatch_jaw j, which no watch/,
    ],
    [
      "a query of a watched table under another alias",
      asking("exists (select from dispatch_payment AS x where x.doctor_id = u.id)"),
      /asks about dispatch_payment x, which no watch/,
    ],
    [
      "a circle",
      [{ ...offices, dependsOn: ["patients"] }, patients, ...registry.filter((e) => e !== offices && e !== patients)],
      /in a circle/,
    ],
    [
      "a circle of required parents, with the fields that close it",
      needing({ roles: "templates", templates: "files", files: "roles", messages: "files" }),
      /^(roles|templates|files)\.needs_\w+ → (roles|templates|files)\.needs_\w+ → (roles|templates|files)\.needs_\w+ → \1: depend on each other in a circle, [^\n]*$/,
    ],
    [
      "each of two circles, and nobody who is in none",
      needing({ roles: "templates", templates: "roles", files: "comments", comments: "files", messages: "files" }),
      /^(?=[\s\S]*roles\.needs_templates → )(?=[\s\S]*files\.needs_comments → )[^\n]* in a circle, [^\n]*\n[^\n]* in a circle, [^\n]*$/,
    ],
  ])("refuses %s", (_, entities, problem) => {
    expect(validateRegistry(entities, denied).join("\n")).toMatch(problem);
  });
});

describe("page size", () => {
  const idle = { records: 1_000, unread: 0, bytesIn: 1e6, bytesOut: 2e6, heapBytes: 50e6, wallMs: 500 };
  const sizes = { current: 1_000, first: 1_000, maximum: 5_000, slow: false };
  const budget = { leaseSeconds: 60, pagesAtATime: 1 };
  it.each([
    ["grows while every budget is half free", idle, 2_000],
    ["stays in between", { ...idle, heapBytes: MEMORY_BUDGET_BYTES * 0.7 }, 1_000],
    ["shrinks over the memory budget", { ...idle, heapBytes: MEMORY_BUDGET_BYTES * 1.6 }, 500],
    ["shrinks over the bytes that a page may read", { ...idle, bytesIn: PAGE_BYTES * 2 }, 400],
    ["shrinks over the bytes that a page may send", { ...idle, bytesOut: SENT_BYTES * 2 }, 400],
    ["stays when what it sends fills it", { ...idle, bytesOut: SENT_BYTES * 0.7 }, 1_000],
    ["stays when large records fill it", { ...idle, bytesIn: PAGE_BYTES * 0.7 }, 1_000],
    ["shrinks when a page takes over half a lease", { ...idle, wallMs: 60_000 }, 400],
    ["does not grow from a page that was not full", { ...idle, records: 10 }, 1_000],
    ["does not grow from what it has left unread", { ...idle, records: 10, unread: 8_000 }, 1_000],
    [
      "shrinks when looking at what it leaves unread takes too long",
      { ...idle, records: 10, unread: 8_000, wallMs: 60_000 },
      400,
    ],
    ["shrinks when an isolate's pages would together take more CPU than it may have", { ...idle, records: 40_000 }, 288],
    ["works where the platform tells nothing", { ...idle, heapBytes: null }, 2_000],
  ])("%s", (_, measured, size) => expect(nextPageSize(sizes, budget, measured)).toBe(size));
  it("keeps to its bounds", () => {
    expect(nextPageSize({ ...sizes, current: 4_000 }, budget, { ...idle, records: 4_000, bytesIn: 1e5, bytesOut: 1e5 })).toBe(
      5_000,
    );
    expect(nextPageSize({ ...sizes, current: 2 }, budget, { ...idle, records: 2, wallMs: 1e6 })).toBe(1);
  });
  it("halves down to one record when a limit ends a page, and grows by a quarter at most from there", () => {
    const halved = [2_000];
    for (let size = 2_000; size > 1; size = smallerPageSize(size)) halved.push(smallerPageSize(size));
    expect(halved).toEqual([2_000, 1_000, 500, 250, 125, 62, 31, 15, 7, 3, 1]);
    const grown = [1];
    for (let size = 1; grown.length < 8; grown.push(size))
      size = nextPageSize({ current: size, first: 1_000, maximum: 5_000, slow: true }, budget, { ...idle, records: size });
    expect(grown).toEqual([1, 2, 3, 4, 5, 7, 9, 12]);
  });
  it("grows back to what an execution began with over records that it leaves unread, and no further", () => {
    const grown = [1];
    for (let size = 1; size < 1_000; grown.push(size))
      size = nextPageSize({ current: size, first: 1_000, maximum: 5_000, slow: true }, budget, {
        ...idle,
        records: 0,
        unread: 4 * size,
      });
    expect(grown.slice(0, 8)).toEqual([1, 2, 3, 4, 5, 7, 9, 12]);
    expect(grown.at(-1)).toBe(1_000);
  });
  it("of a page that reads no records stays, and after a limit comes back to what it was", () => {
    expect(nextWindowSize({ current: 200, maximum: 200, slow: false })).toBe(200);
    expect(nextWindowSize({ current: 100, maximum: 200, slow: true })).toBe(125);
    expect(nextWindowSize({ current: 190, maximum: 200, slow: true })).toBe(200);
  });
});

describe("minted ids", () => {
  /** RFC 9562, 5.5, by Node's own SHA-1. */
  const reference = (namespace: string, name: string) => {
    const digest = createHash("sha1")
      .update(Buffer.from(namespace.replaceAll("-", ""), "hex"))
      .update(name)
      .digest()
      .subarray(0, 16);
    digest[6] = (digest.readUInt8(6) & 0x0f) | 0x50;
    digest[8] = (digest.readUInt8(8) & 0x3f) | 0x80;
    return digest.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  };
  it("are UUIDv5 of entity and legacy id under the source's namespace", () => {
    fc.assert(
      fc.property(fc.uuid(), fc.constantFrom("patients", "orders"), fc.bigInt(0n, 2n ** 62n), (namespace, entity, id) => {
        expect(mintUuid(namespace, entity, id.toString())).toBe(reference(namespace, `${entity}:${id}`));
      }),
    );
  });
});

describe("cached mappings", () => {
  const uuid = "00000000-0000-5000-8000-000000000001";
  it("come back under their own key", () => expect(unseal("k:1", seal("k:1", uuid))).toBe(uuid));
  it.each([
    ["another key's value", seal("k:2", uuid)],
    ["garbage", "x.y"],
    ["a bare id", uuid],
    ["nothing", null],
    ["a number", 7],
    ["a cut value", seal("k:1", uuid).slice(0, -1)],
  ])("read %s as nothing", (_, value) => expect(unseal("k:1", value)).toBeUndefined());
});

describe("control totals", () => {
  it("add decimals exactly", () => {
    const decimal = fc.tuple(fc.bigInt(-(10n ** 20n), 10n ** 20n), fc.integer({ min: 0, max: 4 })).map(([digits, scale]) => {
      const text = (digits < 0n ? -digits : digits).toString().padStart(scale + 1, "0");
      return {
        text: `${digits < 0n ? "-" : ""}${scale === 0 ? text : `${text.slice(0, -scale)}.${text.slice(-scale)}`}`,
        scaled: digits * 10n ** BigInt(4 - scale),
      };
    });
    fc.assert(
      fc.property(decimal, decimal, (a, b) => {
        const [whole = "0", fraction = ""] = addDecimals(a.text, b.text).split(".");
        expect(BigInt(whole + fraction.padEnd(4, "0"))).toBe(a.scaled + b.scaled);
      }),
    );
  });
  it("look into buckets that differ in count, in a sum, or exist on one side only", () => {
    const bucket = (name: string, n: string, amount: string | null) => ({ bucket: name, n, amount });
    expect(
      differingBuckets(
        [bucket("1", "2", "10"), bucket("2", "2", "10"), bucket("3", "2", "10"), bucket("4", "1", null)],
        [
          bucket("1", "2", "10"),
          bucket("2", "3", "10"),
          bucket("3", "2", "10.01"),
          bucket("5", "1", "1"),
          bucket("4", "1", null),
        ],
      ),
    ).toEqual(["2", "3", "5"]);
    expect(total([bucket("1", "2", "10.05"), bucket("2", "3", null)])).toEqual({ n: "5", amount: "10.05" });
  });
});

describe("job times", () => {
  const at = new Date("2026-03-28T12:00:00Z");
  it("follow the job's time zone through a change of the clocks", () => {
    expect(nextTime({ cron_expression: "30 6 * * *", time_zone: "Europe/Berlin" }, at)?.toISOString()).toBe(
      "2026-03-29T04:30:00.000Z",
    );
    expect(nextTime({ cron_expression: "30 6 * * *", time_zone: "UTC" }, at)?.toISOString()).toBe("2026-03-29T06:30:00.000Z");
  });
  it.each([
    { cron_expression: "every day", time_zone: "UTC" },
    { cron_expression: "0 2 * * *", time_zone: "Mars/Olympus" },
  ])("refuse %j with a clear error", (job) => expect(() => nextTime(job, at)).toThrow(IsthmusError));
});

describe("configuration", () => {
  const env = {
    SOURCE_DB_URL: "postgres://r:p@db.example.org/legacy",
    TARGET_DB_URL: "postgresql://w:p@pooler.example.org:6543/postgres",
    SUPABASE_URL: "https://abc.supabase.co",
    SUPABASE_SECRET_KEYS: '{"default":"s"}',
    SUPABASE_PUBLISHABLE_KEYS: '{"default":"p"}',
    QSTASH_TOKEN: "t",
    QSTASH_CURRENT_SIGNING_KEY: "a",
    QSTASH_NEXT_SIGNING_KEY: "b",
  };
  it("derives the functions' address and is frozen", () => {
    const config = loadConfig(env);
    expect(config.FUNCTIONS_URL).toBe("https://abc.supabase.co/functions/v1");
    expect(Object.isFrozen(config)).toBe(true);
    expect(config.SOURCE_DB_TLS).toBe("verify-full");
  });
  it.each([
    ["SOURCE_DB_URL", undefined],
    ["SOURCE_DB_URL", "mysql://x/y"],
    ["SUPABASE_SECRET_KEYS", "not json"],
    ["QSTASH_TOKEN", ""],
    ["SOURCE_DB_TLS", "maybe"],
  ])("names %s when it is %s, and never its value", (name, value) => {
    const error = (() => {
      try {
        return loadConfig({ ...env, [name]: value });
      } catch (thrown) {
        return thrown as IsthmusError;
      }
    })();
    expect(error).toBeInstanceOf(IsthmusError);
    expect((error as IsthmusError).message).toContain(name);
    if (value !== undefined && value.length > 3) expect((error as IsthmusError).message).not.toContain(value);
  });
});

describe("identifiers and arrays", () => {
  it.each([
    ["plain", '"plain"'],
    ['a"b', '"a""b"'],
    ["select", '"select"'],
  ])("quotes %s", (name, quoted) => expect(ident(name)).toBe(quoted));
  it.each(["", "a\u0000b"])("refuses %j", (name) => expect(() => ident(name)).toThrow(TypeError));
  it("binds only integers as ids", () => {
    expect(integerArray([1, "-2", 3n])).toBe("{1,-2,3}");
    expect(() => integerArray(["1}', 'x"])).toThrow(TypeError);
  });
});

describe("secrets", () => {
  it("compare as equal only when they are", () => {
    fc.assert(fc.property(fc.string(), fc.string(), (a, b) => equalSecrets(a, b) === (a === b) && equalSecrets(a, a)));
  });
});

describe("errors", () => {
  it("all say what happened and what to do", () => {
    for (const { meaning, remedy } of Object.values(ERRORS))
      expect([meaning.endsWith("."), remedy.endsWith(".")]).toEqual([true, true]);
  });
  it("hide what an unknown error says, because it might quote a row", () => {
    expect(JSON.stringify(describeError(new Error("Key (email)=(someone) exists")))).not.toContain("someone");
  });
});
