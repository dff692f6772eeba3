// What becomes of a record's columns: one field per target column, checked against the target's catalog.
import type { AnyCatalog, Catalog, EntityName, SourceOf, TargetOf } from "./catalog.ts";
import type { IdsOf, OfType, ResolvedColumns } from "./columns.ts";
import type { MoneyOf, TAKES } from "./kinds.ts";
import { isDecimal, type ValueRule } from "./rules.ts";
import type { Question } from "./undecided.ts";

/** One row of a projection, every value as text. */
export type SourceRow = Readonly<Record<string, string | null>>;

/** What stopped a field: a rule id with version, what to do, and evidence, in which values of sensitive columns are masked. */
export interface Problem {
  readonly rule: string;
  readonly remedy: string;
  readonly evidence?: Readonly<Record<string, string | null>>;
}
export type Decision<Value extends string = string> = { readonly value: Value | null } | { readonly problem: Problem };

/** The six kinds of transformation. */
export type FieldKind =
  "direct_copy" | "uuid_lookup" | "enum_mapping" | "json_extraction" | "calculated_field" | "business_logic";

/** What becomes of one target column. `Yields` exists for the compiler alone: the kind of value, checked against the column. */
export interface Field<out Yields = unknown> {
  readonly yields?: Yields;
  readonly kind: FieldKind;
  readonly columns: readonly string[];
  readonly money: boolean;
  readonly sensitive: boolean;
  /** uuid_lookup: the entity that the id belongs to. */
  readonly parent?: string;
  /** What has to be decided before the field is one. */
  readonly undecided?: string;
  /** NULL sends the record to the queue. */
  readonly required: boolean;
  /** Conditions on a value that is not NULL. */
  readonly rules: readonly ValueRule[];
  /** Pure. For uuid_lookup the value is the parent's legacy id. `landedAs`: those of the entities below as which it has landed. */
  readonly decide: (row: SourceRow, landedAs: ReadonlySet<string>) => Decision;
  /** Entities of the same source row, of which the decision may depend on whether the record has landed as one of them. */
  readonly landedAs?: readonly string[];
  /** Whether what its columns said is kept beside the value, where the target does not say it. */
  readonly keepRaw: boolean;
  /** Every value that the field can yield, where they are known: the target's enum must have them all. */
  readonly members?: readonly string[];
}

/** What a field yields, besides the type of a column it copies. */
interface Uuid<Table> {
  readonly uuidOf: Table;
}
interface Computed<Value extends string> {
  readonly computed: Value;
}

interface TargetColumn {
  readonly type: string;
  readonly required: boolean;
  readonly references?: string;
  readonly members?: string;
}
/** What a target column takes. A text column takes every type but a parent's id and money; everything can be computed. */
type Taken<C extends TargetColumn> = C extends { members: infer Member extends string }
  ? Computed<Member>
  : C extends { references: infer Table }
    ? Uuid<Table>
    : Computed<string> | TakenTypes[C["type"] & keyof TakenTypes];
type TakenTypes = { readonly [Kind in keyof typeof TAKES]: (typeof TAKES)[Kind][number] };

type KeysWhere<T, Required extends boolean> = {
  [K in keyof T]: T[K] extends { required: Required } ? K : never;
}[keyof T];
type Settable<T, LegacyKey> = Exclude<keyof T, "id" | LegacyKey>;
/** The fields of a target table: every column that it cannot do without, and any other. Its id and legacy key are set by the sync. */
export type FieldsOf<T, LegacyKey> = {
  readonly [K in KeysWhere<T, true> & Settable<T, LegacyKey>]: Field<Taken<T[K] & TargetColumn>>;
} & {
  readonly [K in KeysWhere<T, false> & Settable<T, LegacyKey>]?: Field<Taken<T[K] & TargetColumn>>;
};
/** Fields of columns that the target table does not have: the type is what the compiler says of them. */
export type Strangers<F, T, LegacyKey> = {
  readonly [K in Exclude<keyof F, Settable<T, LegacyKey>>]: `${K & string} is not a column that an entity may fill`;
};

interface FieldOptions {
  readonly sensitive?: boolean;
  readonly required?: boolean;
  readonly rules?: readonly ValueRule[];
}
interface Members<Value extends string> {
  /** Every value that it can yield, so that an enum of the target that lacks one is noticed before a record meets it. */
  readonly members?: Readonly<Record<NoInfer<Value>, true>>;
}
interface CalculateOptions<Value extends string> extends FieldOptions, Members<Value> {
  /** For codes and flags that the computed value does not tell apart. */
  readonly keepRaw?: boolean;
}
interface CopyOptions extends FieldOptions {
  /** What NULL becomes. Only where the domain says that both mean the same. */
  readonly whenNull?: string;
}

interface LookupOptions<Name extends string = string> {
  readonly required?: boolean;
  /** Other columns, and when they forbid to follow the reference. */
  readonly unless?: { readonly columns: readonly Name[]; readonly problem: (row: SourceRow) => Problem | undefined };
}

