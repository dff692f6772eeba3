/** One change of a table's definition, or of where its rows stand, on one side; `t` is the table. */
export interface DdlCase {
  readonly name: string;
  /** How the table is made, instead of as a stranger's; before any rows. */
  readonly base?: (t: string) => readonly string[];
  /** Columns that have another type on both sides, with what the source has in row g. Of equal values their texts are compared, too. */
  readonly columns?: Readonly<Partial<Record<"amount" | "label", { readonly type: string; readonly value: string }>>>;
  /** What the source has as label in row g, where that is not a word: a text that the label's own type reads. */
  readonly label?: string;
  /** After the entity has landed. */
  readonly ddl: (t: string) => readonly string[];
  /** found: rows or values changed, and every run has to find that. refused: no run reads or writes until it is mended, and `finding` says why. same: nothing changed. */
  readonly ends: "found" | "refused" | "same";
  /** What the refusal is of: its code behind the side, and its column. */
  readonly finding?: { readonly code: string; readonly column: string | null };
  /** A run compares, or may do so for nothing. Default: as `ends` says. */
  readonly told?: boolean;
}

const COLUMNS = "name text, kind public.mood, amount numeric(10,2), label text, stamp timestamptz";
const ROWS = (t: string, from: number, to: number) =>
  `insert into public.${t} (id, name, kind, amount, label, stamp) select g, 'n' || g, 'a', g + 0.25, 'l' || g, '2026-01-01' from generate_series(${from}, ${to}) g`;
const partitioned = (t: string) => [
  `drop table public.${t}`,
  `create table public.${t} (id bigint primary key, ${COLUMNS}) partition by range (id)`,
  `create table public.${t}_1 partition of public.${t} for values from (0) to (4)`,
  `create table public.${t}_2 partition of public.${t} for values from (4) to (100)`,
  // Its rows are older than everything that is read first.
  `create table public.${t}_3 (id bigint primary key, ${COLUMNS})`,
  ROWS(`${t}_3`, 200, 203),
];
const withHeir = (t: string) => [
  `create table public.${t}_heir (id bigint primary key, ${COLUMNS})`,
  ROWS(`${t}_heir`, 200, 203),
];
const BODY = (t: string, body: string, name = "body_of") =>
  `create or replace function public.${name}_${t}(value text) returns text language sql immutable set search_path = '' begin atomic; ${body}; end`;
/**
 * Something computes with a function that calls another one, whose body somebody replaces. No row that is there
 * changes; one of a generated column is compared all the same.
 */
const replaced = (what: string, uses: (t: string) => readonly string[], told = false): DdlCase => ({
  name: `another body of a function behind ${what}`,
  base: (t) => [BODY(t, "select upper(value)"), BODY(t, `select public.body_of_${t}(value)`, "calls"), ...uses(t)],
  ddl: (t) => [BODY(t, "select coalesce(upper(value), '')")],
  ends: "same",
  told,
});
const BEHIND_BOTH = [
  replaced("an index", (t) => [`create index on public.${t} (public.calls_${t}(name))`]),
  replaced("a check", (t) => [`alter table public.${t} add check (public.calls_${t}(name) <> 'x')`]),
  replaced("a default", (t) => [`alter table public.${t} alter column label set default public.calls_${t}('x')`]),
  replaced("a domain", (t) => [
    `create domain public.domain_of_${t} as text check (public.calls_${t}(value) <> 'x')`,
    `alter table public.${t} alter column name type public.domain_of_${t}`,
  ]),
];
const generated = (t: string) => [
  `alter table public.${t} drop column label`,
  `alter table public.${t} add column label text generated always as (upper(name)) stored`,
];

const swapColumns = (t: string) => [
  `alter table public.${t} rename column name to between`,
  `alter table public.${t} rename column label to name`,
  `alter table public.${t} rename column between to label`,
];
const reload = (t: string) => [
  `create table public.${t}_kept as table public.${t}`,
  `truncate public.${t} cascade`,
  `update public.${t}_kept set label = 'older'`,
  `insert into public.${t} select * from public.${t}_kept`,
];
const swapTables = (t: string) => [
  `create table public.${t}_new (like public.${t} including all)`,
  `insert into public.${t}_new select * from public.${t}`,
  `update public.${t}_new set label = 'older'`,
  `alter table public.${t} rename to ${t}_former`,
  `alter table public.${t}_new rename to ${t}`,
];
const swapMembers = (t: string) => [
  // Each entity has the type to itself, or its neighbours would change too.
  `create type public.mood_${t} as enum ('a', 'b')`,
  `alter table public.${t} alter column kind type public.mood_${t} using kind::text::public.mood_${t}`,
];
const renameMembers = (t: string) => [
  `alter type public.mood_${t} rename value 'a' to 'between'`,
  `alter type public.mood_${t} rename value 'b' to 'a'`,
  `alter type public.mood_${t} rename value 'between' to 'b'`,
];

