/**
 * An entity is one target table fed by one projection of the source. Each entity is one file here, which says where
 * its records come from, what each source column becomes, and what is left out and why.
 */

/** Entity name → the legacy table whose ids identify its records. Every entity file adds its own line. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by declaration merging
export interface IdSpaces {}
export type EntityName = keyof IdSpaces;

/** One row of a projection, every value as text. */
export type SourceRow = Readonly<Record<string, string | null>>;

/** What stopped a field: a rule id with version, what to do, and evidence without personal data. */
export interface Problem {
  readonly rule: string;
  readonly remedy: string;
  readonly evidence?: Readonly<Record<string, string | null>>;
}
export type Decision = { readonly value: string | null } | { readonly problem: Problem };

/** The six kinds of transformation. */
export type FieldKind =
  "direct_copy" | "uuid_lookup" | "enum_mapping" | "json_extraction" | "calculated_field" | "business_logic";

export interface Field {
  readonly kind: FieldKind;
  readonly columns: readonly string[];
  readonly money: boolean;
  readonly sensitive: boolean;
  /** uuid_lookup: the entity that the id belongs to. */
  readonly parent?: string;
  readonly required: boolean;
  /** Pure. For uuid_lookup the value is the parent's legacy id. */
  readonly decide: (row: SourceRow) => Decision;
  /** Raw columns to keep beside the mapped value. */
  readonly keepRaw: boolean;
}

/** A column whose values are ids of the table `space`. */
export interface IdColumn<Space extends string> {
  readonly sql: string;
  readonly space: Space;
}
export type ColumnSource = string | IdColumn<string>;
export type Columns = Readonly<Record<string, ColumnSource>>;

/** Declares that a column holds ids of a legacy table, so that looking them up in another id space does not compile. */
export function idOf<const Space extends string>(space: Space, sql: string): IdColumn<Space> {
  return { sql, space };
}

type IdColumnName<C extends Columns, Space> = { [K in keyof C]: C[K] extends IdColumn<Space & string> ? K : never }[keyof C] &
  string;
type Name<C extends Columns> = keyof C & string;
interface FieldOptions {
  readonly sensitive?: boolean;
}

export interface FieldBuilders<C extends Columns> {
  /** The value as it is. */
  copy(column: Name<C>, options?: FieldOptions): Field;
  /** A numeric amount: copied as text and part of the control totals. */
  money(column: Name<C>): Field;
  /** The UUID of the parent record; the record waits until the parent has landed. */
  lookup<Parent extends EntityName>(
    parent: Parent,
    column: IdColumnName<C, IdSpaces[Parent]>,
    options?: { required?: boolean },
  ): Field;
  /** A code with a name in the target; NULL and unknown codes only as the map says. */
  mapEnum(column: Name<C>, map: Readonly<Record<string, string>>, options?: { whenNull?: string | null }): Field;
  /** JSON kept as text: parsed, or kept whole under _raw when it does not parse. '' is NULL. */
  json(column: Name<C>): Field;
  /** A person's name or address, where '' and 'null' mean none. */
  blankIsNone(column: Name<C>, options?: FieldOptions): Field;
  /** A value computed from columns; cannot fail. */
  calculate(columns: readonly Name<C>[], compute: (row: SourceRow) => string | null, options?: FieldOptions): Field;
  /** A decision that may send the record to the queue. */
  decide(columns: readonly Name<C>[], decide: (row: SourceRow) => Decision): Field;
}

/** Rows of another table whose change changes this entity's records. `on` joins them (alias w) to the driving table. */
export interface Watch {
  readonly table: string;
  readonly on: string;
}

export interface EntitySpec<Name extends string, Table extends string, C extends Columns> {
  readonly name: Name;
  readonly target: { readonly table: string; readonly legacyKey: string };
  readonly source: {
    /** Driving table and its integer key; `alias` is how columns, joins and where refer to it. */
    readonly table: Table;
    readonly key: string;
    readonly alias: string;
    readonly joins?: string;
    /** Which rows of the driving table are records of this entity. Never a filter on a referenced record. */
    readonly where?: string;
    readonly watches?: readonly Watch[];
    readonly columns: C;
    /** Columns of the driving table that are left out, each with its reason. */
    readonly ignored: Readonly<Record<string, string>>;
  };
  /** A record that leaves the projection stays as it was (default: it is reported as surplus). */
  readonly keepsAbsent?: boolean;
  readonly fields: (build: FieldBuilders<C>) => Readonly<Record<string, Field>>;
}