/**
 * A member of an object: the column it holds, by the kind of value in the JSON (`json`: JSON kept as text, which
 * becomes what a field of its own would), or a text that is always the same.
 */
export type MemberSource<C extends ResolvedColumns = ResolvedColumns> =
  | { readonly number: OfType<C, "integer" | "numeric"> }
  | { readonly boolean: OfType<C, "boolean"> }
  | { readonly text: keyof C & string }
  | { readonly json: OfType<C, "text"> }
  | { readonly always: string };

/** `I`: the installation whose entities may be referred to. */
export interface FieldBuilders<C extends ResolvedColumns, I extends Catalog = AnyCatalog> {
  /** The value as it is. */
  copy<K extends keyof C & string>(column: K, options?: CopyOptions): Field<C[K]["type"]>;
  /** An exact amount: copied as text and part of the control totals. NaN goes to the queue. */
  money<K extends OfType<C, "numeric" | "integer">>(column: K, options?: FieldOptions): Field<MoneyOf<C[K]["type"]>>;
  /** The UUID of the parent record; the record waits until the parent has landed. */
  lookup<Parent extends EntityName<I>>(
    parent: Parent,
    column: IdsOf<C, SourceOf<I, Parent>>,
    options?: LookupOptions<keyof C & string>,
  ): Field<Uuid<TargetOf<I, Parent>>>;
  /** A code with a name in the target; NULL and unknown codes only as the map says. */
  mapEnum<const Member extends string>(
    column: keyof C & string,
    map: Readonly<Record<string, Member>>,
    options?: { whenNull?: Member | null },
  ): Field<Computed<Member>>;
  /** JSON kept as text: parsed, or kept whole under _raw when it does not parse. '' is NULL. */
  json(column: OfType<C, "text">, options?: FieldOptions): Field<"json">;
  /** A JSON object of named values: ids and numbers as numbers, exactly; NULL as null. */
  object(members: Readonly<Record<string, MemberSource<C>>>, options?: FieldOptions): Field<"json">;
  /** A person's name or address, where '' and 'null' mean none. */
  blankIsNone(column: OfType<C, "text">, options?: FieldOptions): Field<"text">;
  /** A value computed from columns; cannot fail. */
  calculate<const Value extends string>(
    columns: readonly (keyof C & string)[],
    compute: (row: SourceRow) => Value | null,
    options?: CalculateOptions<Value>,
  ): Field<Computed<Value>>;
  /** A decision that may send the record to the queue. It may ask as which entities of the same source row the record has landed. */
  decide<const Value extends string>(
    columns: readonly (keyof C & string)[],
    decide: (row: SourceRow, landedAs: ReadonlySet<string>) => Decision<Value>,
    options?: Members<Value> & { readonly landedAs?: readonly EntityName<I>[] },
  ): Field<Computed<Value>>;
}

/** A decision that sends the record to the queue because a code has no meaning here. */
export function unknownCode(entity: string, column: string, raw: string | null): Decision<never> {
  return {
    problem: {
      rule: `${entity}.${column}.known_code@1`,
      remedy: `The code has no agreed meaning: correct it in the source, or add it to the map in the entity file ${entity}.`,
      evidence: { column, raw },
    },
  };
}

/** The builders that an entity file uses. */
export function createBuilders(entity: string): FieldBuilders<ResolvedColumns> {
  const only = (column: string) => (row: SourceRow) => ({ value: row[column] ?? null });
  return {
    copy: (column, { whenNull, ...options } = {}) =>
      whenNull === undefined
        ? directCopy(column, options)
        : field("direct_copy", [column], (row) => ({ value: row[column] ?? whenNull }), {
            ...options,
            keepRaw: true,
            definition: [whenNull],
          }),
    money: (column, options) => directCopy(column, { ...options, money: true, rules: [FINITE, ...(options?.rules ?? [])] }),
    lookup: (parent, column, { required = false, unless } = {}) => {
      if (!unless) return field("uuid_lookup", [column], only(column), { parent, required });
      const decide = (row: SourceRow) => {
        const problem = unless.problem(row);
        return problem ? { problem } : only(column)(row);
      };
      const definition = [unless.problem.toString()];
      return field("uuid_lookup", [column, ...unless.columns], decide, { parent, required, definition });
    },
    mapEnum: (column, map, options) =>
      field(
        "enum_mapping",
        [column],
        (row) => {
          const raw = row[column] ?? null;
          if (raw === null && options?.whenNull !== undefined) return { value: options.whenNull };
          const value = raw === null || !Object.hasOwn(map, raw) ? undefined : map[raw];
          return value === undefined ? unknownCode(entity, column, raw) : { value };
        },
        { keepRaw: true, definition: [map, options ?? {}], members: membersOf(map, options?.whenNull) },
      ),
    json: (column, options) =>
      field("json_extraction", [column], (row) => ({ value: jsonFromText(row[column] ?? null) }), options),
    object: (members, options) =>
      field("json_extraction", columnsOf(members), (row) => ({ value: jsonObject(members, row) }), {
        ...options,
        definition: [members],
      }),
    blankIsNone: (column, options) =>
      field("calculated_field", [column], (row) => ({ value: noneIfBlank(row[column] ?? null) }), { ...options, keepRaw: true }),
    calculate: (columns, compute, { members, ...options } = {}) =>
      field("calculated_field", columns, (row) => ({ value: compute(row) }), {
        ...options,
        ...(members && { members: Object.keys(members) }),
        definition: [compute.toString()],
      }),
    decide: (columns, decide, { members, landedAs } = {}) =>
      field("business_logic", columns, decide, {
        ...(members && { members: Object.keys(members) }),
        ...(landedAs && { landedAs }),
        keepRaw: true,
        definition: [decide.toString()],
      }),
  };
}

