import type { Random } from "../../../clinic/dataset/random.ts";
import { ident, literal } from "../../../shared/db/ident.ts";
import { ACTIONS, type HostileColumn, type HostileSchema, type HostileTable } from "./schema.ts";
import { nameOf, partOf } from "./tables.ts";

export interface HostileDdl {
  readonly name: string;
  readonly statements: readonly string[];
  /** What comes before the next run but one: mostly, what nobody can work with is put back. */
  readonly undo?: readonly string[];
  /** Not in a transaction. */
  readonly alone?: true;
  /** Rows of the target are written: what is other in them is somebody's edit. */
  readonly loads?: true;
}

type Make = (place: Place) => HostileDdl | undefined;

interface Place {
  readonly random: Random;
  readonly schema: HostileSchema;
  readonly table: HostileTable;
  /** The table on its side, as SQL, and its column of legacy ids. */
  readonly name: string;
  readonly key: string;
  readonly side: "source" | "target";
  /** A column that may change, and what it is called on this side. */
  readonly column: HostileColumn;
  readonly called: string;
  readonly type: string;
}

/** Changes of values that nobody writes: of a column, or of what a type says. */
const SILENT: readonly Make[] = [
  ({ name, called, type }) => ({
    name: "a column dropped and added again",
    statements: [`alter table ${name} drop column ${called} cascade`, `alter table ${name} add column ${called} ${type}`],
  }),
  ({ table, side, name, column, called }) => {
    const other = table.columns.find((one) => one !== column && !one.generated && one.pair[side] === column.pair[side]);
    if (!other) return undefined;
    const its = ident(other[side]);
    return {
      name: "two columns that exchange their names",
      statements: [
        `alter table ${name} rename column ${called} to "be tween"`,
        `alter table ${name} rename column ${its} to ${called}`,
        `alter table ${name} rename column "be tween" to ${its}`,
      ],
    };
  },
  ({ name, called, type }) =>
    /^(text|character varying.*)$/.test(type)
      ? {
          name: "values rewritten by a conversion",
          statements: [`alter table ${name} alter column ${called} type ${type} using upper(${called})`],
        }
      : undefined,
  ({ column, side }) => {
    if (column.pair.kind !== "enum") return undefined;
    return { name: "a member of an enum renamed", statements: [`alter type ${column.pair[side]} rename value 'a' to 'renamed'`] };
  },
];

const BOTH: readonly Make[] = [
  ...SILENT,
  ...SILENT,
  ({ name, called, type }) => {
    const wider = {
      smallint: "integer",
      integer: "bigint",
      "character varying(20)": "character varying(40)",
      "numeric(12,2)": "numeric(14,2)",
    }[type];
    return wider === undefined
      ? undefined
      : { name: "a type that becomes wider", statements: [`alter table ${name} alter column ${called} type ${wider}`] };
  },
  ({ name, called }) => ({
    name: "a column renamed away",
    statements: [`alter table ${name} rename column ${called} to "away"`],
    undo: [`alter table ${name} rename column "away" to ${called}`],
  }),
  ({ name, called }) => ({ name: "a default", statements: [`alter table ${name} alter column ${called} drop default`] }),
  ({ name }) => ({ name: "vacuum full", statements: [`vacuum full ${name}`], alone: true }),
  ({ name }) => ({ name: "replica identity", statements: [`alter table ${name} replica identity full`] }),
  ({ name }) => ({
    name: "a column of nobody's added and dropped",
    statements: [`alter table ${name} add column "nobody's" text default 'x'`, `alter table ${name} drop column "nobody's"`],
  }),
  ({ random, schema, table, side, name }) => {
    if (table.references.length === 0) return undefined;
    const reference = random.pick(table.references);
    const parent = schema.tables[reference.parent];
    if (!parent) return undefined;
    const column = ident(reference[side]);
    const drop = `do $of_the_key$ declare v text; begin
      for v in select c.conname from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
                where c.contype = 'f' and c.conrelid = ${literal(name)}::regclass and a.attname = ${literal(reference[side])}
      loop execute 'alter table ' || ${literal(name)} || ' drop constraint ' || quote_ident(v); end loop; end $of_the_key$`;
    if (random.chance(0.15)) return { name: "a foreign key dropped", statements: [drop] };
    const to = `${nameOf(parent[side])} (${side === "source" ? ident(parent.key) : "id"})`;
    const how = `on delete ${random.pick(ACTIONS)} on update ${random.pick(ACTIONS)}${random.pick(["", " deferrable", " deferrable initially deferred", " not valid"])}`;
    return {
      name: "a foreign key that does something else",
      statements: [drop, `alter table ${name} add foreign key (${column}) references ${to} ${how}`],
    };
  },
];

