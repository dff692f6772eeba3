import fc, { type Arbitrary } from "fast-check";
import type { Random } from "../../../clinic/dataset/random.ts";
import { ident, literal } from "../../../shared/db/ident.ts";
import { noneIfBlank } from "../../../shared/entity/define-entity.ts";
import { BUILT_IN, NARROWED, type TypedValues } from "../typed-values.ts";
import { HOSTILE_NAMES, type Names } from "./names.ts";

/** Types of which records seldom have the same value by chance. */
export const MANY = /^(bigint|integer|text|numeric|double|timestamp|date|uuid|time)/;

/** How a column of the source becomes one of the target. */
export interface ColumnPair {
  readonly kind: "same" | "narrower" | "wider" | "castable" | "enum" | "domain" | "codes" | "blank" | "money" | "composite";
  readonly source: string;
  readonly target: string;
  /** SQL over a text `?`: both sides say the same when this says the same of both. */
  readonly as: string;
  readonly values: Arbitrary<string>;
  readonly builder: "copy" | "calculate" | "mapEnum" | "blankIsNone" | "money";
  readonly codes?: Readonly<Record<string, string>>;
  /** What the source's text is to become; undefined: nothing, so that somebody has to be told. */
  readonly expected?: (text: string | null) => string | null | undefined;
  /** Statements that create the types, on either side. */
  readonly types: { readonly source: readonly string[]; readonly target: readonly string[] };
}

const NONE = { source: [], target: [] };
const reads = (type: string) => `(?::${type})::text`;
/** As what it is alone, where the source's type always writes the same zeros: DDL may give the target others. */
const NUMBER = "trim_scale(?::numeric)::text";
/** A number as the target's type prints it, and as what it is: the type may round. */
const number = (type: string) => `(?::${type})::text || ' ' || ${NUMBER}`;

const known = new Map(BUILT_IN.map((one) => [one.type, one]));
function valuesOf(type: string): Arbitrary<string> {
  const found = known.get(type);
  if (!found) throw new RangeError(`no values of ${type}`);
  return found.values;
}

/** Source type → a target type that holds everything it does, and how both are compared. */
const WIDER: readonly (readonly [from: string, to: string, as?: string])[] = [
  ["smallint", "integer"],
  ["smallint", "bigint"],
  ["integer", "bigint"],
  ["integer", "numeric", NUMBER],
  ["bigint", "numeric(30,4)", number("numeric(30,4)")],
  ["numeric(30,10)", "numeric", NUMBER],
  ["real", "double precision"],
  ["character varying(20)", "text"],
  ["character varying(20)", "character varying(21)"],
  ["character(12)", "text"],
  ["name", "text"],
  ["bit varying(9)", "bit varying"],
  ["bit(5)", "bit varying"],
  ["timestamp(3) without time zone", "timestamp without time zone"],
  ["timestamp(0) with time zone", "timestamp with time zone"],
  ["time(2) without time zone", "time without time zone"],
  ["interval(2)", "interval"],
  ["json", "jsonb", reads("jsonb")],
  ["cidr", "inet"],
  ["integer", "text"],
  ["boolean", "text"],
  ["uuid", "text"],
  ["numeric", "text"],
  ["date", "text"],
  ["timestamp with time zone", "text"],
  ["interval", "text"],
  ["bytea", "text"],
  ["inet", "text"],
  ["double precision", "text"],
  ["jsonb", "text"],
  ["int4range", "text"],
  ["text[]", "text"],
  ["character varying(20)[]", "text[]"],
];

/** Types that a text may say a value of. */
const CASTABLE: readonly (readonly [to: string, values: string, as: string])[] = [
  ["integer", "integer", reads("integer")],
  ["bigint", "bigint", reads("bigint")],
  ["numeric(10,2)", "numeric", number("numeric(10,2)")],
  ["numeric", "numeric", number("numeric")],
  ["double precision", "double precision", number("double precision")],
  ["date", "date", reads("date")],
  ["timestamp without time zone", "timestamp without time zone", reads("timestamp")],
  ["timestamp(0) without time zone", "timestamp without time zone", reads("timestamp")],
  ["timestamp with time zone", "timestamp with time zone", reads("timestamptz")],
  ["time without time zone", "time without time zone", reads("time")],
  ["interval", "interval", reads("interval")],
  ["uuid", "uuid", reads("uuid")],
  ["boolean", "boolean", reads("boolean")],
  ["jsonb", "jsonb", reads("jsonb")],
  ["json", "json", reads("json")],
  ["bytea", "bytea", reads("bytea")],
  ["inet", "inet", reads("inet")],
  ["bit varying(9)", "bit varying(9)", reads("bit varying")],
  ["int4range", "int4range", reads("int4range")],
  ["text[]", "text[]", reads("text[]")],
  ["character varying(5)", "text", reads("text")],
  ["character(5)", "text", "?"],
  ["xml", "xml", reads("text")],
];
/** Texts that say something to some type, which a reader would not expect. */
const ODD = [
  "",
  " ",
  "now",
  "today",
  "tomorrow",
  "yesterday",
  "epoch",
  "infinity",
  "1e3",
  " 7 ",
  "0x1f",
  "1_000",
  "007",
  "-0",
  "NaN",
  "yes",
  "1-2",
  "P1Y",
  "allballs",
  "{}",
  "null",
  "NULL",
  "\\x41",
];

const SAME: readonly TypedValues[] = BUILT_IN;

