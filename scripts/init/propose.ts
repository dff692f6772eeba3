import { everDenied, type Denied } from "../../shared/entity/denied.ts";
import { kindOf, TAKES } from "../../shared/entity/kinds.ts";
import type { Column } from "../catalog.ts";
import { constantOf, likeness, plainName } from "./names.ts";
import type { Pair, Tables } from "./pair-tables.ts";

/** How the driving table is called in an entity's SQL. */
const ALIAS = "t";

interface Sides {
  readonly source: Tables;
  readonly target: Tables;
  readonly pairs: readonly Pair[];
  readonly denied: Denied;
}

/** One field of a proposal: its SQL columns and what becomes of them, both as code. */
interface Field {
  readonly column: string;
  readonly reads?: { readonly from: Column; readonly as: string; readonly sql?: string };
  readonly code: string;
}

/**
 * The file of an entity, as far as both catalogs say what it is. What they do not say stands as undecided("...") with
 * the question: nothing starts before somebody has answered it.
 */
export function proposeEntity(pair: Pair, sides: Sides): string {
  const source = (sides.source.get(pair.source) ?? []).filter(({ column }) => column !== pair.key.column);
  const target = (sides.target.get(pair.target) ?? []).filter(
    ({ column, computed }) => column !== "id" && column !== pair.legacyKey.column && !computed,
  );
  const secret = new Set(everDenied(sides.denied));
  const readable = source.filter(({ column }) => !secret.has(column));
  const partner = partnersOf(readable, target, sides.pairs);
  const names = new Set<string>();
  const fields = target.flatMap((to) => fieldOf(to, partner.get(to), names, pair, sides) ?? []);
  const used = new Set(fields.flatMap(({ reads }) => reads?.from.column ?? []));
  const ignored = source
    .filter(({ column }) => !used.has(column))
    .map(({ column, references }) => `${keyed(column)}: ${ignoredAs(column, references, secret.has(column))},`);
  const columns = fields.flatMap(({ reads }) =>
    reads ? [`${reads.as}: ${reads.sql ?? quote(`${ALIAS}.${reads.from.column}`)},`] : [],
  );
  const entity = constantOf(pair.name);
  const body = `export const ${entity} = defineEntity({
    name: ${quote(pair.name)},
    target: { table: ${quote(pair.target)}, legacyKey: ${quote(pair.legacyKey.column)} },
    source: {
      table: ${quote(pair.source)},
      key: ${quote(pair.key.column)},
      alias: ${quote(ALIAS)},
      columns: {${columns.join("\n")}},
      ignored: {${ignored.join("\n")}},
    },
    fields: (f) => ({${fields.map(({ column, code }) => `${keyed(column)}: ${code},`).join("\n")}}),
  });`;
  const imports = ["defineEntity", ...["inZone", "undecided"].filter((name) => body.includes(`${name}(`))];
  const unused = fields.length === 0 ? body.replace("fields: (f) =>", "fields: () =>") : body;
  return `// Proposed from both catalogs. Mark what nobody may see in the queue as { sensitive: true }; docs/entities.md tells what else there is.
    import { ${imports.join(", ")} } from "./define-entity.ts";

    declare module "./define-entity.ts" {
      interface Entities {
        ${quote(pair.name)}: { source: ${quote(pair.source)}; target: ${quote(pair.target)} };
      }
    }

    ${unused}
    `;
}

interface Partner {
  readonly from: Column;
  /** Nothing but where both lead says that they belong together. */
  readonly guessed: boolean;
}

/** Target column → the source column that it takes by its name, or perhaps, as the only one that leads to the same record. */
function partnersOf(source: readonly Column[], target: readonly Column[], pairs: readonly Pair[]): Map<Column, Partner> {
  const partners = new Map<Column, Partner>();
  const free = new Set(source);
  const join = (to: Column, candidates: readonly Column[], guessed = false) => {
    const [from] = candidates;
    if (!from || candidates.length > 1 || partners.has(to)) return;
    partners.set(to, { from, guessed });
    free.delete(from);
  };
  const leads = (from: Column, to: Column) => parentOf(from, to, pairs) !== undefined;
  for (const to of target) {
    const named = [...free].filter(({ column }) => likeness(column) === likeness(to.column));
    const exact = named.filter(({ column }) => column === to.column);
    join(to, exact.length === 1 ? exact : named);
  }
  for (const to of target) {
    const alike = target.filter(
      (other) => !partners.has(other) && other.references !== null && other.references === to.references,
    );
    if (alike.length === 1 && to.references !== null)
      join(
        to,
        [...free].filter((from) => leads(from, to)),
        true,
      );
  }
  return partners;
}