/** A label of two attributes; each entity has the type to itself. Types of attributes that columns have cannot be altered: one is dropped, and added as another. */
const attributes = (name: string, ends: DdlCase["ends"], ...actions: readonly string[]): DdlCase => ({
  name: `an attribute of a composite type ${name}`,
  label: "format('(l%s,%s)', g, g)",
  base: (t) => [
    `create type public.pair_${t} as (word text, number integer)`,
    `alter table public.${t} alter column label type public.pair_${t} using null`,
  ],
  ddl: (t) => actions.map((action) => `alter type public.pair_${t} ${action}`),
  ends,
});

/** On either side. */
const BOTH: readonly DdlCase[] = [
  {
    name: "a column dropped and added again",
    ddl: (t) => [`alter table public.${t} drop column label`, `alter table public.${t} add column label text`],
    ends: "found",
  },
  {
    name: "a column dropped and added again with a default",
    ddl: (t) => [`alter table public.${t} drop column label`, `alter table public.${t} add column label text default 'none'`],
    ends: "found",
  },
  { name: "two columns that exchange their names", ddl: swapColumns, ends: "found" },
  {
    name: "a column renamed away",
    ddl: (t) => [`alter table public.${t} rename column label to other`],
    ends: "refused",
    finding: { code: "column_missing", column: "label" },
  },
  {
    name: "a number that is rounded by its new type",
    ddl: (t) => [`alter table public.${t} alter column amount type numeric(10,1)`],
    ends: "found",
  },
  {
    name: "values rewritten by a conversion",
    ddl: (t) => [`alter table public.${t} alter column label type text using upper(label)`],
    ends: "found",
  },
  {
    name: "a type that becomes wider",
    ddl: (t) => [`alter table public.${t} alter column amount type numeric(12,2)`],
    ends: "same",
    told: false,
  },
  { name: "a default", ddl: (t) => [`alter table public.${t} alter column label set default 'x'`], ends: "same", told: false },
  {
    name: "texts of json rewritten by way of jsonb",
    columns: { label: { type: "json", value: `'{"b":1, "a":1.50, "a":' || g || '}'` } },
    ddl: (t) => [`alter table public.${t} alter column label type json using label::jsonb::json`],
    ends: "found",
  },
  {
    name: "zeros at the end of numbers cut off",
    columns: { amount: { type: "numeric", value: "g + 0.50" } },
    ddl: (t) => [`alter table public.${t} alter column amount type numeric using trim_scale(amount)`],
    ends: "found",
  },
  {
    name: "the sign of zeros taken off",
    columns: { amount: { type: "double precision", value: "'-0'" } },
    ddl: (t) => [`alter table public.${t} alter column amount type double precision using amount + 0`],
    ends: "found",
  },
  { name: "truncated", ddl: (t) => [`truncate public.${t} cascade`], ends: "found" },
  { name: "reloaded from an older state", ddl: reload, ends: "found" },
  { name: "another table under its name", ddl: swapTables, ends: "found" },
  { name: "members of an enum that exchange their names", base: swapMembers, ddl: renameMembers, ends: "found" },
  {
    name: "a member of an enum renamed",
    base: swapMembers,
    ddl: (t) => [`alter type public.mood_${t} rename value 'a' to 'c'`],
    ends: "found",
  },
  {
    name: "a member added to an enum",
    base: swapMembers,
    ddl: (t) => [`alter type public.mood_${t} add value 'c'`],
    ends: "same",
    told: false,
  },
  attributes("added", "found", "add attribute more text"),
  attributes("dropped", "found", "drop attribute number"),
  attributes("dropped and added with another type", "found", "drop attribute number", "add attribute number text"),
  attributes("renamed", "same", "rename attribute number to other"),
  { name: "replica identity", ddl: (t) => [`alter table public.${t} replica identity full`], ends: "same", told: false },
  {
    name: "a column of nobody's added and dropped",
    ddl: (t) => [`alter table public.${t} add column own text default 'x'`, `alter table public.${t} drop column own`],
    ends: "same",
    told: false,
  },
  { name: "vacuum full", ddl: (t) => [`vacuum full public.${t}`], ends: "same" },
  { name: "cluster", ddl: (t) => [`cluster public.${t} using ${t}_pkey`], ends: "same" },
  { name: "unlogged", ddl: (t) => [`alter table public.${t} set unlogged`], ends: "same" },
  { name: "another tablespace", ddl: (t) => [`alter table public.${t} set tablespace elsewhere`], ends: "same" },
];

