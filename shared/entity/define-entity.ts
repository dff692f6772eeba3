/**
 * An entity is one target table fed by one projection of the source. Each entity is one file of an installation,
 * which says where its records come from, what each source column becomes, and what is left out and why.
 */
import type { Catalog, EntityName, SourceOf, TargetOf } from "./catalog.ts";
import type {
  CheckedJoins,
  ColumnOf,
  Columns,
  Expression,
  FilterOf,
  Joins,
  Reference,
  Resolved,
  StampOf,
  TableOf,
  Watches,
} from "./columns.ts";
import {
  createBuilders,
  decisionsOf,
  directCopy,
  undecidedField,
  type Field,
  type FieldBuilders,
  type FieldsOf,
  type Strangers,
} from "./fields.ts";
import type { RecordRule } from "./rules.ts";
import { questionIn, questionsWithin } from "./undecided.ts";

export type { Catalog } from "./catalog.ts";
export { expression, idsOf, inZone } from "./columns.ts";
export { compareDecimals, length, member, pattern, range, uuidFormat } from "./rules.ts";
export { undecided } from "./undecided.ts";
export { noneIfBlank, unknownCode, type Decision, type Field, type Problem, type SourceRow } from "./fields.ts";

/**
 * A named, versioned waiver: rows of the driving table for which it is not true are not transferred, and are counted
 * under its name. Raise the version when the meaning changes.
 */
export interface Predicate {
  readonly name: string;
  readonly version: number;
  /** Condition over the driving table and its joins. NULL is not true. */
  readonly where: string;
  /** Why the other rows are not transferred. */
  readonly reason: string;
  /** What becomes of the target row of a record that no longer satisfies it. */
  readonly onLeave: "delete" | "keep";
}

/**
 * What becomes of the target row of a record that the source no longer has: deleted (children before parents, never a
 * row that others refer to), marked by giving fields a value, left as it is, or a person decides.
 */
export type OnDelete<Marks = Readonly<Record<string, boolean | string>>> =
  "hard" | { readonly soft: Marks } | "ignore" | "review";

/** Who wins where both sides have changed a field: the user's four strategies. merge: a JSON object key by key, anything else is put to a person. */
export const STRATEGIES = ["source_wins", "target_wins", "merge", "manual_review"] as const;
export type Strategy = (typeof STRATEGIES)[number];

/** Who wins in a conflict. A field's own strategy counts before its type's, and that before the entity's. */
export interface Conflicts<Name extends string = string> {
  /** Default: source_wins; what it overwrites is kept in the queue. */
  readonly strategy?: Strategy;
  readonly fields?: Readonly<Partial<Record<Name, Strategy>>>;
  /** Of what the target cannot take, target_wins says: leave it as it is until the source changes the record. Default: a person decides. */
  readonly types?: {
    readonly concurrent_modification?: Strategy;
  } & Readonly<
    Partial<Record<"business_rule_violation" | "schema_mismatch" | "uuid_mapping_conflict", "target_wins" | "manual_review">>
  >;
  /** Target rows that somebody has deleted: written again, left away, or (default) a person decides. */
  readonly deleted?: "source_wins" | "target_wins" | "manual_review";
}

/** What is remembered of each record: whole values, or 8-byte hashes of them for records that hardly anybody edits. */
export type History = "values" | "hashes";

export interface EntitySpec<
  I extends Catalog,
  N extends EntityName<I>,
  Alias extends string,
  J extends Joins<TableOf<I["source"]>>,
  C extends Columns,
  LegacyKey extends string,
  F,
  W extends Watches<TableOf<I["source"]>>,