/** Draws how one column becomes another; what types it needs gets names of its own. */
export function drawPair(random: Random, names: Names, types: Set<string>): ColumnPair {
  const kind = random.next();
  if (kind < 0.34) return same(random);
  if (kind < 0.46) return narrower(random);
  if (kind < 0.62) return wider(random);
  if (kind < 0.76) return castable(random);
  if (kind < 0.83) return enumeration(random, names, types);
  if (kind < 0.9) return domain(random, names, types);
  if (kind < 0.94) return composite(names, types);
  if (kind < 0.96) return blank();
  if (kind < 0.98) return codes(random, names, types);
  return money(random);
}

function same(random: Random): ColumnPair {
  const { type, values } = random.pick(SAME);
  const builder = random.chance(0.5) ? "copy" : "calculate";
  return { kind: "same", source: type, target: type, as: reads(type), values, builder, types: NONE };
}

function narrower(random: Random): ColumnPair {
  const { from, to, values } = random.pick(NARROWED);
  return { kind: "narrower", source: from, target: to, as: reads(from), values, builder: "calculate", types: NONE };
}

function wider(random: Random): ColumnPair {
  const [from, to, as = reads(from)] = random.pick(WIDER);
  return { kind: "wider", source: from, target: to, as, values: valuesOf(from), builder: "calculate", types: NONE };
}

function castable(random: Random): ColumnPair {
  const [to, of, as] = random.pick(CASTABLE);
  const values = fc.oneof({ weight: 4, arbitrary: valuesOf(of) }, { weight: 1, arbitrary: fc.constantFrom(...ODD) });
  return { kind: "castable", source: "text", target: to, as, values, builder: "calculate", types: NONE };
}

const MEMBERS = ["New, or so", "it's", 'in "quotes"', "Straße", "back\\slash", "{brace}", " ", "", "NULL", "a", "A", "%s", "$1"];

function enumeration(random: Random, names: Names, types: Set<string>): ColumnPair {
  const members = random.sample(MEMBERS, random.between(2, 5));
  const source = `public.${ident(names.next(types))}`;
  const target = random.chance(0.5) ? `public.${ident(names.next(types))}` : source;
  // The target may know fewer.
  const there = random.chance(0.2) ? members.slice(0, -1) : members;
  return {
    kind: "enum",
    source,
    target,
    as: "?",
    values: fc.constantFrom(...members),
    builder: "calculate",
    types: { source: [createEnum(source, members)], target: [createEnum(target, random.shuffle(there))] },
  };
}

const createEnum = (name: string, members: readonly string[]) =>
  `create type ${name} as enum (${members.map(literal).join(", ")})`;

function domain(random: Random, names: Names, types: Set<string>): ColumnPair {
  const { type, values } = random.pick(SAME.filter(({ type: name }) => !/json|xml|point|"char"/.test(name)));
  const [source, target] = [`public.${ident(names.next(types))}`, `public.${ident(names.next(types))}`];
  const check = random.chance(0.4) ? ` constraint ${ident(names.next(new Set()))} check (length(value::text) < 15)` : "";
  const onSource = random.chance(0.5);
  return {
    kind: "domain",
    source: onSource ? source : type,
    target,
    as: reads(type),
    values,
    builder: "calculate",
    types: {
      source: onSource ? [`create domain ${source} as ${type}`] : [],
      target: [`create domain ${target} as ${type}${check}`],
    },
  };
}

function composite(names: Names, types: Set<string>): ColumnPair {
  const name = `public.${ident(names.next(types))}`;
  const inside = new Set<string>();
  const create = `create type ${name} as (${ident(names.next(inside))} integer, ${ident(names.next(inside))} text, ${ident(names.next(inside))} timestamptz)`;
  const values = fc
    .tuple(fc.option(fc.integer({ min: -99, max: 99 })), fc.option(fc.constantFrom(...HOSTILE_NAMES, "", "(", ",")))
    .map(
      ([n, text]) =>
        `(${n ?? ""},${text === null ? "" : `"${text.replace(/["\\]/g, (sign) => sign + sign)}"`},2026-01-02 03:04:05+00)`,
    );
  return {
    kind: "composite",
    source: name,
    target: name,
    as: "?",
    values,
    builder: "calculate",
    types: { source: [create], target: [create] },
  };
}

function blank(): ColumnPair {
  const values = fc.oneof(fc.constantFrom("", " ", "null", "NULL ", "none"), fc.string({ maxLength: 8, unit: "grapheme-ascii" }));
  return {
    kind: "blank",
    source: "text",
    target: "text",
    as: "?",
    values,
    builder: "blankIsNone",
    expected: noneIfBlank,
    types: NONE,
  };
}

/** Codes that an entity file names, but for one that nobody knows. */
function codes(random: Random, names: Names, types: Set<string>): ColumnPair {
  const members = random.sample(MEMBERS, 3);
  const map = Object.fromEntries(members.map((member, code) => [String(code), member]));
  const target = random.chance(0.5) ? "text" : `public.${ident(names.next(types))}`;
  return {
    kind: "codes",
    source: "smallint",
    target,
    as: "?",
    values: fc.oneof({ weight: 30, arbitrary: fc.constantFrom("0", "1", "2") }, { weight: 1, arbitrary: fc.constant("9") }),
    builder: "mapEnum",
    codes: map,
    expected: (text) => (text === null ? undefined : map[text]),
    types: { source: [], target: target === "text" ? [] : [createEnum(target, members)] },
  };
}

function money(random: Random): ColumnPair {
  const values = fc.tuple(fc.integer({ min: -9999, max: 9999 }), fc.integer({ min: 0, max: 99 })).map(([a, b]) => `${a}.${b}`);
  const target = random.pick(["numeric(12,2)", "numeric(12,4)", "numeric", "numeric(12,1)"]);
  return {
    kind: "money",
    source: "numeric(12,2)",
    target,
    as: target === "numeric" ? NUMBER : number(target),
    values,
    builder: "money",
    types: NONE,
  };
}