/** numeric has a NaN, and in a sum it would hide every other difference. */
const FINITE: ValueRule = {
  id: "finite",
  version: 1,
  remedy: "The amount is not a number: correct it in the source.",
  holds: isDecimal,
};

/** '' and the text null (any case) mean "none" in names and addresses of the legacy data. */
export function noneIfBlank(text: string | null): string | null {
  return text === null || /^\s*(null)?\s*$/i.test(text) ? null : text;
}

function columnsOf(members: Readonly<Record<string, MemberSource>>): string[] {
  return Object.values(members).flatMap((member) => ("always" in member ? [] : Object.values(member)));
}

/** Numbers are written digit by digit: as a JavaScript number, a long one would be rounded. */
function jsonObject(members: Readonly<Record<string, MemberSource>>, row: SourceRow): string {
  const json = (member: MemberSource): string => {
    if ("always" in member) return JSON.stringify(member.always);
    const text = row[Object.values(member)[0] ?? ""] ?? null;
    if (text === null || "boolean" in member) return text ?? "null";
    if ("json" in member) return jsonFromText(text) ?? "null";
    return "number" in member && isDecimal(text) ? text : JSON.stringify(text);
  };
  return `{${Object.entries(members)
    .map(([name, member]) => `${JSON.stringify(name)}:${json(member)}`)
    .join(",")}}`;
}

/** Valid JSON as it is, '' as NULL, anything else whole under _raw; so is JSON that jsonb cannot hold. */
export function jsonFromText(text: string | null): string | null {
  if (text === null || text.trim() === "") return null;
  try {
    JSON.parse(text);
    if (!hasEscapeUnknownToJsonb(text)) return text;
  } catch {
    // Kept whole below: a record is never dropped for its JSON.
  }
  return JSON.stringify({ _raw: text, _unparseable: true });
}

/** jsonb refuses \u0000 and a surrogate without its other half, which JSON itself allows. */
function hasEscapeUnknownToJsonb(text: string): boolean {
  const escapes = text.replaceAll("\\\\", "").replace(/\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}/gi, "");
  return /\\u0000|\\ud[89a-f][0-9a-f]{2}/i.test(escapes);
}

interface FieldExtras extends FieldOptions {
  readonly money?: boolean;
  readonly parent?: string;
  readonly keepRaw?: boolean;
  readonly members?: readonly string[];
  readonly landedAs?: readonly string[];
  readonly definition?: readonly unknown[];
}

function membersOf(map: Readonly<Record<string, string>>, whenNull: string | null | undefined): string[] {
  return [...new Set([...Object.values(map), ...(whenNull == null ? [] : [whenNull])])];
}

const definitions = new WeakMap<Field, readonly unknown[]>();

/** A field that copies a column of the projection. */
export function directCopy(column: string, extras: FieldExtras = {}): Field<never> {
  return field("direct_copy", [column], (row) => ({ value: row[column] ?? null }), extras);
}

/** What stands for a field that somebody has to decide on. */
export function undecidedField({ question, columns }: Question): Field {
  return { ...field("business_logic", columns, () => ({ value: null }), {}), undecided: question };
}

function field(kind: FieldKind, columns: readonly string[], decide: Field["decide"], extras: FieldExtras = {}): Field<never> {
  const made: Field<never> = {
    kind,
    columns,
    money: extras.money ?? false,
    sensitive: extras.sensitive ?? false,
    required: extras.required ?? false,
    rules: extras.rules ?? [],
    keepRaw: extras.keepRaw ?? false,
    decide,
    ...(extras.parent === undefined ? {} : { parent: extras.parent }),
    ...(extras.members === undefined ? {} : { members: extras.members }),
    ...(extras.landedAs === undefined ? {} : { landedAs: extras.landedAs }),
  };
  definitions.set(made, extras.definition ?? []);
  return made;
}

/** What decides a field's values besides its data: maps and the text of functions. */
export function decisionsOf(field: Field): readonly unknown[] {
  return definitions.get(field) ?? [];
}
