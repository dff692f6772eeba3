import type { Random } from "../../../clinic/dataset/random.ts";
import { ident } from "../../../shared/db/ident.ts";
import { HOSTILE_NAMES, Names } from "./names.ts";
import { ACTIONS, type HostileTable } from "./schema.ts";
import { MANY } from "./columns.ts";
import { nameOf } from "./tables.ts";

/**
 * What the source itself keeps true of its tables: unique values, checks, foreign keys and triggers of the old
 * application. Each statement may fail. `taken`: names of its relations.
 */
export function drawSourceRules(random: Random, tables: readonly HostileTable[], taken: readonly string[]): string[] {
  const names = new Names(random, HOSTILE_NAMES);
  const relations = new Set([...taken, ...tables.map(({ source }) => source)]);
  return tables.flatMap((table, n) => [
    ...(random.chance(0.4) ? uniqueValues(random, table, () => names.next(relations)) : []),
    ...(random.chance(0.4) ? [check(random, table, names.next(new Set()))] : []),
    ...table.references.flatMap((reference) => (random.chance(0.6) ? foreignKey(random, tables, table, reference) : [])),
    ...(random.chance(0.4) ? trigger(random, table, n, names.next(new Set())) : []),
  ]);
}

/** Of a partitioned table they would have to hold its key. */
function uniqueValues(random: Random, table: HostileTable, name: () => string): string[] {
  const many = table.columns.filter(({ pair }) => MANY.test(pair.source));
  if (many.length === 0 || table.layout === "partitioned") return [];
  const columns = random.sample(many, random.between(1, 2)).map(({ source }) => ident(source));
  const rest = random.pick(["", " nulls not distinct", ` where ${ident(table.key)} % 3 <> 0`]);
  return [`create unique index ${ident(name())} on ${nameOf(table.source)} (${columns.join(", ")})${rest}`];
}

function check(random: Random, table: HostileTable, name: string): string {
  const condition = random.chance(0.5)
    ? `${ident(table.key)} % 13 <> 5`
    : `length(${ident(random.pick(table.columns).source)}::text) < 60`;
  return `alter table ${nameOf(table.source)} add constraint ${ident(name)} check (${condition})`;
}

/** What inherits has rows that no foreign key sees. */
function foreignKey(
  random: Random,
  tables: readonly HostileTable[],
  table: HostileTable,
  { source, parent }: HostileTable["references"][number],
): string[] {
  const to = tables[parent];
  if (!to || to.layout === "inherited") return [];
  const how = `on delete ${random.pick(ACTIONS)} on update ${random.pick(ACTIONS)}${random.pick(["", " deferrable initially deferred"])}`;
  return [
    `alter table ${nameOf(table.source)} add foreign key (${ident(source)}) references ${nameOf(to.source)} (${ident(to.key)}) ${how}`,
  ];
}

function trigger(random: Random, table: HostileTable, n: number, name: string): string[] {
  const text = table.columns.filter(({ pair, generated }) => pair.source === "text" && !generated);
  const stamp = table.modified === undefined ? [] : [`new.${ident(table.modified)} := clock_timestamp();`];
  const tidied = text.map(({ source }) => `new.${ident(source)} := trim(both '<>' from new.${ident(source)});`);
  const body = random.pick([
    ...stamp,
    ...tidied,
    `if new.${ident(table.key)} % 7 = 3 then return null; end if;`,
    `if new.${ident(table.key)} % 9 = 4 then raise exception 'not this one'; end if;`,
  ]);
  const called = `public.${ident(`of the source ${n}()`)}`;
  return [
    `create function ${called}() returns trigger language plpgsql as $of_the_source$ begin ${body} return new; end $of_the_source$`,
    `create trigger ${ident(name)} before insert or update on ${nameOf(table.source)} for each row execute function ${called}()`,
  ];
}