export const SOURCE_DDL: readonly DdlCase[] = [
  ...BEHIND_BOTH,
  replaced(
    "a generated column",
    (t) => [
      `alter table public.${t} drop column label`,
      `alter table public.${t} add column label text generated always as (public.calls_${t}(name)) stored`,
    ],
    true,
  ),
  ...BOTH,
  {
    name: "a partition attached",
    base: partitioned,
    ddl: (t) => [`alter table public.${t} attach partition public.${t}_3 for values from (100) to (300)`],
    ends: "found",
  },
  {
    name: "a partition detached",
    base: partitioned,
    ddl: (t) => [`alter table public.${t} detach partition public.${t}_2`],
    ends: "found",
  },
  {
    name: "a child that inherits",
    base: withHeir,
    ddl: (t) => [`alter table public.${t}_heir inherit public.${t}`],
    ends: "found",
  },
  {
    name: "a child that inherits no longer",
    base: (t) => [...withHeir(t), `alter table public.${t}_heir inherit public.${t}`],
    ddl: (t) => [`alter table public.${t}_heir no inherit public.${t}`],
    ends: "found",
  },
  {
    name: "another expression of a generated column",
    base: generated,
    ddl: (t) => [`alter table public.${t} alter column label set expression as (lower(name))`],
    ends: "found",
  },
  {
    name: "a generated column that is so no longer",
    base: generated,
    ddl: (t) => [`alter table public.${t} alter column label drop expression`],
    ends: "same",
  },
  {
    name: "an identity",
    ddl: (t) => [`alter table public.${t} alter column id add generated by default as identity`],
    ends: "same",
    told: false,
  },
  {
    name: "row level security",
    ddl: (t) => [`alter table public.${t} enable row level security`],
    ends: "refused",
    finding: { code: "rows_hidden", column: null },
  },
];

const inPartitions = (t: string) => [
  `alter table public.${t} rename to ${t}_former`,
  `create table public.${t} (like public.${t}_former, primary key (id)) partition by hash (id)`,
  `create table public.${t}_1 partition of public.${t} for values with (modulus 2, remainder 0)`,
  `create table public.${t}_2 partition of public.${t} for values with (modulus 2, remainder 1)`,
];

const heirOfTarget = (t: string) => [`create table public.${t}_heir (like public.${t} including all)`];

export const TARGET_DDL: readonly DdlCase[] = [
  ...BEHIND_BOTH,
  replaced(
    "a generated column",
    (t) => [`alter table public.${t} add column own text generated always as (public.calls_${t}(name)) stored`],
    true,
  ),
  ...BOTH,
  {
    name: "a partitioned table in its place",
    ddl: (t) => [
      `alter table public.${t} rename to ${t}_former`,
      `create table public.${t} (like public.${t}_former, primary key (id)) partition by hash (id)`,
      `create table public.${t}_1 partition of public.${t} for values with (modulus 1, remainder 0)`,
      `insert into public.${t} select * from public.${t}_former`,
    ],
    ends: "same",
  },
  {
    name: "a partition detached",
    base: inPartitions,
    ddl: (t) => [`alter table public.${t} detach partition public.${t}_1`],
    ends: "found",
  },
  {
    name: "a partition attached again with another column",
    base: inPartitions,
    ddl: (t) => [
      `alter table public.${t} detach partition public.${t}_1`,
      `alter table public.${t}_1 drop column label`,
      `alter table public.${t}_1 add column label text`,
      `alter table public.${t} attach partition public.${t}_1 for values with (modulus 2, remainder 0)`,
    ],
    ends: "found",
  },
  {
    name: "a child that inherits",
    base: heirOfTarget,
    ddl: (t) => [`alter table public.${t}_heir inherit public.${t}`],
    ends: "same",
  },
  {
    name: "a child with rows that inherits",
    base: heirOfTarget,
    ddl: (t) => [
      `insert into public.${t}_heir (id, legacy_id, name) select gen_random_uuid(), g, 'n' || g from generate_series(200, 203) g`,
      `alter table public.${t}_heir inherit public.${t}`,
    ],
    ends: "found",
  },
  {
    name: "a child that inherits no longer",
    base: (t) => [...heirOfTarget(t), `alter table public.${t}_heir inherit public.${t}`],
    ddl: (t) => [
      `insert into public.${t}_heir select * from only public.${t} where legacy_id > 4`,
      `delete from only public.${t} where legacy_id > 4`,
      `alter table public.${t}_heir no inherit public.${t}`,
    ],
    ends: "found",
  },
  {
    name: "a column that becomes generated",
    ddl: generated,
    ends: "refused",
    finding: { code: "column_generated", column: "label" },
  },
  {
    name: "a column that becomes an identity",
    ddl: (t) => [`alter table public.${t} alter column legacy_id add generated always as identity`],
    ends: "refused",
    finding: { code: "column_generated", column: "legacy_id" },
  },
];
