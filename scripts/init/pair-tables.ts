import { isInteger, keyOf, type Column } from "../catalog.ts";
import { constantOf, likeness, plainName, wordsOf } from "./names.ts";

/** A table of the source, the one of the target that takes its records, and what the entity is called. */
export interface Pair {
  readonly name: string;
  readonly source: string;
  readonly target: string;
  readonly key: Column;
  readonly legacyKey: Column;
}
export interface LeftTable {
  readonly table: string;
  readonly reason: string;
}
export type Tables = ReadonlyMap<string, readonly Column[]>;

/** Source table → target table, or null where it is to be found by its name. */
export type Chosen = ReadonlyMap<string, string | null>;

/**
 * Which table of the target takes the records of which of the source. Where `chosen` has tables without a target it
 * has all that are meant; pairs alone stand beside all tables. A table that cannot be an entity is told with the
 * reason.
 */
export function pairTables(
  source: Tables,
  target: Tables,
  chosen: Chosen = new Map(),
  isSecret: (column: string) => boolean,
): { readonly pairs: Pair[]; readonly left: LeftTable[] } {
  const restricted = [...chosen.values()].includes(null);
  const meant = new Set([...chosen.keys(), ...(restricted ? [] : source.keys())]);
  const { partners, reasons } = match([...source.keys()], [...target.keys()], chosen, meant);
  const pairs: Pair[] = [];
  const left: LeftTable[] = [];
  const names = new Set<string>();
  for (const table of meant) {
    const found = partners.get(table);
    const [columns, there] = [source.get(table), found === undefined ? undefined : target.get(found)];
    const key = columns && keyOf(columns);
    const legacyKey = there && key && legacyKeyOf(there, table, key);
    const reason = !columns
      ? "the source has no such table"
      : !key
        ? "no column that is a smallint, integer or bigint identifies its rows alone"
        : isSecret(key.column)
          ? `its key ${key.column} has a name that says it is secret, and nothing in denied.ts can be read: if it is none, take it out there, and write the entity by hand`
          : found === undefined
            ? (reasons.get(table) ??
              `no table of the target has a name like it: say which one takes it, as ${hint(table, "name")}`)
            : !there
              ? `the target has no table ${found}`
              : !there.some(({ column, type }) => column === "id" && type === "uuid")
                ? `${found} of the target has no column id of type uuid`
                : legacyKey
                  ? undefined
                  : `${found} of the target has no unique integer column named after the old ids: add one, as legacy_id bigint not null unique`;
    if (reason === undefined && found !== undefined && key && legacyKey)
      pairs.push({ name: plainName(found, names, "records", constantOf), source: table, target: found, key, legacyKey });
    else left.push({ table, reason: reason ?? "" });
  }
  return { pairs, left };
}

/**
 * Partners by their names, or why a table has none. All of the source's tables have a part in it: one that is not
 * meant, or that cannot be an entity, does not leave its name to another one.
 */
function match(
  source: readonly string[],
  target: readonly string[],
  chosen: Chosen,
  meant: ReadonlySet<string>,
): { readonly partners: ReadonlyMap<string, string>; readonly reasons: ReadonlyMap<string, string> } {
  const partners = new Map<string, string>();
  const reasons = new Map<string, string>();
  const takenBy = new Map<string, string>();
  /** Targets that several tables resemble alike: a weaker likeness decides nothing. */
  const doubtful = new Set<string>();
  const take = (table: string, name: string) => {
    const by = takenBy.get(name);
    if (by === undefined) takenBy.set(name, table);
    if (by === undefined) partners.set(table, name);
    else reasons.set(table, takenAlready(name, by, meant));
  };
  for (const [table, name] of chosen) if (name !== null) take(table, name);
  for (const like of likenesses(source)) {
    const open = source.filter((table) => !partners.has(table) && !reasons.has(table));
    const found = new Map(open.map((table) => [table, target.filter((name) => !doubtful.has(name) && like(table, name))]));
    const free = new Map(open.map((table) => [table, (found.get(table) ?? []).filter((name) => !takenBy.has(name))]));
    for (const table of open) {
      const [names, [gone]] = [free.get(table) ?? [], found.get(table) ?? []];
      const [one] = names;
      const rivals = one === undefined ? [] : open.filter((other) => free.get(other)?.includes(one));
      if (names.length > 1 || rivals.length > 1) for (const name of names) doubtful.add(name);
      if (one === undefined) {
        if (gone !== undefined) take(table, gone);
      } else if (names.length > 1) {
        reasons.set(table, `it resembles ${both(names)} alike: say which one takes it, as ${hint(table, one)}`);
      } else if (rivals.length > 1) {
        reasons.set(table, `${one} resembles ${both(rivals)} alike: say which one it takes, as ${hint(table, one)}`);
      } else {
        take(table, one);
      }
    }
  }
  return { partners, reasons };
}

/** The same name; the same words; the same words behind a prefix that other tables of the source have, too. */
function likenesses(source: readonly string[]): readonly ((from: string, to: string) => boolean)[] {
  const prefixes = source.map((table) => wordsOf(table)[0]);
  const same = (one: string, other: string) => one !== "" && one === other;
  const behind = (table: string) => {
    const [prefix, ...rest] = wordsOf(table);
    return prefixes.filter((other) => other === prefix).length > 1 ? rest.join("") : "";
  };
  return [
    (from, to) => from === to,
    (from, to) => same(likeness(from), likeness(to)),
    (from, to) => same(behind(from), likeness(to)),
  ];
}

function takenAlready(name: string, by: string, meant: ReadonlySet<string>): string {
  return meant.has(by)
    ? `${name} takes another table's records already: an entity of several tables is written by hand`
    : `${name} is like ${by}, rather: if it takes these records, say so`;
}

function both(names: readonly string[]): string {
  return [...names].sort().join(" and ");
}

/** What a person can type, in any shell. */
function hint(table: string, name: string): string {
  return `--tables '${`${table}=${name}`.replaceAll("'", String.raw`'\''`)}'`;
}

/** The unique integer column that is named after the old ids. No other number is one: an invoice's number is not its id. */
function legacyKeyOf(columns: readonly Column[], table: string, key: Column): Column | undefined {
  const able = columns.filter(isInteger).filter(({ unique, references, computed }) => unique && references === null && !computed);
  const called = [likeness(`legacy ${key.column}`), likeness(`legacy ${table} id`), "legacyid", likeness(key.column)];
  const named = called.map((name) => able.find(({ column }) => likeness(column) === name)).find((one) => one !== undefined);
  const legacy = able.filter(({ column }) => wordsOf(column)[0] === "legacy");
  return named ?? (legacy.length === 1 ? legacy[0] : undefined);
}
