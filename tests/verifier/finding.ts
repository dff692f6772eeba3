/** What one entity's two sides, control rows and catalog say of each other that they should not. */
export type Kind =
  /** Values: another one; the same in another form (letters of citext, digits of a number); one that the column cannot hold exactly. */
  | "value"
  | "form"
  | "inexact"
  /** A generated column that is not what its own expression says. */
  | "generated"
  /** Rows: of a source record without one; without a source record; a second one of a record. */
  | "row_missing"
  | "row_surplus"
  | "row_twice"
  | "row_without_mapping"
  /** Mappings of records that are there, and of those that are gone (tombstones). */
  | "mapping_without_row"
  | "mapping_elsewhere"
  | "mapping_without_state"
  | "tombstone_with_row"
  | "tombstone_with_state"
  | "state_without_mapping"
  /** What is remembered of a record is not what both sides say. */
  | "state_seen"
  | "state_left"
  /** A record of the queue on which both sides agree; one that waits for what has landed; a warning of a field on which both sides agree. */
  | "queue_for_nothing"
  | "waits_for_landed"
  | "warning_for_nothing"
  /** The catalog: a column that is compared and not there, of another type than before, added anew, or computed by the target, and one that nobody has declared. */
  | "column_missing"
  | "column_retyped"
  | "column_replaced"
  | "column_generated"
  | "column_unknown";

/**
 * Who answers for a finding: an entry of the queue, a decision, a trigger of the target that somebody has been told
 * of, a person who edited the row, a policy that keeps the row of a record that is gone, a key that is to be read
 * again, an alert. What nobody answers for is an error.
 */
export type Told = "queue" | "decision" | "trigger" | "edit" | "kept" | "pending" | "alert";

export interface Finding {
  readonly kind: Kind;
  /** The record's legacy id. */
  readonly id?: string;
  readonly column?: string;
  readonly told?: Told;
}

const VALUES: readonly Kind[] = ["value", "form", "inexact"];
const ROWS: readonly Kind[] = ["row_missing", "row_surplus"];

export const isOfValue = ({ kind }: Finding): boolean => VALUES.includes(kind);
/** Whether the finding is a difference of both sides, in a value or a row. */
export const isDifference = ({ kind }: Finding): boolean => VALUES.includes(kind) || ROWS.includes(kind);

/** One line that names a finding: kind, record, column, and who answers for it. */
export function say({ kind, id, column, told }: Finding): string {
  return [kind, id, column, ...(told === undefined ? [] : [`(${told})`])].filter((part) => part !== undefined).join(" ");
}
