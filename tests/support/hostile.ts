import fc from "fast-check";
import { registry } from "../../clinic/entities/registry.gen.ts";

/** The same cases every time; a failure prints its case, and the path that repeats it. */
export const SEED = 20_261_128;

/** Names that mean something to JavaScript, to SQL or to nobody. */
const STRANGE_NAMES = [
  ...["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf", "then", "length", "0", "-1"],
  ...[
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "x\udc00y",
    "\ufeff",
    "\u202e",
    "null",
    "*",
    "%",
    "'; drop table x --",
    '"',
    "x".repeat(5_000),
  ],
];
const NUMBERS = [
  ...["0", "-0", "1", "-1", "1.5", "1e2", "1E400", "-1e-400", "9007199254740991", "9007199254740992", "9007199254740993"],
  ...["9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "2147483648", "1e21"],
];
const ENTITIES = registry.map(({ name }) => name);
const COLUMNS = [...new Set(registry.flatMap(({ source }) => source.filters))];
const FIELDS = [
  ...["entities", "capture", "dateRange", "legacyIds", "filters", "priorities", "pageSize", "dependants", "conflictStrategy"],
  ...["adopt", "dryRun", "tables", "by", "execution", "chain", "page", "sends", "format"],
];
const MOMENTS = [
  ...[
    "2026-01-31T08:00:00Z",
    "2026-02-01T00:00:00+02:00",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+15:59",
    "9999-12-31T23:59:59Z",
  ],
  ...["2026-01-01T00:00:00+23:59", "2026-02-30T00:00:00Z", "2026-01-01", "now", "infinity", "2026-01-01T00:00:00.1234567Z"],
];

export const strangeText = fc.oneof(
  fc.constantFrom(...STRANGE_NAMES),
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.constantFrom(...MOMENTS, ...NUMBERS, "auto", "full", "source_wins"),
);
const name = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...ENTITIES) }, { weight: 1, arbitrary: strangeText });
const text = (value: fc.Arbitrary<string>) => value.map((one) => JSON.stringify(one));
const number = fc.oneof(fc.constantFrom(...NUMBERS), fc.integer({ min: -3, max: 50 }).map(String));
const listOf = (item: fc.Arbitrary<string>, maxLength = 4) =>
  fc.array(item, { maxLength }).map((items) => `[${items.join(",")}]`);
const objectOf = (key: fc.Arbitrary<string>, value: fc.Arbitrary<string>, maxLength = 3) =>
  fc.array(fc.tuple(text(key), value), { maxLength }).map((entries) => `{${entries.map(([k, v]) => `${k}:${v}`).join(",")}}`);
const nested = fc
  .tuple(fc.constantFrom("[", '{"a":', '{"__proto__":'), fc.constantFrom(1, 50, 3_000))
  .map(([open, depth]) => `${open.repeat(depth)}1${(open === "[" ? "]" : "}").repeat(depth)}`);

/** Any JSON, as text: so that it can hold a key twice, and numbers that no double is. */
export const anyJson: fc.Arbitrary<string> = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.oneof(text(strangeText), number, fc.constantFrom("null", "true", "false", "[]", "{}", '""'), text(name)),
    listOf(tie("json")),
    objectOf(fc.oneof(strangeText, fc.constantFrom(...FIELDS)), tie("json")),
    nested,
  ),
})).json;

const often = (usual: fc.Arbitrary<string>) => fc.oneof({ weight: 5, arbitrary: usual }, { weight: 1, arbitrary: anyJson });
const id = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 50 }).map(String) },
  number,
  text(fc.constantFrom(...NUMBERS)),
);
const value = fc.oneof(number, text(strangeText), fc.constantFrom("true", "false", "null"));
const column = fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...COLUMNS) }, { weight: 1, arbitrary: strangeText });
const USUAL: Readonly<Record<string, fc.Arbitrary<string>>> = {
  entities: listOf(text(name)),
  priorities: listOf(text(name)),
  capture: text(fc.constantFrom("auto", "full", "digest", "xmin", "modified", "quick")),
  dateRange: objectOf(fc.constantFrom("from", "to", "by"), text(fc.constantFrom(...MOMENTS))),
  legacyIds: objectOf(name, listOf(id), 2),
  filters: objectOf(name, objectOf(column, fc.oneof(value, listOf(value)), 2), 2),
  pageSize: number,
  dependants: fc.constantFrom("true", "false"),
  conflictStrategy: text(fc.constantFrom("source_wins", "target_wins", "merge", "manual_review", "mine")),
  adopt: fc.constantFrom("true", "false"),
  dryRun: fc.constantFrom("true", "false"),
};

/** A request for a sync, right, nearly right or hostile, as JSON text. */
export const syncRequest: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      {
        weight: 8,
        arbitrary: fc
          .constantFrom(...Object.keys(USUAL))
          .chain((field) => fc.tuple(fc.constant(JSON.stringify(field)), often(USUAL[field] ?? anyJson))),
      },
      { weight: 1, arbitrary: fc.tuple(text(strangeText), anyJson) },
    ),
    { minLength: 0, maxLength: 4 },
  )
  .map((entries) => `{${entries.map(([k, v]) => `${k}:${v}`).join(",")}}`);