> {
  readonly name: N;
  readonly target: { readonly table: TargetOf<I, N>; readonly legacyKey: LegacyKey & keyof I["target"][TargetOf<I, N>] };
  readonly source: {
    /** Driving table and its integer key; `alias` is how columns, joins and where refer to it. */
    readonly table: SourceOf<I, N>;
    readonly key: ColumnOf<I["source"], SourceOf<I, N>>;
    readonly alias: Alias;
    readonly joins?: J & CheckedJoins<I["source"], SourceOf<I, N>, NoInfer<Alias>, J>;
    /** Which rows of the driving table are records of this entity. Never a filter on a referenced record. */
    readonly where?: string;
    /** Which records are transferred at all, instead of `where`. Never of an entity that others refer to. */
    readonly predicate?: Predicate;
    /** What expressions, `where` and `predicate` ask about besides the joined tables. */
    readonly watches?: W & CheckedJoins<I["source"], SourceOf<I, N>, NoInfer<Alias>, W, J>;
    /** When a row was last written, as the old application says: an accelerator, by which not every change is found. */
    readonly modified?: StampOf<I["source"], SourceOf<I, N>>;
    /** What the date range of a request means for this entity (default: `modified`). */
    readonly dated?: StampOf<I["source"], SourceOf<I, N>>;
    /** Columns by whose values a request may select records; an index should lead with each. */
    readonly filters?: readonly FilterOf<I["source"], SourceOf<I, N>>[];
    readonly columns: C & Readonly<Record<string, Reference<I["source"], SourceOf<I, N>, NoInfer<Alias>, J> | Expression>>;
    /** Columns of the driving table that are left out, each with its reason. */
    readonly ignored: Readonly<Partial<Record<ColumnOf<I["source"], SourceOf<I, N>> | I["denied"], string>>>;
  };
  /** Default: a person decides. */
  readonly onDelete?: OnDelete<Readonly<Partial<Record<keyof I["target"][TargetOf<I, N>] & string, boolean | string>>>>;
  /** Default: the source wins. */
  readonly conflicts?: Conflicts<keyof F & string>;
  /** Default: values. Hashes tell that a record was edited, not in which field; a record takes a fraction of the room. */
  readonly history?: History;
  readonly fields: (
    build: FieldBuilders<Resolved<I["source"], SourceOf<I, N>, Alias, J, C>, I>,
  ) => F & FieldsOf<I["target"][TargetOf<I, N>], LegacyKey> & Strangers<F, I["target"][TargetOf<I, N>], LegacyKey>;
  /** Conditions on a record as a whole. */
  readonly rules?: readonly RecordRule<keyof F & string>[];
}

export interface Entity {
  readonly name: string;
  readonly target: { readonly table: string; readonly legacyKey: string };
  readonly source: {
    readonly table: string;
    readonly key: string;
    readonly alias: string;
    readonly joins: Joins;
    readonly where: string | undefined;
    readonly predicate: Predicate | undefined;
    readonly watches: Watches;
    readonly modified: string | undefined;
    readonly dated: string | undefined;
    readonly filters: readonly string[];
    readonly columns: Columns;
    readonly ignored: Readonly<Partial<Record<string, string>>>;
  };
  readonly onDelete: OnDelete;
  readonly conflicts: Required<Conflicts>;
  readonly history: History;
  /** Target column → field, the legacy key first. */
  readonly fields: Readonly<Record<string, Field>>;
  readonly rules: readonly RecordRule[];
  /** What is left open elsewhere than in a field, a column or the reason of an ignored one. */
  readonly undecided?: readonly string[];
  /** Entities that must have run before. An entity whose records refer to each other does not wait for itself: they do. */
  readonly dependsOn: readonly string[];
}

/** The alias under which the key travels in every projection. */
export const KEY = "_key";

/** Defines an entity of an installation: the compiler checks it against both catalogs. */
export type DefineEntity<I extends Catalog> = <
  const N extends EntityName<I>,
  const Alias extends string,
  const C extends Columns,
  const LegacyKey extends string,
  F,
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type -- an entity without joins
  const J extends Joins<TableOf<I["source"]>> = {},
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type -- an entity without watches
  const W extends Watches<TableOf<I["source"]>> = {},
>(
  spec: EntitySpec<I, N, Alias, J, C, LegacyKey, F, W>,
) => Entity;

/** What the entity files of an installation define their entities with. */
export function entityDefiner<I extends Catalog>(): DefineEntity<I> {
  return defineEntity as unknown as DefineEntity<I>;
}

/** An entity as its file says it, checked against no catalog. */
export interface UncheckedSpec extends Partial<
  Pick<Entity, "onDelete" | "history" | "rules"> & { readonly conflicts: Conflicts }
