import fc, { type Arbitrary } from "fast-check";

export interface TypedValues {
  /** As PostgreSQL writes it, with its modifier. */
  readonly type: string;
  /** Texts, most of which the type reads. */
  readonly values: Arbitrary<string>;
}

/** `count` values of an arbitrary; the same for the same seed. */
export function valuesOf(values: Arbitrary<string>, count: number, seed: number): string[] {
  return fc.sample(values, { numRuns: count, seed });
}

const edges = (arbitrary: Arbitrary<string>, ...known: string[]) => fc.oneof(arbitrary, fc.constantFrom(...known));
const pad = (n: number, width = 2) => String(n).padStart(width, "0");
const whole = (min: number, max: number) => fc.integer({ min, max }).map(String);
const big = (bits: number) => fc.bigInt({ min: -(2n ** BigInt(bits - 1)), max: 2n ** BigInt(bits - 1) - 1n }).map(String);
const digits = (max: number) =>
  fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: max }).map((list) => list.join(""));
const numeric = edges(
  fc.tuple(fc.constantFrom("", "-"), digits(40), digits(20)).map(([sign, a, b]) => `${sign}${a}.${b}`),
  ...["0", "-0.00", "1e-100", "1e200", "NaN", "99999.995", "0.1", "1.50"],
);
const double = edges(
  fc.double({ noDefaultInfinity: true }).map(String),
  "NaN",
  "Infinity",
  "-Infinity",
  "5e-324",
  "0.1",
  "1e308",
);
const single = edges(fc.float({ noDefaultInfinity: true }).map(String), "NaN", "-Infinity", "1e-45", "3.4028235e38", "0.1");
const text = (max: number) =>
  edges(
    fc.string({ unit: "binary", maxLength: max }).map((value) => value.replace(/[\u0000\ud800-\udfff]/gu, "")),
    ...["", " ", "  trailing  ", "\\", "\\x41", "'", '"', "NULL", "{}", "%s", "$1", "ä€😀", "\n\t\r", "2026-01-02"],
  );
const day = fc
  .tuple(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 28 }))
  .map(([y, m, d]) => `${pad(y, 4)}-${pad(m)}-${pad(d)}`);
const hour = fc
  .tuple(
    fc.integer({ min: 0, max: 23 }),
    fc.integer({ min: 0, max: 59 }),
    fc.integer({ min: 0, max: 59 }),
    fc.integer({ min: 0, max: 999_999 }),
  )
  .map(([h, m, s, f]) => `${pad(h)}:${pad(m)}:${pad(s)}.${pad(f, 6)}`);
const offset = fc
  .tuple(fc.constantFrom("+", "-"), fc.integer({ min: 0, max: 15 }), fc.constantFrom("00", "30", "45"))
  .map(([s, h, m]) => `${s}${pad(h)}:${m}`);
const at = fc.tuple(day, hour).map(([d, h]) => `${d} ${h}`);
const moment = edges(
  fc.tuple(at, offset).map(([t, o]) => t + o),
  ...[
    "infinity",
    "-infinity",
    "294276-12-31 23:59:59.999999+00",
    "4713-01-01 00:00:00+00 BC",
    "2026-03-29 01:00:00+00",
    "1850-01-01 00:00:00+00",
  ],
);
const wall = edges(at, "infinity", "-infinity", "294276-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC", "0001-01-01 00:00:00");
/** PostgreSQL rounds the last moment that it knows to one that it cannot read again. */
const roundable = (times: Arbitrary<string>) => times.filter((value) => !value.startsWith("294276-12-31 23:59:59.9"));
const part = fc.integer({ min: -200, max: 200 });
const span = edges(
  fc
    .tuple(part, part, part, part, part, fc.integer({ min: -59_999_999, max: 59_999_999 }))
    .map(([y, mo, d, h, m, us]) => `${y} years ${mo} mons ${d} days ${h} hours ${m} mins ${us} microseconds`),
  ...["0", "-1 days -02:03:04", "1 mon -1 day", "-00:00:00.000001", "178000000 years", "infinity", "2562047788:00:54.775807"],
);
const hex = (min: number, max: number) =>
  fc.uint8Array({ minLength: min, maxLength: max }).map((bytes) => Buffer.from(bytes).toString("hex"));
const bits = (min: number, max: number) =>
  fc.array(fc.constantFrom("0", "1"), { minLength: min, maxLength: max }).map((list) => list.join(""));