const SOURCE: readonly Make[] = [
  ({ name, table }) => (table.layout === "plain" ? { name: "truncated", statements: [`truncate ${name} cascade`] } : undefined),
  ({ name }) => ({
    name: "row level security",
    statements: [`alter table ${name} enable row level security`],
    undo: [`alter table ${name} disable row level security`],
  }),
  ({ name, table }) => {
    if (table.layout === "plain" || table.modified !== undefined) return undefined;
    return { name: "a column that nobody reads", statements: [`alter table ${name} add column if not exists "un read" text`] };
  },
  ({ name, table }) =>
    table.layout !== "plain"
      ? undefined
      : {
          name: "another table under its name",
          statements: [
            `create table "swap ped" (like ${name} including all)`,
            `insert into "swap ped" (${listOf(table)}) select ${listOf(table)} from ${name} order by random()`,
            `drop table ${name} cascade`,
            `alter table "swap ped" rename to ${ident(table.source)}`,
          ],
        },
  ({ random, name, table }) => {
    if (table.layout === "plain") return undefined;
    const n = table.layout === "inherited" ? 0 : random.between(0, 2);
    const part = partOf(table, n);
    const [leave, join] =
      table.layout === "inherited"
        ? [`alter table ${part} no inherit ${name}`, `alter table ${part} inherit ${name}`]
        : [
            `alter table ${name} detach partition ${part}`,
            `alter table ${name} attach partition ${part} for values with (modulus 3, remainder ${n})`,
          ];
    const columns = table.columns.filter(({ generated }) => !generated).map(({ source }) => ident(source));
    const first = `select ${columns.join(", ")} from ${part} order by ${ident(table.key)} limit 1`;
    // Rows that are written while nobody can see them, and are old when they are there again.
    const written = random.chance(0.7) ? [`update ${part} set (${columns.join(", ")}) = (${first})`] : [];
    return { name: "a part that leaves, and comes back", statements: [leave, ...written], undo: [join] };
  },
  ({ name, table }) =>
    table.layout !== "plain"
      ? undefined
      : {
          name: "an heir with rows of its own",
          statements: [
            `create table "heir there" (like ${name} including all)`,
            `insert into "heir there" (${listOf(table)}) select ${ident(table.key)} + 500${listOf(table).slice(ident(table.key).length)} from ${name} where ${ident(table.key)} between 1 and 9`,
          ],
          undo: [`alter table "heir there" inherit ${name}`],
        },
];

/** Columns that a row is copied by: of a generated one the table itself makes the value. */
function listOf(table: HostileTable): string {
  return [
    table.key,
    ...table.columns.filter(({ generated }) => !generated).map(({ source }) => source),
    ...table.references.map(({ source }) => source),
    ...(table.modified === undefined ? [] : [table.modified]),
  ]
    .map(ident)
    .join(", ");
}

/** Columns of the target that are written when a row moves. */
function landedList(table: HostileTable): string {
  return [
    "id",
    ...[table.legacyKey, ...[...table.columns, ...table.references].map(({ target }) => target), table.own.touched].map(ident),
  ].join(", ");
}

const TARGET: readonly Make[] = [
  ({ name }) => ({ name: "truncated", statements: [`truncate ${name} cascade`], loads: true }),
  ({ name, called, type }) => {
    const narrower = {
      numeric: "numeric(12,1)",
      text: "character varying(6)",
      bigint: "integer",
      "timestamp with time zone": "timestamp(0) with time zone",
    }[type];
    return narrower === undefined
      ? undefined
      : { name: "a type that becomes narrower", statements: [`alter table ${name} alter column ${called} type ${narrower}`] };
  },
  ({ name, key }) => ({ name: "a check", statements: [`alter table ${name} add check (${key} % 11 <> 5) not valid`] }),
  ({ name, called }) => ({ name: "a unique index", statements: [`create unique index on ${name} (${called})`] }),
  ({ name, called }) => ({ name: "not null", statements: [`alter table ${name} alter column ${called} set not null`] }),
  ({ name, called }) => ({ name: "null", statements: [`alter table ${name} alter column ${called} drop not null`] }),
  ({ name }) => ({
    name: "a column that needs a value",
    statements: [
      `alter table ${name} add column "need ed" integer not null default 1`,
      `alter table ${name} alter column "need ed" drop default`,
    ],
    undo: [`alter table ${name} drop column "need ed"`],
  }),
  ({ name }) => ({ name: "row level security", statements: [`alter table ${name} enable row level security`] }),
  ({ name, table }) =>
    table.triggers[0] === undefined
      ? undefined
      : { name: "a trigger dropped", statements: [`drop trigger ${ident(table.triggers[0].name)} on ${name}`] },
  ({ name, table, key }) => ({
    name: "reloaded from an older state",
    loads: true,
    statements: [
      `create temp table kept_rows on commit drop as select * from ${name}`,
      `delete from ${name} where ${key} in (select ${key} from kept_rows)`,
      `alter table kept_rows drop column ${ident(table.own.computed)}`,
      `do $load$ begin execute (select format('insert into ${name.replaceAll("'", "''").replaceAll("%", "%%")} (%1$s) select %1$s from kept_rows', string_agg(quote_ident(attname), ', ')) from pg_attribute where attrelid = 'kept_rows'::regclass and attnum > 0 and not attisdropped); end $load$`,
    ],
  }),
  ({ name, table, key }) => ({
    name: "rows that move to an heir",
    loads: true,
    statements: [
      `create table "heir here" () inherits (${name})`,
      `with moved as (delete from only ${name} where ${key} % 4 = 1 returning ${landedList(table)}) insert into "heir here" (${landedList(table)}) select * from moved`,
    ],
  }),
  ({ name }) => ({
    name: "an heir that leaves, and comes back",
    loads: true,
    statements: [`alter table "heir here" no inherit ${name}`],
    undo: [`alter table "heir here" inherit ${name}`],
  }),
];

/** A change of a table's definition, or of where its rows stand; undefined: this table has nothing that it could change. */
export function drawDdl(
  random: Random,
  side: "source" | "target",
  schema: HostileSchema,
  table: HostileTable,
): HostileDdl | undefined {
  const columns = table.columns.filter(({ generated }) => !generated);
  if (columns.length === 0) return undefined;
  // Not every table has what every change needs.
  for (let tries = 0; tries < 4; tries++) {
    const column = random.pick(columns);
    const make = random.pick([...BOTH, ...(side === "source" ? SOURCE : TARGET)]);
    const ddl = make({
      random,
      schema,
      table,
      side,
      name: nameOf(table[side]),
      key: ident(side === "source" ? table.key : table.legacyKey),
      column,
      called: ident(column[side]),
      type: column.pair[side],
    });
    if (ddl) return ddl;
  }
  return undefined;
}
