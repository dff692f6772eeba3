import { SCHEMA_VERSION } from "../db/schema-version.ts";
import type { Sql } from "../db/connect.ts";
import { foundObjects, type DeclaredObject, type FoundObject } from "../target/objects.ts";
import { DECLARED_OBJECTS } from "./declared-objects.gen.ts";
import { findingsOn, type Finding } from "./finding.ts";

/** As many findings of one code are told, and as many names in one finding. */
const MOST = 20;

const find = findingsOn(null, null);

/** What somebody has changed, added or dropped of ours in the target, while it has the version that these functions were made for. */
export async function driftFindings(target: Sql): Promise<readonly Finding[]> {
  const named = (...kinds: readonly string[]) =>
    DECLARED_OBJECTS.map(({ object }) => object.split(" public."))
      .filter(([kind = "", name]) => name !== undefined && kinds.includes(kind))
      .map(([, name = ""]) => name);
  const { version, objects } = await foundObjects(target, named("table", "view", "sequence"), named("type"));
  // Of another version every other answer tells (SCHEMA_OUTDATED), or nothing is wrong.
  if (objects.length === 0 || (version !== null && version !== String(SCHEMA_VERSION))) return [];
  return compareObjects(DECLARED_OBJECTS, objects);
}

/** What a database has otherwise than declared: things first, then rights on things that are as declared. */
export function compareObjects(declared: readonly DeclaredObject[], found: readonly FoundObject[]): readonly Finding[] {
  const has = new Map(found.map((one) => [one.object, one]));
  const says = new Map(declared.map((one) => [one.object, one]));
  const missing = withoutParts(declared.filter(({ object }) => !has.has(object)));
  const added = withoutParts(found.filter(({ object }) => !says.has(object)));
  const changed = declared.filter(({ object, digest }) => (has.get(object)?.digest ?? digest) !== digest);
  const rights = declared.flatMap((one) => {
    const now = has.get(one.object);
    return now === undefined ? [] : rightsBetween(one, now);
  });
  return [
    ...capped(
      missing.map((one) => find("target_object_missing", { message: `Gone: ${one.object}.`, remedy: missingRemedy(one) })),
    ),
    ...capped(
      changed.map((one) =>
        find("target_object_changed", {
          message: `Changed, against what the release declares: ${one.object}.`,
          remedy: changedRemedy(one),
        }),
      ),
    ),
    ...capped(
      added.map(({ object }) =>
        find("target_object_added", {
          message: `Not of the release: ${object}.`,
          remedy: `If nobody needs it: drop ${object}; Things of yours belong into another schema, or on tables of yours.`,
        }),
      ),
    ),
    ...capped(rightFindings(rights.filter(({ given }) => given))),
    ...capped(rightFindings(rights.filter(({ given }) => !given))),
  ];
}

/** Without what belongs to a table that is in the list itself. */
function withoutParts<T extends { readonly object: string }>(objects: readonly T[]): readonly T[] {
  const tables = objects.flatMap(({ object }) => /^(?:table|view) (.+)$/.exec(object)?.[1] ?? []);
  return objects.filter(({ object }) => !tables.some((table) => / (?:on|of) /.test(object) && object.endsWith(` ${table}`)));
}

function capped(findings: readonly Finding[]): readonly Finding[] {
  const rest = findings.slice(MOST);
  const [first] = rest;
  if (first === undefined || rest.length === 1) return findings;
  const message = `The same is true of ${rest.length.toLocaleString("en")} more.`;
  return [...findings.slice(0, MOST), { ...first, message, remedy: "Mend those that are named, and check again." }];
}

function missingRemedy({ object, file }: DeclaredObject): string {
  const rights = /^(function|table|sequence|type)/.test(object) ? ", then those that give its rights" : "";
  return `Run its statement of ${place(file)} again as the owner of the schema sync${rights}.`;
}

function changedRemedy({ object, file }: DeclaredObject): string {
  const [, kind = "", name = "", table = ""] = /^(\w+) (?:level security of )?(.+?)(?: on (.+))?$/.exec(object) ?? [];
  const meant = "A change that is meant belongs into that file (docs/changing-the-database.md).";
  switch (kind) {
    case "function":
      return `Run its statement of ${place(file)} again as the owner of the schema sync, with create or replace function. ${meant}`;
    case "trigger":
      return `If it was switched off: alter table ${table} enable trigger ${name}; otherwise drop trigger ${name} on ${table}; and run its statement of ${place(file)} again. ${meant}`;
    case "policy":
      return `drop policy ${name} on ${table}; then run its statement of ${place(file)} again. ${meant}`;
    case "row":
      return `alter table ${name} enable row level security, no force row level security;`;
    default:
      return `Compare it, and its owner, with ${place(file)}. ${meant}`;
  }
}