const v4 = fc.ipV4();
const coordinate = fc.double({ noNaN: true, min: -1e6, max: 1e6 }).map(String);
const point = fc.tuple(coordinate, coordinate).map(([x, y]) => `(${x},${y})`);
const json = fc.jsonValue().map((value) => JSON.stringify(value));
const lexeme = fc.stringMatching(/^[a-z]{1,8}$/);
const array = (items: Arbitrary<string>) =>
  edges(
    fc
      .array(fc.option(items), { maxLength: 4 })
      .map((list) => `{${list.map((v) => (v === null ? "NULL" : JSON.stringify(v))).join(",")}}`),
    "{}",
    "[2:3]={NULL,NULL}",
  );
const range = (bound: Arbitrary<string>) =>
  edges(
    fc.tuple(fc.constantFrom("[", "("), bound, bound, fc.constantFrom("]", ")")).map(([a, x, y, b]) => `${a}"${x}","${y}"${b}`),
    ...["empty", "(,)"],
  );
const multi = (of: Arbitrary<string>) => fc.array(of, { maxLength: 3 }).map((list) => `{${list.join(",")}}`);

const RANGES: readonly (readonly [string, Arbitrary<string>])[] = [
  ["int4", whole(-9e8, 9e8)],
  ["int8", big(60)],
  ["num", numeric],
  ["date", day],
  ["ts", wall],
  ["tstz", moment],
];

/** Every type that a column may have, most with modifiers beside. */
export const BUILT_IN: readonly TypedValues[] = [
  ["smallint", edges(whole(-32_768, 32_767), "-32768", "32767")],
  ["integer", edges(whole(-(2 ** 31), 2 ** 31 - 1), "-2147483648")],
  ["bigint", edges(big(64), "-9223372036854775808", "9223372036854775807")],
  ["numeric", numeric],
  ["numeric(30,10)", numeric],
  ["numeric(3,-2)", whole(-99_999, 99_999)],
  ["real", single],
  ["double precision", double],
  [
    "money",
    edges(
      fc.tuple(whole(-9e8, 9e8), whole(0, 99)).map(([a, b]) => `${a}.${pad(Number(b))}`),
      "-92233720368547758.08",
    ),
  ],
  ["boolean", fc.constantFrom("t", "f")],
  ["text", text(40)],
  ["character varying", text(40)],
  ["character varying(20)", text(10)],
  ["character(12)", text(6)],
  ['"char"', fc.constantFrom("", "a", "\\377", "\\001", " ")],
  ["name", text(12)],
  [
    "bytea",
    edges(
      hex(0, 30).map((value) => `\\x${value}`),
      "\\x",
      "\\x00",
    ),
  ],
  ["bit(5)", bits(5, 5)],
  ["bit", bits(1, 1)],
  ["bit varying", bits(0, 40)],
  ["bit varying(9)", bits(0, 9)],
  ["date", edges(day, "infinity", "-infinity", "5874897-12-31", "4713-01-01 BC")],
  ["time without time zone", edges(hour, "24:00:00")],
  ["time(2) without time zone", hour],
  [
    "time with time zone",
    edges(
      fc.tuple(hour, offset).map(([h, o]) => h + o),
      "24:00:00-15:59",
      "00:00:00+15:59:59",
    ),
  ],
  ["timestamp without time zone", wall],
  ["timestamp(3) without time zone", roundable(wall)],
  ["timestamp with time zone", moment],
  ["timestamp(0) with time zone", roundable(moment)],
  ["interval", span],
  ["interval(2)", span],
  ["interval day to second", span],
  ["uuid", fc.uuid()],
  ["json", edges(json, ' { "a" : 1.50, "b":[ ] } ', '"\\\\u00e4"')],
  ["jsonb", edges(json, '{"b": 1, "a": 1.50}', "null")],
  ["jsonpath", fc.constantFrom("$.a[*] ? (@ > 1)", 'strict $."b c"', "lax $")],
  ["xml", fc.constantFrom("<a/>", "a<b>ä</b>c", "<a x='1'>&amp;</a>", "")],
  [
    "inet",
    edges(
      fc.tuple(v4, whole(0, 32)).map(([ip, n]) => `${ip}/${n}`),
      "::1",
      "2001:db8::/32",
    ),
  ],
  ["cidr", fc.constantFrom("10.0.0.0/8", "192.168.1.0/24", "::/0", "2001:db8::/32", "0.0.0.0/0")],
  ["macaddr", hex(6, 6)],
  ["macaddr8", hex(8, 8)],
  ["point", point],
  ["line", fc.constantFrom("{1,-1,0}", "{0,1,2.5}")],
  ["lseg", fc.tuple(point, point).map(([a, b]) => `[${a},${b}]`)],
  ["box", fc.tuple(point, point).map(([a, b]) => `${a},${b}`)],
  ["path", fc.tuple(point, point, fc.constantFrom("[]", "()")).map(([a, b, w]) => `${w[0]}${a},${b}${w[1]}`)],
  ["polygon", fc.tuple(point, point, point).map((list) => `(${list.join(",")})`)],
  ["circle", fc.tuple(point, whole(0, 99)).map(([p, r]) => `<${p},${r}>`)],
  [
    "tsvector",
    fc.array(fc.tuple(lexeme, whole(1, 99)), { maxLength: 4 }).map((list) => list.map(([w, n]) => `'${w}':${n}A`).join(" ")),
  ],
  ["tsquery", fc.tuple(lexeme, lexeme).map(([a, b]) => `'${a}' & !'${b}':*`)],
  ["oid", whole(0, 2 ** 31 - 1)],
  ["xid", whole(0, 2 ** 31 - 1)],
  ["xid8", fc.bigInt({ min: 0n, max: 2n ** 63n }).map(String)],
  ["cid", whole(0, 2 ** 31 - 1)],
  ["tid", fc.tuple(whole(0, 9e8), whole(0, 65_535)).map(([a, b]) => `(${a},${b})`)],
  ["pg_lsn", fc.tuple(hex(1, 4), hex(1, 4)).map(([a, b]) => `${a}/${b}`)],
  ["pg_snapshot", fc.constantFrom("10:20:10,14", "1:1:")],
  ["txid_snapshot", fc.constantFrom("10:20:10,14", "1:1:")],
  ["refcursor", text(10)],
  ...RANGES.flatMap(([name, bound]) => [
    [`${name}range`, range(bound)] as const,
    [`${name}multirange`, multi(range(bound))] as const,
  ]),
  ["text[]", array(text(8))],
  ["character varying(20)[]", array(text(8))],
  ["numeric(30,10)[]", array(numeric)],
  ["timestamp with time zone[]", array(moment)],
  ["interval[]", array(span)],
  ["bytea[]", array(hex(0, 6).map((value) => `\\x${value}`))],
  ["date[]", array(day)],
].map(([type, values]) => ({ type: type as string, values: values as Arbitrary<string> }));