/** The entity whose keys the one column has and whose ids the other. */
function parentOf(from: Column, to: Column, pairs: readonly Pair[]): Pair | undefined {
  const parent = pairs.find(({ source, target }) => source === from.references && target === to.references);
  return parent?.key.column === from.referenced && to.referenced === "id" ? parent : undefined;
}

/** The field of a target column; none where the target can do without one, and no column of the source is its own. */
function fieldOf(to: Column, partner: Partner | undefined, names: Set<string>, pair: Pair, sides: Sides): Field | undefined {
  if (!partner) {
    if (to.optional) return undefined;
    return {
      column: to.column,
      code: ask(`${pair.target} needs ${to.column}, and ${pair.source} has no column like it. What is it?`),
    };
  }
  const { from, guessed } = partner;
  const as = plainName(from.column, names, "column");
  const zoned = zones(from, to);
  const sql =
    zoned === undefined ? {} : { sql: `inZone(${quote(`${ALIAS}.${from.column}`)}, ${ask(zoned)}, ${ask(whyZone(from))})` };
  const guess = `Is ${to.column} what ${from.column} says? Both lead to ${to.references ?? ""}, and their names differ. If so: f.lookup.`;
  return { column: to.column, reads: { from, as, ...sql }, code: guessed ? ask(guess, as) : codeOf(from, to, as, sides) };
}

function codeOf(from: Column, to: Column, as: string, { pairs }: Sides): string {
  const column = quote(as);
  const [kind, taken] = [kindOf(to.type, to.members !== null), kindOf(from.type, from.members !== null)];
  const required = !to.optional && !from.not_null ? ", { required: true }" : "";
  if (to.references !== null) {
    const parent = parentOf(from, to, pairs);
    if (parent) return `f.lookup(${quote(parent.name)}, ${column}${to.optional ? "" : ", { required: true }"})`;
    return ask(unlike(from, to, pairs), as);
  }
  if (kind === "enum") {
    const known = new Set(to.members);
    if (from.members?.every((member) => known.has(member)))
      return `f.mapEnum(${column}, {${from.members.map((member) => `${keyed(member)}: ${quote(member)}`).join(", ")}}${from.not_null || to.not_null ? "" : ", { whenNull: null }"})`;
    return ask(`Which value of ${from.column} is which of ${(to.members ?? []).join(", ")}? f.mapEnum says it.`, as);
  }
  if (kind === "json" && taken === "text") return `f.json(${column}${required})`;
  if (kind === "text" && taken === "enum") return `f.calculate([${column}], (row) => row[${column}] ?? null${required})`;
  const takes: readonly string[] = Object.entries(TAKES).find(([name]) => name === kind)?.[1] ?? [];
  const fits =
    takes.includes(taken) && (kind !== "other" || from.type === to.type) && !(kind === "timestamp" && taken === "date");
  if (!fits) return ask(`${from.column} is ${from.type}, and ${to.column} is ${to.type}. What becomes of it?`, as);
  if (kind === "numeric" && taken === "numeric") return `f.money(${column}${required})`;
  return `f.copy(${column}${required})`;
}

/** Why a reference cannot be looked up. */
function unlike(from: Column, to: Column, pairs: readonly Pair[]): string {
  const parent = pairs.find(({ source, target }) => source === from.references && target === to.references);
  if (!parent || from.referenced === null || to.referenced === null)
    return `${to.column} refers to ${to.references ?? ""}, and no entity says whose ids ${from.column} has. Which?`;
  if (to.referenced !== "id") return `${to.column} has ${to.referenced} of ${parent.target}, and not its id. What is it?`;
  return `${from.column} has ${from.referenced} of ${parent.source}, and not ${parent.key.column}, by which ${parent.name} are known. Which record is it?`;
}

/** Of a time that one side has with a zone and the other without. */
function zones(from: Column, to: Column): string | undefined {
  const [there, here] = [from, to].map(({ type }) => /^timestamp.* (with|without) time zone$/.exec(type)?.[1]);
  if (there === undefined || here === undefined || there === here) return undefined;
  return `In which time zone were the times of ${from.column} meant? Such as Europe/Berlin, or UTC.`;
}

function whyZone({ column }: Column): string {
  return `Who says that the times of ${column} were meant there?`;
}

function ignoredAs(column: string, references: string | null, secret: boolean): string {
  if (secret) return quote("never leaves the source: denied.ts");
  const about = references === null ? "" : `, which refers to ${references}`;
  return ask(`No column of the target is like ${column}${about}. Read it into one, or say why it is left out.`);
}

function ask(question: string, ...columns: string[]): string {
  return `undecided(${[question, ...columns].map(quote).join(", ")})`;
}

/** A key of an object literal. There a quoted __proto__ is none, but sets the prototype. */
function keyed(name: string): string {
  return name === "__proto__" ? `[${quote(name)}]` : quote(name);
}

function quote(text: string): string {
  return JSON.stringify(text);
}