> {
  readonly name: string;
  readonly target: Entity["target"];
  readonly source: Pick<Entity["source"], "table" | "key" | "alias" | "columns" | "ignored"> & Partial<Entity["source"]>;
  readonly fields: (build: FieldBuilders<never>) => object;
}

/**
 * Defines an entity. What the compiler cannot check is checked at start-up by validateRegistry.
 * @throws RangeError where an object literal of the fields names `__proto__`, which is no field there.
 */
export function defineEntity(spec: UncheckedSpec): Entity {
  const made: Readonly<Record<string, unknown>> = {
    ...plain(spec.name, spec.fields(asking(createBuilders(spec.name)) as unknown as FieldBuilders<never>)),
  };
  const open = openIn(spec);
  const fields: Readonly<Record<string, Field>> = {
    [spec.target.legacyKey]: directCopy(KEY),
    ...Object.fromEntries(Object.entries(made).map(([name, field]) => [name, decided(field)])),
  };
  return {
    name: spec.name,
    target: spec.target,
    source: {
      ...spec.source,
      joins: spec.source.joins ?? {},
      where: spec.source.where,
      predicate: spec.source.predicate,
      watches: spec.source.watches ?? {},
      modified: spec.source.modified,
      dated: spec.source.dated ?? spec.source.modified,
      filters: spec.source.filters ?? [],
    },
    onDelete: spec.onDelete ?? "review",
    conflicts: { strategy: "source_wins", deleted: "manual_review", fields: {}, types: {}, ...answered(spec.conflicts) },
    history: spec.history ?? "values",
    fields,
    rules: answered(spec.rules) ?? [],
    ...(open.length > 0 && { undecided: open }),
    dependsOn: [...new Set(Object.values(fields).flatMap((f) => f.parent ?? []))].filter((parent) => parent !== spec.name),
  };
}

/** JavaScript takes `"__proto__": value` in a literal for the object's prototype: the field would be missing without a word. */
function plain(entity: string, fields: object): object {
  const prototype: unknown = Object.getPrototypeOf(fields);
  if (prototype !== Object.prototype && prototype !== null)
    throw new RangeError(`${entity}: "__proto__" in a literal is no field. Write ["__proto__"] instead.`);
  return fields;
}

function decided(field: unknown): Field {
  const [open] = questionsWithin(field);
  return open ? undecidedField(open) : (field as Field);
}

/** Builders that make of a field with anything open in it one that is open as a whole. */
function asking(builders: object): object {
  const asks =
    (build: (...given: unknown[]) => unknown) =>
    (...given: unknown[]) => {
      const [open] = questionsWithin(given);
      return open ? undecidedField(open) : build(...given);
    };
  return Object.fromEntries(
    Object.entries(builders).map(([name, build]) => [name, asks(build as (...given: unknown[]) => unknown)]),
  );
}

/** Questions outside the fields; those of ignored columns stand with their reasons. */
function openIn({ fields: _, source: { ignored, ...source }, ...rest }: UncheckedSpec): string[] {
  const reasons = typeof ignored === "string" ? ignored : undefined;
  return questionsWithin([rest, source, reasons]).map(({ question }) => question);
}

function answered<Value>(value: Value): Value | undefined {
  return questionIn(value) ? undefined : value;
}

/** Whether the sync may have to delete rows of the entity's target table. */
export function deletesRows({ onDelete, source: { predicate } }: Entity): boolean {
  return onDelete === "hard" || predicate?.onLeave === "delete";
}

/**
 * Everything in a definition that decides what lands in the target, as plain data: the input of its hash.
 * @param byText rules count by their text, too: of an entity without a file nothing else tells what they mean.
 */
export function definitionOf(entity: Entity, byText = true): unknown {
  const ruleOf = ({ holds, ...rule }: { holds: (value: never) => boolean }) => [rule, ...(byText ? [holds.toString()] : [])];
  // How records are found and selected changes none of them.
  const { modified: _modified, dated: _dated, filters: _filters, ...source } = entity.source;
  return {
    ...entity,
    source,
    rules: entity.rules.map(ruleOf),
    fields: Object.entries(entity.fields).map(([name, field]) => {
      const { decide: _, rules, ...rest } = field;
      return [name, rest, rules.map(ruleOf), decisionsOf(field)];
    }),
  };
}