/** Types that tables do not have, or that mean something in their own database alone. */
export const NOT_FOR_COLUMNS: Readonly<Record<string, string>> = {
  aclitem: "names roles of its database",
  gtsvector: "has no input",
  pg_brin_bloom_summary: "has no input",
  pg_brin_minmax_multi_summary: "has no input",
  pg_dependencies: "has no input",
  pg_mcv_list: "has no input",
  pg_ndistinct: "has no input",
  pg_node_tree: "has no input",
  ...Object.fromEntries(
    [
      "regclass",
      "regcollation",
      "regconfig",
      "regdictionary",
      "regnamespace",
      "regoper",
      "regoperator",
      "regproc",
      "regprocedure",
      "regrole",
      "regtype",
    ].map((type) => [type, "names an object of its database"]),
  ),
};

/** Source type → a target type that holds less. */
export const NARROWED: readonly { readonly from: string; readonly to: string; readonly values: Arbitrary<string> }[] = [
  { from: "text", to: "character varying(3)", values: text(5) },
  { from: "text", to: "name", values: edges(text(200), "a".repeat(63), "a".repeat(64), `${"a".repeat(62)}ä`) },
  { from: "text", to: "character(3)", values: fc.stringMatching(/^[a-z ]{0,5}$/) },
  { from: "bit varying", to: "bit(3)", values: bits(0, 5) },
  { from: "bit varying", to: "bit varying(3)", values: bits(0, 5) },
  { from: "bigint", to: "integer", values: edges(big(34), "0", "-1") },
  { from: "integer", to: "smallint", values: edges(big(18), "0") },
  { from: "double precision", to: "real", values: edges(double, "0.5", "1e10", "-0.25") },
  { from: "timestamp with time zone", to: "timestamp(0) with time zone", values: edges(moment, "2026-01-02 03:04:05+02") },
  { from: "timestamp without time zone", to: "timestamp(3) without time zone", values: edges(wall, "2026-01-02 03:04:05.678") },
  { from: "time without time zone", to: "time(0) without time zone", values: edges(hour, "03:04:05") },
  { from: "interval", to: "interval(0)", values: edges(span, "1 day 03:04:05") },
  { from: "interval", to: "interval hour to minute", values: edges(span, "1 day 03:04:00") },
  { from: "text[]", to: "character varying(2)[]", values: array(text(3)) },
  { from: "character(6)[]", to: "character(4)[]", values: array(fc.stringMatching(/^[a-z ]{0,6}$/)) },
  {
    from: "timestamp with time zone[]",
    to: "timestamp(0) with time zone[]",
    values: array(edges(moment, "2026-01-02 03:04:05+02")),
  },
];
