import type { Random } from "../../../local/dataset/random.ts";
import { ident } from "../../../shared/db/ident.ts";
import type { HostileColumn, HostileTable } from "./schema.ts";
import { nameOf } from "./tables.ts";

export interface HostileDdl {
  readonly name: string;
  readonly statements: readonly string[];
  /** Puts back what nobody can work with. */
  readonly undo?: readonly string[];
  /** Not in a transaction. */
  readonly alone?: true;
  /** Rows of the target are written: what is other in them is somebody's edit. */
  readonly loads?: true;
}

type Make = (place: Place) => HostileDdl | undefined;

interface Place {
  readonly random: Random;
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

const BOTH: readonly Make[] = [
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
  ({ column, side }) => {
    if (column.pair.kind !== "enum") return undefined;
    return { name: "a member of an enum renamed", statements: [`alter type ${column.pair[side]} rename value 'a' to 'renamed'`] };
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
];

/** A change of a table's definition, or of where its rows stand; undefined: this table has nothing that it could change. */
export function drawDdl(random: Random, side: "source" | "target", table: HostileTable): HostileDdl | undefined {
  const column = random.pick(table.columns);
  if (column.generated) return undefined;
  const make = random.pick([...BOTH, ...(side === "source" ? SOURCE : TARGET)]);
  return make({
    random,
    table,
    side,
    name: nameOf(table[side]),
    key: ident(side === "source" ? table.key : table.legacyKey),
    column,
    called: ident(column[side]),
    type: column.pair[side],
  });
}
