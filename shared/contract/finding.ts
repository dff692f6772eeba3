import { ident } from "../db/ident.ts";

/** What the check can find, and how grave it is. What each means, and what to do in general, is said where docs/errors.md is made (scripts/finding-texts.ts): the functions need not carry that. */
export const FINDINGS = {
  source_version: "fatal",
  source_table_missing: "fatal",
  source_column_missing: "fatal",
  source_column_type: "fatal",
  source_stamp_type: "fatal",
  source_key_type: "fatal",
  source_key_null: "fatal",
  source_key_repeated: "fatal",
  source_key_unproven: "warn",
  source_not_readable: "fatal",
  source_rows_hidden: "fatal",
  capture_impossible: "fatal",
  source_refused: "fatal",
  source_column_new: "warn",
  target_table_missing: "fatal",
  target_primary_key: "fatal",
  target_rows_hidden: "fatal",
  target_column_missing: "fatal",
  target_column_generated: "fatal",
  target_column_type: "fatal",
  zone_undeclared: "fatal",
  money_decimals: "fatal",
  money_locale_hidden: "warn",
  target_enum_member_missing: "fatal",
  target_column_required: "fatal",
  target_legacy_key_not_unique: "fatal",
  target_legacy_key_not_indexed: "warn",
  target_foreign_key_missing: "warn",
  target_foreign_key_elsewhere: "fatal",
  target_reference_unfed: "warn",
  target_grant_missing: "fatal",
  target_not_released: "warn",
  source_unknown: "fatal",
  target_unknown: "fatal",
  target_state_unknown: "fatal",
  source_address_unknown: "fatal",
  target_address_unknown: "fatal",
  installation_unknown: "fatal",
  side_effect: "fatal",
  entity_paused: "fatal",
} as const satisfies Readonly<Record<string, Severity>>;

/** What an inspection of the source, or a plan, finds besides: nothing of it stops an entity. */
export const INSPECTED = {
  source_key_not_indexed: "warn",
  source_modified_unusable: "warn",
  source_modified_not_indexed: "warn",
  source_role_excess: "warn",
  horizon_held: "warn",
  source_reshaped: "warn",
  target_reshaped: "warn",
  source_replica_cancels: "warn",
} as const satisfies Readonly<Record<string, "warn">>;

/** What the check of an installation finds besides, of the control tables and functions: nothing of it stops an entity. */
export const DRIFT = {
  target_object_missing: "warn",
  target_object_changed: "warn",
  target_object_added: "warn",
  target_right_added: "warn",
  target_right_missing: "warn",
} as const satisfies Readonly<Record<string, "warn">>;

const ALL = { ...FINDINGS, ...INSPECTED, ...DRIFT };
export type FindingCode = keyof typeof ALL;
export type Severity = "fatal" | "warn";

/** Something in which a catalog does not fit an entity. Fatal: the entity pauses until it is mended. */
export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** null: every entity. */
  readonly entity: string | null;
  readonly table: string | null;
  readonly column: string | null;
  readonly message: string;
  /** What to do; SQL where SQL does it. */
  readonly remedy: string;
}

type Details = Pick<Finding, "message" | "remedy"> & Partial<Pick<Finding, "severity" | "column">>;

/** Makes the findings of one entity on one table. */
export function findingsOn(entity: string | null, table: string | null): (code: FindingCode, details: Details) => Finding {
  return (code, details) => ({ code, severity: ALL[code], entity, table, column: null, ...details });
}

/** What stays the same of a finding as long as it is the same one. */
export function findingKey({ code, entity, table, column, message }: Finding): string {
  return JSON.stringify([code, entity, table, column, message]);
}

/** What is said of a table that is not in public: where one of its name stands, and what to do. */
export function missingTable(
  side: "source" | "target",
  name: string,
  schemas: readonly string[] = [],
): { message: string; remedy: string } {
  const [schema] = schemas;
  if (schema === undefined)
    return {
      message: `The ${side} has no table public.${name}.`,
      remedy:
        side === "source"
          ? "Restore the table, or correct the entity file."
          : "Create the table, or correct target.table in the entity file.",
    };
  return {
    message: `The ${side} has no table public.${name}; one of that name stands in ${schemas.join(", ")}.`,
    remedy: `Only the schema public is synced: alter table ${ident(schema)}.${ident(name)} set schema public; or correct the entity file.`,
  };
}
