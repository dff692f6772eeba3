import { ident } from "../../../shared/db/ident.ts";
import { defineEntity, type Entity, type SourceRow } from "../../../shared/entity/define-entity.ts";
import type { HostileConstraint, HostileSchema, HostileTable, HostileTrigger } from "./schema.ts";

export const nameOf = (table: string) => `public.${ident(table)}`;

interface Builders {
  readonly copy: (column: string) => unknown;
  readonly calculate: (columns: readonly string[], compute: (row: SourceRow) => string | null) => unknown;
  readonly mapEnum: (column: string, map: object) => unknown;
  readonly blankIsNone: (column: string) => unknown;
  readonly money: (column: string) => unknown;
  readonly lookup: (parent: string, column: string, options: object) => unknown;
}

/** The entities, as their files would define them. */
export function entitiesOf({ tables }: HostileSchema): Entity[] {
  const define = defineEntity as unknown as (spec: object) => Entity;
  return tables.map((table) =>
    define({
      name: table.entity,
      target: { table: table.target, legacyKey: table.legacyKey },
      source: {
        table: table.source,
        key: table.key,
        alias: table.alias,
        columns: Object.fromEntries<string>([
          ...table.columns.map(({ source }, n) => [`c${n}`, `${table.alias}.${source}`] as const),
          ...table.references.map(({ source }, n) => [`r${n}`, `${table.alias}.${source}`] as const),
        ]),
        ...(table.modified === undefined ? {} : { modified: table.modified }),
        ignored: table.modified === undefined ? {} : { [table.modified]: "a stamp of the old application" },
      },
      onDelete: table.onDelete,
      conflicts: { strategy: table.strategy, deleted: table.deleted },
      history: table.history,
      fields: (build: Builders) =>
        Object.fromEntries([
          ...table.columns.map(({ target, pair }, n) => [target, fieldOf(build, pair, `c${n}`)] as const),
          ...table.references.map(
            ({ target, parent, required }, n) =>
              [target, build.lookup(tables[parent]?.entity ?? "", `r${n}`, { required })] as const,
          ),
        ]),
    }),
  );
}

function fieldOf(build: Builders, { builder, codes = {} }: HostileTable["columns"][number]["pair"], column: string): unknown {
  switch (builder) {
    case "copy":
      return build.copy(column);
    case "calculate":
      return build.calculate([column], (row) => row[column] ?? null);
    case "mapEnum":
      return build.mapEnum(column, codes);
    case "blankIsNone":
      return build.blankIsNone(column);
    case "money":
      return build.money(column);
  }
}

/** Statements that create the source's types and tables, each to be run by itself; a `?` at the front: it may fail. */
export function sourceSql({ tables, sourceRules }: HostileSchema): string[] {
  return [
    ...tables.flatMap((table) => [...table.columns.flatMap(({ pair }) => pair.types.source), ...sourceTable(table, tables)]),
    ...sourceRules.map((statement) => `?${statement}`),
  ];
}

function sourceTable(table: HostileTable, tables: readonly HostileTable[]): string[] {
  const name = nameOf(table.source);
  const first = table.columns.find(({ pair, generated }) => pair.source === "text" && !generated);
  const columns = [
    `${ident(table.key)} ${table.keyType} ${table.layout === "plain" ? "primary key" : "not null"}`,
    ...table.columns.map(({ source, pair, required, generated }) =>
      generated && first
        ? `${ident(source)} text generated always as (upper(${ident(first.source)})) stored`
        : `${ident(source)} ${pair.source}${required.source ? " not null" : ""}`,
    ),
    ...table.references.map(({ source, parent }) => `${ident(source)} ${tables[parent]?.keyType ?? ""}`),
    ...(table.modified === undefined ? [] : [`${ident(table.modified)} timestamptz not null default clock_timestamp()`]),
  ].join(", ");
  const grant = `grant select on ${name} to isthmus_reader`;
  if (table.layout === "plain") return [`create table ${name} (${columns})`, grant];
  const part = (n: number) => partOf(table, n);
  const unique = `alter table ${name} add primary key (${ident(table.key)})`;
  if (table.layout === "partitioned")
    return [
      `create table ${name} (${columns}) partition by hash (${ident(table.key)})`,
      unique,
      ...[0, 1, 2].map((n) => `create table ${part(n)} partition of ${name} for values with (modulus 3, remainder ${n})`),
      grant,
    ];
  return [
    `create table ${name} (${columns})`,
    unique,
    `create table ${part(0)} (primary key (${ident(table.key)})) inherits (${name})`,
    grant,
  ];
}

