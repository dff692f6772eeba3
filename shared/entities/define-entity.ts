/**
 * An entity is one target table fed by one projection of the source. Each entity is one file here, which says where
 * its records come from, what each source column becomes, and what is left out and why.
 */
import type { TargetTables } from "../schema/target-tables.gen.ts";
import type {
  CheckedJoins,
  ColumnOf,
  Columns,
  DeniedColumn,
  Expression,
  FilterOf,
  Joins,
  Reference,
  Resolved,
  SourceTable,
  StampOf,
  Watches,
} from "./columns.ts";
import {
  createBuilders,
  decisionsOf,
  directCopy,
  type Field,
  type FieldBuilders,
  type FieldsOf,
  type Strangers,
} from "./fields.ts";
import type { RecordRule } from "./rules.ts";

export { expression, idsOf, inZone } from "./columns.ts";
export { compareDecimals, length, member, pattern, range, uuidFormat } from "./rules.ts";
export { noneIfBlank, unknownCode, type Decision, type Field, type Problem, type SourceRow } from "./fields.ts";

/** Entity name → its driving table in the source and its table in the target. Every entity file adds its own line. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by declaration merging
export interface Entities {}
export type EntityName = keyof Entities;
export type TargetTable = keyof TargetTables;
/** The driving table of an entity, and the target table. */
export type SourceOf<N extends EntityName> = Entities[N] extends { source: infer Table extends SourceTable } ? Table : never;
export type TargetOf<N extends EntityName> = Entities[N] extends { target: infer Table extends TargetTable } ? Table : never;

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
 * What becomes of the target row of a record that the source no longer has: deleted (children before parents, never a row
 * that others refer to), marked by giving fields a value, left as it is, or a person decides.
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
  N extends EntityName,
  Alias extends string,
  J extends Joins,
  C extends Columns,
  LegacyKey extends string,
  F,
  W extends Watches,
> {
  readonly name: N;
  readonly target: { readonly table: TargetOf<N>; readonly legacyKey: LegacyKey & keyof TargetTables[TargetOf<N>] };
  readonly source: {
    /** Driving table and its integer key; `alias` is how columns, joins and where refer to it. */
    readonly table: SourceOf<N>;
    readonly key: ColumnOf<SourceOf<N>>;
    readonly alias: Alias;
    readonly joins?: J & CheckedJoins<SourceOf<N>, NoInfer<Alias>, J>;
    /** Which rows of the driving table are records of this entity. Never a filter on a referenced record. */
    readonly where?: string;
    /** Which records are transferred at all, instead of `where`. Never of an entity that others refer to. */
    readonly predicate?: Predicate;
    /** What expressions, `where` and `predicate` ask about besides the joined tables. */
    readonly watches?: W & CheckedJoins<SourceOf<N>, NoInfer<Alias>, W, J>;
    /** When a row was last written, as the old application says: an accelerator, by which not every change is found. */
    readonly modified?: StampOf<SourceOf<N>>;
    /** What the date range of a request means for this entity (default: `modified`). */
    readonly dated?: StampOf<SourceOf<N>>;
    /** Columns by whose values a request may select records; an index should lead with each. */
    readonly filters?: readonly FilterOf<SourceOf<N>>[];
    readonly columns: C & Readonly<Record<string, Reference<SourceOf<N>, NoInfer<Alias>, J> | Expression>>;
    /** Columns of the driving table that are left out, each with its reason. */
    readonly ignored: Readonly<Partial<Record<ColumnOf<SourceOf<N>> | DeniedColumn, string>>>;
  };
  /** Default: a person decides. */
  readonly onDelete?: OnDelete<Readonly<Partial<Record<keyof TargetTables[TargetOf<N>] & string, boolean | string>>>>;
  /** Default: the source wins. */
  readonly conflicts?: Conflicts<keyof F & string>;
  /** Default: values. Hashes tell that a record was edited, not in which field; a record takes a fraction of the room. */
  readonly history?: History;
  readonly fields: (
    build: FieldBuilders<Resolved<SourceOf<N>, Alias, J, C>>,
  ) => F & FieldsOf<TargetTables[TargetOf<N>], LegacyKey> & Strangers<F, TargetTables[TargetOf<N>], LegacyKey>;
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
  /** Entities that must have run before. An entity whose records refer to each other does not wait for itself: they do. */
  readonly dependsOn: readonly string[];
}

/** The alias under which the key travels in every projection. */
export const KEY = "_key";

/** Defines an entity. What the compiler cannot check is checked at start-up by validateRegistry. */
export function defineEntity<
  const N extends EntityName,
  const Alias extends string,
  const C extends Columns,
  const LegacyKey extends string,
  F,
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type -- an entity without joins
  const J extends Joins = {},
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type -- an entity without watches
  const W extends Watches = {},
>(spec: EntitySpec<N, Alias, J, C, LegacyKey, F, W>): Entity {
  const fields: Readonly<Record<string, Field>> = {
    [spec.target.legacyKey]: directCopy(KEY),
    ...spec.fields(createBuilders(spec.name)),
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
    onDelete: (spec.onDelete ?? "review") as OnDelete,
    conflicts: { strategy: "source_wins", deleted: "manual_review", fields: {}, types: {}, ...spec.conflicts },
    history: spec.history ?? "values",
    fields,
    rules: spec.rules ?? [],
    dependsOn: [...new Set(Object.values(fields).flatMap((f) => f.parent ?? []))].filter((parent) => parent !== spec.name),
  };
}

/** Whether the sync may have to delete rows of the entity's target table. */
export function deletesRows({ onDelete, source: { predicate } }: Entity): boolean {
  return onDelete === "hard" || predicate?.onLeave === "delete";
}

/** Everything in a definition that decides what lands in the target, as plain data: the input of its hash. */
export function definitionOf(entity: Entity): unknown {
  const ruleOf = ({ holds, ...rule }: { holds: (value: never) => boolean }) => [rule, holds.toString()];
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
