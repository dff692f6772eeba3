import { Random } from "../../../clinic/dataset/random.ts";
import { denied } from "../../../clinic/denied.ts";
import { everDenied } from "../../../shared/entity/denied.ts";
import type { OnDelete, Strategy } from "../../../shared/entity/define-entity.ts";
import type { SqlNames } from "../sql-names.ts";
import { drawPair, MANY, type ColumnPair } from "./columns.ts";
import { HOSTILE_NAMES, Names } from "./names.ts";
import { drawSourceRules } from "./source-rules.ts";

/** What a foreign key does when the row that it refers to is deleted, or gets another key. */
export const ACTIONS = ["cascade", "set null", "restrict", "no action"] as const;

/** One column of the source and the one of the target that it fills. */
export interface HostileColumn {
  readonly source: string;
  readonly target: string;
  readonly pair: ColumnPair;
  readonly required: { readonly source: boolean; readonly target: boolean };
  /** SQL of a default of the target, which the sync never uses. */
  readonly withDefault: boolean;
  /** Computed by the source from its first text column. */
  readonly generated: boolean;
}

/** A reference to a table of the schema, by its number. */
export interface HostileReference {
  readonly source: string;
  readonly target: string;
  readonly parent: number;
  readonly required: boolean;
  /** Behind `references …`; undefined: the target has no foreign key. */
  readonly constraint: string | undefined;
}

export interface HostileTable {
  readonly entity: string;
  readonly alias: string;
  readonly source: string;
  readonly target: string;
  readonly key: string;
  readonly keyType: string;
  readonly legacyKey: string;
  readonly layout: "plain" | "partitioned" | "inherited";
  /** The name of a time stamp of the source, by which changes may be found. */
  readonly modified: string | undefined;
  readonly columns: readonly HostileColumn[];
  readonly references: readonly HostileReference[];
  readonly triggers: readonly HostileTrigger[];
  readonly constraints: readonly HostileConstraint[];
  /** Columns of the target that are the application's. */
  readonly own: { readonly touched: string; readonly computed: string };
  readonly rowSecurity: boolean;
  readonly onDelete: OnDelete;
  readonly strategy: Strategy;
  readonly deleted: "source_wins" | "target_wins" | "manual_review";
  readonly history: "values" | "hashes";
  readonly ids: readonly string[];
}

export type HostileTrigger = { readonly name: string } & (
  | { readonly does: "touches" | "touches after" | "cancels" | "raises" }
  | { readonly does: "alters"; readonly column: string; readonly value: string; readonly on?: "update" }
);

export type HostileConstraint = { readonly name: string } & (
  | { readonly kind: "unique"; readonly columns: readonly string[]; readonly expression: boolean; readonly rest: string }
  | { readonly kind: "check"; readonly column: string | undefined }
);

export interface HostileSchema {
  readonly seed: number;
  readonly tables: readonly HostileTable[];
  /** Statements for what the source keeps true of its tables; each may fail. */
  readonly sourceRules: readonly string[];
  /** Which combination of settings both sides have. */
  readonly settings: number;
}

/** Draws a schema. `ours`: names that our SQL uses; `taken`: those of tables that are there already. */
export function drawSchema(random: Random, seed: number, ours: SqlNames, taken: readonly string[]): HostileSchema {
  const draw = new Drawing(random, ours, taken);
  const tables: HostileTable[] = [];
  const count = random.between(2, 5);
  for (let n = 0; n < count; n++) tables.push(draw.table(n));
  const settings = random.between(0, 8);
  const tidied = someTidied(Random.for(seed, "hostile tidying"), tables);
  const sourceRules = drawSourceRules(Random.for(seed, "hostile source"), tables, taken);
  const cancelled = someCancelled(Random.for(seed, "hostile cancelling"), tidied);
  return { seed, tables: someStamped(Random.for(seed, "hostile stamping"), cancelled), sourceRules, settings };
}

