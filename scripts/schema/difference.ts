import type { Catalog, CatalogFunction } from "./catalog.ts";

export interface Difference {
  /** Statements that bring functions and triggers from the one to the other, in an order in which they can run. */
  readonly statements: readonly string[];
  /** What a person has to write, because only a person knows what becomes of the rows. */
  readonly byHand: readonly string[];
}

type Change = "add" | "drop" | "remake" | "replace" | "none";

/** What brings a database from one catalog to another. */
export function difference(from: Catalog, to: Catalog): Difference {
  const keys = [...new Set([...from.functions.keys(), ...to.functions.keys()])];
  const changes = new Map(keys.map((key) => [key, changeOf(from.functions.get(key), to.functions.get(key))]));
  const are = (...wanted: Change[]) => keys.filter((key) => wanted.includes(changes.get(key) ?? "none"));
  const stale = [...from.triggers.keys()].filter((key) => from.triggers.get(key) !== to.triggers.get(key));
  const fresh = [...to.triggers].filter(([key, definition]) => from.triggers.get(key) !== definition);
  return {
    statements: [
      ...stale.map((key) => `drop trigger ${key};`),
      // The last made first: nobody calls it.
      ...are("drop", "remake")
        .reverse()
        .map((key) => `drop function ${key};`),
      ...[...to.functions].flatMap(([key, one]) => statementsFor(key, from.functions.get(key), one, changes.get(key) ?? "none")),
      ...fresh.map(([, definition]) => `${definition};`),
    ],
    byHand: [
      ...from.others.filter((line) => !to.others.includes(line)).map((line) => `only in the migrations: ${line}`),
      ...to.others.filter((line) => !from.others.includes(line)).map((line) => `only in supabase/schemas: ${line}`),
    ],
  };
}

function changeOf(from: CatalogFunction | undefined, to: CatalogFunction | undefined): Change {
  if (from === undefined) return "add";
  if (to === undefined) return "drop";
  if (from.signature !== to.signature) return "remake";
  return from.definition === to.definition ? "none" : "replace";
}

/** A function that is made anew begins with the rights that everybody has on a new one; one that is replaced keeps its own. */
function statementsFor(key: string, from: CatalogFunction | undefined, to: CatalogFunction, change: Change): readonly string[] {
  const isNew = change === "add" || change === "remake";
  const before = isNew || from === undefined ? { comment: null, owner: null, callers: ["public"] } : from;
  return [
    ...(change === "none" ? [] : [`${to.definition.trimEnd()};`]),
    ...(before.comment === to.comment
      ? []
      : [`comment on function ${key} is ${to.comment === null ? "null" : literal(to.comment)};`]),
    ...before.callers.filter((role) => !to.callers.includes(role)).map((role) => `revoke all on function ${key} from ${role};`),
    ...to.callers.filter((role) => !before.callers.includes(role)).map((role) => `grant execute on function ${key} to ${role};`),
    ...(before.owner === to.owner ? [] : ownedBy(key, to.owner)),
  ];
}

/** Only who may create in the schema can own a function of it. */
function ownedBy(key: string, owner: string | null): readonly string[] {
  if (owner === null) return [`alter function ${key} owner to current_user;`];
  return [
    `grant create on schema sync to ${owner};`,
    `alter function ${key} owner to ${owner};`,
    `revoke create on schema sync from ${owner};`,
  ];
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
