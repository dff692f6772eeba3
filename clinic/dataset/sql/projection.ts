/** An entity's records as plain SQL over the legacy database: clinic/domain.md once more, apart from pipeline and manifest. */
export interface Projection {
  readonly entity: string;
  /**
   * Columns: id; field, that of the record's own trouble or NULL; passes, whether the target's checks take it; refs,
   * the legacy ids that it refers to, in the order of `parents`; v, everything else that the target row is made of.
   */
  readonly records: string | ((landedBefore: LandedBefore) => string);
  /** References in the order of the target's columns. */
  readonly parents: readonly (readonly [field: string, parent: string])[];
  /** The rows that a named predicate leaves out. */
  readonly waived?: { readonly rule: string; readonly rows: string };
  /** A record that leaves the projection stays as it was. */
  readonly keepsAbsent?: true;
  /** The source of each target column of money, of the row with the record's id in a table. */
  readonly money?: { readonly table: string; readonly key: string; readonly columns: Readonly<Record<string, string>> };
}

/** The ids that had landed as records of an entity before, as a subquery: for what outlives its own reason. */
export type LandedBefore = (entity: string) => string;

interface Select {
  readonly from: string;
  /** Default: that of the first table. */
  readonly id?: string;
  readonly field?: string;
  readonly passes?: string;
  readonly refs?: readonly string[];
  readonly v?: string;
  readonly where?: string;
}

/** The query of a projection. */
export function records({ from, id = "id", field = "null", passes = "true", refs = [], v = "", where }: Select): string {
  return `select ${id} as id, (${field})::text as field, coalesce(${passes}, true) as passes, array[${refs.join(", ")}]::bigint[] as refs,
      row(${v})::text as v from ${from}${where === undefined ? "" : ` where ${where}`}`;
}

/** JSON kept as text: '' is NULL. */
export function json(column: string): string {
  return `nullif(${column}, '')`;
}

/** A generic reference as app_label.model. */
export function modelOf(column: string): string {
  return `(select t.app_label || '.' || t.model from django_content_type t where t.id = ${column})`;
}