/** In every third schema one more table has a trigger that cancels some writes without a word. */
function someCancelled(random: Random, tables: readonly HostileTable[]): readonly HostileTable[] {
  const able = tables.filter((table) => table.triggers.length === 0);
  if (able.length === 0 || random.chance(0.65)) return tables;
  const cancelled = random.pick(able);
  return tables.map((table) => (table === cancelled ? { ...table, triggers: [{ name: "cancels", does: "cancels" }] } : table));
}

/** In every third schema one more table has a trigger that tidies texts up, as many applications do: the triggers drawn above seldom do that. */
function someTidied(random: Random, tables: readonly HostileTable[]): readonly HostileTable[] {
  const textsOf = ({ columns, onDelete }: HostileTable) =>
    columns.filter(({ pair, target }) => pair.target === "text" && !(typeof onDelete === "object" && target in onDelete.soft));
  const able = tables.filter((table) => table.triggers.length === 0 && textsOf(table).length > 0);
  if (able.length === 0 || random.chance(0.65)) return tables;
  const tidied = random.pick(able);
  const column = random.pick(textsOf(tidied)).target;
  const trigger: HostileTrigger = { name: "tidies", does: "alters", column, value: "('<' || trim(both '<>' from ?) || '>')" };
  return tables.map((table) => (table === tidied ? { ...table, triggers: [trigger] } : table));
}

/**
 * In every second schema one more table has a trigger that writes into a column whenever a row is updated, whatever
 * the update was about, and another value each time: what it alters is seldom what was written, and may be the mark
 * of a deleted record.
 */
function someStamped(random: Random, tables: readonly HostileTable[]): readonly HostileTable[] {
  const textsOf = ({ columns }: HostileTable) => columns.filter(({ pair }) => pair.target === "text");
  const able = tables.filter((table) => table.triggers.length === 0 && textsOf(table).length > 0);
  if (able.length === 0 || random.chance(0.5)) return tables;
  const stamped = random.pick(able);
  const column = random.pick(textsOf(stamped)).target;
  const trigger: HostileTrigger = { name: "stamps", does: "alters", on: "update", column, value: "(? || '!')" };
  return tables.map((table) => (table === stamped ? { ...table, triggers: [trigger] } : table));
}

class Drawing {
  readonly #random: Random;
  readonly #names: Names;
  readonly #entities = new Set<string>();
  readonly #aliases = new Set<string>();
  /** Tables, indexes and types of a database share their names. */
  readonly #objects: Set<string>;

  constructor(random: Random, ours: SqlNames, taken: readonly string[]) {
    this.#random = random;
    const secret = new RegExp(everDenied(denied).join("|"), "i");
    this.#names = new Names(random, [...ours.columns.filter((name) => !secret.test(name)), ...HOSTILE_NAMES]);
    this.#objects = new Set(taken);
  }