export interface Entity {
  readonly name: string;
  readonly target: { readonly table: string; readonly legacyKey: string };
  readonly source: {
    readonly table: string;
    readonly key: string;
    readonly alias: string;
    readonly joins: string;
    readonly where: string | undefined;
    readonly watches: readonly Watch[];
    readonly columns: Columns;
    readonly ignored: Readonly<Record<string, string>>;
  };
  readonly keepsAbsent: boolean;
  /** Target column → field, the legacy key first. */
  readonly fields: Readonly<Record<string, Field>>;
  readonly dependsOn: readonly string[];
}

/** The alias under which the key travels in every projection. */
export const KEY = "_key";

/** Defines an entity. What cannot be checked by the compiler is checked at start-up by validateRegistry. */
export function defineEntity<const EntityNameT extends EntityName, const C extends Columns>(
  spec: EntitySpec<EntityNameT, IdSpaces[EntityNameT] & string, C>,
): Entity {
  const fields: Record<string, Field> = {
    [spec.target.legacyKey]: field("direct_copy", [KEY], (row) => ({ value: row[KEY] ?? null })),
    ...spec.fields(createBuilders<C>(spec.name)),
  };
  return {
    name: spec.name,
    target: spec.target,
    source: {
      ...spec.source,
      joins: spec.source.joins ?? "",
      where: spec.source.where,
      watches: spec.source.watches ?? [],
    },
    keepsAbsent: spec.keepsAbsent ?? false,
    fields,
    dependsOn: [...new Set(Object.values(fields).flatMap((f) => (f.parent === undefined ? [] : [f.parent])))],
  };
}

/** A decision that sends the record to the queue because a code has no meaning here. */
export function unknownCode(entity: string, column: string, raw: string | null): Decision {
  return {
    problem: {
      rule: `${entity}.${column}.known_code@1`,
      remedy: `The code has no agreed meaning: correct it in the source, or add it to the map in the entity file ${entity}.`,
      evidence: { column, raw },
    },
  };
}

function createBuilders<C extends Columns>(entity: string): FieldBuilders<C> {
  const only = (column: string) => (row: SourceRow) => ({ value: row[column] ?? null });
  return {
    copy: (column, options) => field("direct_copy", [column], only(column), options),
    money: (column) => field("direct_copy", [column], only(column), { money: true }),
    lookup: (parent, column, options) => {
      return field("uuid_lookup", [column], only(column), { parent, required: options?.required ?? false });
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
        { keepRaw: true, definition: [map, options ?? {}] },
      ),
    json: (column) => field("json_extraction", [column], (row) => ({ value: jsonFromText(row[column] ?? null) })),
    blankIsNone: (column, options) =>
      field("calculated_field", [column], (row) => ({ value: noneIfBlank(row[column] ?? null) }), { ...options, keepRaw: true }),
    calculate: (columns, compute, options) =>
      field("calculated_field", columns, (row) => ({ value: compute(row) }), { ...options, definition: [compute.toString()] }),
    decide: (columns, decide) => field("business_logic", columns, decide, { keepRaw: true, definition: [decide.toString()] }),
  };
}

/** '' and the text null (any case) mean "none" in names and addresses of the legacy data. */
export function noneIfBlank(text: string | null): string | null {
  return text === null || /^\s*(null)?\s*$/i.test(text) ? null : text;
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
  readonly required?: boolean;
  readonly keepRaw?: boolean;
  readonly definition?: readonly unknown[];
}

const definitions = new WeakMap<Field, readonly unknown[]>();

function field(kind: FieldKind, columns: readonly string[], decide: Field["decide"], extras: FieldExtras = {}): Field {
  const made: Field = {
    kind,
    columns,
    money: extras.money ?? false,
    sensitive: extras.sensitive ?? false,
    required: extras.required ?? false,
    keepRaw: extras.keepRaw ?? false,
    decide,
    ...(extras.parent === undefined ? {} : { parent: extras.parent }),
  };
  definitions.set(made, extras.definition ?? []);
  return made;
}

/** Everything in a definition that decides what lands in the target, as plain data: the input of its hash. */
export function definitionOf(entity: Entity): unknown {
  return {
    ...entity,
    fields: Object.entries(entity.fields).map(([name, field]) => {
      const { decide: _, ...rest } = field;
      return [name, rest, definitions.get(field) ?? []];
    }),
  };
}