/** A partition of a source table, or what inherits from it. */
export const partOf = ({ source }: HostileTable, n: number) => nameOf(`${cutName(source)}~${n}`);

/** As much of a name as leaves room for more. */
const cutName = (name: string) => Array.from(name).slice(0, 10).join("");

/** The table that rows of the source are written into: of what inherits, every other row stands in the child. */
export function sourcePlace(table: HostileTable, id: string): string {
  return table.layout === "inherited" && Number(BigInt(id) % 2n) !== 0 ? partOf(table, 0) : nameOf(table.source);
}

/** The same of the target. */
export function targetSql({ tables }: HostileSchema): string[] {
  return tables.flatMap((table) => [
    ...table.columns.flatMap(({ pair }) => pair.types.target),
    targetTable(table, tables),
    `alter table ${nameOf(table.target)} owner to postgres`,
    ...(table.rowSecurity
      ? [
          `alter table ${nameOf(table.target)} enable row level security`,
          `alter table ${nameOf(table.target)} force row level security`,
          `create policy ${ident(table.own.touched)} on ${nameOf(table.target)} for select to authenticated using (false)`,
        ]
      : []),
    ...table.constraints.map((constraint) => `?${constraintSql(table, constraint)}`),
    ...table.triggers.flatMap((trigger, n) => triggerSql(table, trigger, n)),
  ]);
}

function targetTable(table: HostileTable, tables: readonly HostileTable[]): string {
  const text = table.columns.find(({ pair }) => pair.target === "text");
  const columns = [
    "id uuid primary key",
    `${ident(table.legacyKey)} bigint not null unique`,
    ...table.columns.map(
      ({ target, pair, required, withDefault }) =>
        `${ident(target)} ${pair.target}${required.target ? " not null" : ""}${withDefault && pair.target === "text" ? " default 'none'" : ""}`,
    ),
    ...table.references.map(({ target, parent, required, constraint }) => {
      const to = tables[parent]?.target ?? "";
      return `${ident(target)} uuid${required ? " not null" : ""}${constraint === undefined ? "" : ` references ${nameOf(to)} (id) ${constraint}`}`;
    }),
    `${ident(table.own.touched)} timestamptz default now()`,
    text
      ? `${ident(table.own.computed)} text generated always as (upper(${ident(text.target)})) stored`
      : `${ident(table.own.computed)} bigint generated always as (${ident(table.legacyKey)}) stored`,
  ];
  return `create table ${nameOf(table.target)} (${columns.join(", ")})`;
}

export function constraintSql(table: HostileTable, constraint: HostileConstraint): string {
  const name = ident(constraint.name);
  if (constraint.kind === "check") {
    const condition =
      constraint.column === undefined ? `${ident(table.legacyKey)} % 13 <> 3` : `length(${ident(constraint.column)}::text) < 60`;
    return `alter table ${nameOf(table.target)} add constraint ${name} check (${condition})`;
  }
  const columns = constraint.columns.map((column) => (constraint.expression ? `lower(${ident(column)}::text)` : ident(column)));
  const rest = constraint.rest === "where" ? ` where ${ident(table.legacyKey)} % 3 <> 0` : constraint.rest;
  return `create unique index ${name} on ${nameOf(table.target)} (${columns.join(", ")})${rest}`;
}

/** Triggers of an application that nobody asked the sync about. */
export function triggerSql(table: HostileTable, trigger: HostileTrigger, n: number): string[] {
  const name = nameOf(table.target);
  const key = ident(table.legacyKey);
  const touched = ident(table.own.touched);
  const called = `public.${ident(`${cutName(table.target)} ${n}()`)}`;
  const when = trigger.does === "touches after" ? "after" : "before";
  const writes = trigger.does === "alters" ? (trigger.on ?? "insert or update") : "insert or update";
  const bodies = {
    touches: `new.${touched} := clock_timestamp(); return new;`,
    "touches after": `if pg_trigger_depth() = 1 then update ${name} set ${touched} = clock_timestamp() where id = new.id; end if; return null;`,
    cancels: `if new.${key} % 4 = 2 then return null; end if; return new;`,
    raises: `if new.${key} % 10 = 4 then raise exception 'not this one, %', 100; end if; return new;`,
  };
  const body =
    trigger.does === "alters"
      ? `new.${ident(trigger.column)} := ${trigger.value.replace("?", () => `new.${ident(trigger.column)}`)}; return new;`
      : bodies[trigger.does];
  return [
    `create function ${called}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $of_the_trigger$ begin ${body} end $of_the_trigger$`,
    `create trigger ${ident(trigger.name)} ${when} ${writes} on ${name} for each row execute function ${called}()`,
  ];
}