  table(n: number): HostileTable {
    const random = this.#random;
    const names = this.#names;
    const [there, here] = [new Set<string>(), new Set(["id"])];
    const key = names.next(there);
    const legacyKey = names.next(here);
    const own = { touched: names.next(here), computed: names.next(here) };
    const columns = Array.from({ length: random.between(3, 7) }, () => this.#column(there, here));
    const references = this.#references(n, there, here);
    const keyType = random.pick(["smallint", "integer", "bigint"]);
    return {
      entity: random.chance(0.5) ? `e${n}` : names.next(this.#entities),
      alias: names.plain(this.#aliases),
      source: names.next(this.#objects),
      target: names.next(this.#objects),
      key,
      keyType,
      legacyKey,
      layout: random.chance(0.7) ? "plain" : random.pick(["partitioned", "inherited"] as const),
      modified: random.chance(0.35) ? names.next(there) : undefined,
      columns,
      references,
      triggers: random.chance(0.3) ? this.#triggers(columns) : [],
      constraints: this.#constraints(columns),
      own,
      rowSecurity: random.chance(0.3),
      onDelete: this.#onDelete(columns),
      strategy: random.pick(["source_wins", "source_wins", "target_wins", "merge", "manual_review"] as const),
      deleted: random.pick(["source_wins", "target_wins", "manual_review"] as const),
      history: random.chance(0.25) ? "hashes" : "values",
      ids: this.#ids(keyType),
    };
  }

  #column(there: Set<string>, here: Set<string>): HostileColumn {
    const random = this.#random;
    const pair = drawPair(random, this.#names, this.#objects);
    const source = this.#names.next(there);
    const target = random.chance(0.5) && !here.has(source) ? source : this.#names.next(here);
    here.add(target);
    // A column of a smallest type may hold what its neighbour cannot: NULL is not always allowed on both sides.
    const required = { source: random.chance(0.2), target: random.chance(0.15) };
    const generated = pair.source === "text" && pair.kind === "same" && random.chance(0.3);
    return {
      source,
      target,
      pair,
      required: generated ? { source: false, target: false } : required,
      withDefault: random.chance(0.2),
      generated,
    };
  }

  #references(n: number, there: Set<string>, here: Set<string>): HostileReference[] {
    const random = this.#random;
    const parents = Array.from({ length: n }, (_, parent) => parent)
      .filter(() => random.chance(0.5))
      .slice(-3);
    if (random.chance(0.25)) parents.push(n);
    return parents.map((parent) => {
      const when = random.pick(["", " deferrable initially deferred", " deferrable", ""]);
      return {
        source: this.#names.next(there),
        target: this.#names.next(here),
        parent,
        required: parent !== n && random.chance(0.3),
        constraint: random.chance(0.9) ? `on delete ${random.pick(ACTIONS)} on update ${random.pick(ACTIONS)}${when}` : undefined,
      };
    });
  }

  #triggers(columns: readonly HostileColumn[]): HostileTrigger[] {
    const random = this.#random;
    const taken = new Set<string>();
    return Array.from({ length: random.between(1, 2) }, (): HostileTrigger => {
      const name = this.#names.next(taken);
      const text = columns.filter(({ pair }) => pair.target === "text");
      const whole = columns.filter(({ pair }) => /^(bigint|numeric)$/.test(pair.target));
      const altered = random.chance(0.5)
        ? random.pick(text.length > 0 ? text : columns)
        : random.pick(whole.length > 0 ? whole : columns);
      const does = random.pick(["touches", "touches after", "cancels", "raises", "alters"] as const);
      if (does !== "alters") return { name, does };
      if (altered.pair.target === "text") return { name, does, column: altered.target, value: "upper(?)" };
      if (whole.includes(altered)) return { name, does, column: altered.target, value: "(? + 1)" };
      return { name, does: "touches" };
    });
  }

  #constraints(columns: readonly HostileColumn[]): HostileConstraint[] {
    const random = this.#random;
    const found: HostileConstraint[] = [];
    const many = columns.filter(({ pair }) => MANY.test(pair.source));
    if (many.length > 0 && random.chance(0.4)) {
      const some = random.sample(many, random.between(1, 2)).map(({ target }) => target);
      const expression = random.chance(0.3);
      const rest = random.pick(["", "", " nulls not distinct", "where"]);
      found.push({ name: this.#names.next(this.#objects), kind: "unique", columns: some, expression, rest });
    }
    if (random.chance(0.3)) {
      const column = random.chance(0.5) ? undefined : random.pick(columns).target;
      found.push({ name: this.#names.next(new Set()), kind: "check", column });
    }
    return found;
  }

  #onDelete(columns: readonly HostileColumn[]): OnDelete {
    const text = columns.find(({ pair, required }) => pair.target === "text" && pair.kind === "same" && !required.target);
    if (text && this.#random.chance(0.3)) return { soft: { [text.target]: "gone" } };
    return this.#random.pick(["hard", "hard", "ignore", "review"] as const);
  }

  #ids(keyType: string): string[] {
    const random = this.#random;
    const least = { smallint: "-32768", integer: "-2147483648", bigint: "-9223372036854775808" }[keyType] ?? "0";
    const most = { smallint: "32767", integer: "2147483647", bigint: "9223372036854775807" }[keyType] ?? "0";
    const ids = Array.from({ length: random.between(6, 12) }, (_, n) => String(n * random.between(1, 3) + n + 1));
    return [...new Set([...ids, ...(random.chance(0.2) ? [least, "0", "-1", most] : [])])];
  }
}