function place(file: string | null): string {
  return `supabase/${file ?? "schemas/"}`;
}

/** A right that the database has beyond the declared ones (given), or lacks. */
interface Right {
  readonly object: string;
  readonly given: boolean;
  readonly role: string;
  /** `SELECT`, `UPDATE (status)`. */
  readonly privilege: string;
  readonly byDefault: boolean;
  /** Declared rights on columns of the same table, which PostgreSQL takes along with the right on the table. */
  readonly columns: readonly string[];
}

const RIGHT = /^("(?:[^"]|"")+"|\S+) (\w+(?: \(.+\))?)/;

function rightsBetween({ object, rights }: DeclaredObject, found: FoundObject): readonly Right[] {
  const right = (given: boolean) => (text: string) => {
    const [, role = "", privilege = ""] = RIGHT.exec(text) ?? [];
    const columns = rights.filter((one) => given && one.startsWith(`${role} ${privilege} (`));
    return {
      object,
      given,
      role,
      privilege,
      byDefault: given && found.byDefault.includes(text),
      columns: columns.map((one) => one.slice(role.length + 1)),
    };
  };
  return [
    ...found.rights.filter((one) => !rights.includes(one)).map(right(true)),
    ...rights.filter((one) => !found.rights.includes(one)).map(right(false)),
  ];
}

/** One finding for what a role has, or lacks, alike on things of one kind. */
function rightFindings(rights: readonly Right[]): readonly Finding[] {
  const ofObjects = [...groups(rights, ({ object, role }) => JSON.stringify([object, role])).values()];
  const alike = groups(ofObjects, (group) =>
    JSON.stringify([
      group[0]?.role,
      group[0]?.object.split(" ")[0],
      ...group.map(({ privilege, byDefault }) => [privilege, byDefault]),
    ]),
  );
  return [...alike.values()].flatMap((objects) => {
    const [first] = objects[0] ?? [];
    return first === undefined ? [] : [rightFinding(first, objects[0] ?? [], objects)];
  });
}

function rightFinding(first: Right, alike: readonly Right[], objects: readonly (readonly Right[])[]): Finding {
  const { given, role } = first;
  const [kind = ""] = first.object.split(" ");
  const on = objects.flatMap(([one]) => one?.object.slice(kind.length + 1) ?? []);
  const shown = on.slice(0, MOST).join(", ");
  const more = on.length > MOST ? ` and ${(on.length - MOST).toLocaleString("en")} more` : "";
  const privileges = alike.map(({ privilege }) => privilege).join(", ");
  const target = `${privileges} on ${kind === "view" ? "table" : kind} ${shown}`;
  const who = role === "public" ? "Everybody" : role;
  if (!given)
    return find("target_right_missing", {
      message: `${who} has lost ${privileges} on ${kind} ${shown}${more}, which the release gives.`,
      remedy: `grant ${target} to ${role};`,
    });
  const again = objects
    .slice(0, MOST)
    .flat()
    .filter(({ columns }) => columns.length > 0)
    .map(({ columns, object }) => ` grant ${columns.join(", ")} on ${object} to ${role};`);
  return find("target_right_added", {
    message: `${who} may ${privileges} on ${kind} ${shown}${more}, which the release does not give.`,
    remedy: `revoke ${target} from ${role};${again.join("")}${alike.some(({ byDefault }) => byDefault) ? defaults(first, privileges) : ""}`,
  });
}

function defaults({ object, role }: Right, privileges: string): string {
  const [, kind = "", schema = ""] = /^(\w+) (\w+)\./.exec(object) ?? [];
  return (
    ` Default privileges give it on each new ${kind}, and an upgrade may bring it back: ` +
    `alter default privileges in schema ${schema} revoke ${privileges} on ${kind}s from ${role}; (without "in schema ${schema}" where they are those of every schema).`
  );
}

function groups<T>(all: readonly T[], keyOf: (one: T) => string): ReadonlyMap<string, readonly T[]> {
  const made = new Map<string, T[]>();
  for (const one of all) made.set(keyOf(one), [...(made.get(keyOf(one)) ?? []), one]);
  return made;
}
