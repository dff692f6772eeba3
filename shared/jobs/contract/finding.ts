import { ident } from "../../db/ident.ts";

/** What the check can find: how grave it is, and what it means. */
export const FINDINGS = {
  source_version: ["fatal", "The source's PostgreSQL is older than the sync can read."],
  source_table_missing: ["fatal", "A source table is missing."],
  source_column_missing: ["fatal", "A column that the entity file names is missing in the source."],
  source_column_type: ["fatal", "A source column has another kind of type than the entity file was compiled against."],
  source_stamp_type: [
    "fatal",
    "The column by which an entity's changed rows are found or dated has no time zone, so it is no moment.",
  ],
  source_key_type: ["fatal", "What identifies the rows of a source table is not smallint, integer or bigint."],
  source_key_null: ["fatal", "What identifies the rows of a source table is null in some row."],
  source_key_repeated: ["fatal", "Several rows of a source table have what should identify one, or be joined to one record."],
  source_key_unproven: ["warn", "Nothing of the source keeps a key unique or present, and asking its rows took too long."],
  source_not_readable: ["fatal", "The source role may not read what the entity needs."],
  source_rows_hidden: ["fatal", "Row level security filters what the source role sees: rows would be missing silently."],
  capture_impossible: [
    "fatal",
    "Which rows of a source table were written cannot be told: only full and digest find all changes.",
  ],
  source_refused: ["fatal", "The source refuses the entity's projection."],
  source_column_new: ["warn", "A source column is neither read nor ignored with a reason."],
  target_table_missing: ["fatal", "The target table is missing, or is a view."],
  target_primary_key: ["fatal", "The target table has no primary key id of type uuid."],
  target_rows_hidden: ["fatal", "Row level security filters what the worker sees in the target."],
  target_column_missing: ["fatal", "A target column is missing."],
  target_column_generated: ["fatal", "The database itself sets a target column that a field fills."],
  target_column_type: ["fatal", "A target column cannot take what its field yields."],
  zone_undeclared: [
    "fatal",
    "Times without a zone would become moments, or moments times without a zone, and the entity does not say of which zone.",
  ],
  money_decimals: [
    "fatal",
    "A column is money, and under the server's own lc_monetary its amounts have other decimals than the sync reads or writes.",
  ],
  target_enum_member_missing: ["fatal", "The target's enum lacks a value that the field can yield."],
  target_column_required: ["fatal", "A target column needs a value, and no field fills it."],
  target_legacy_key_not_unique: ["fatal", "Nothing keeps the legacy key unique."],
  target_legacy_key_not_indexed: ["warn", "The legacy key has no index."],
  target_foreign_key_missing: ["warn", "A column that holds a parent's id has no foreign key."],
  target_foreign_key_elsewhere: ["fatal", "A column that holds a parent's id has a foreign key to another table or column."],
  target_reference_unfed: ["warn", "What the entity fills has a foreign key to a table that no entity feeds."],
  target_grant_missing: ["fatal", "The worker lacks rights on the target table."],
  target_not_released: ["warn", "Nobody has released what decisions on the entity have to read and write."],
  source_unknown: ["fatal", "Another database answers as the source than the one known here."],
  target_unknown: ["fatal", "The target is another database than the one known here."],
  source_address_unknown: ["fatal", "The source is looked for at an address that is new here."],
  target_address_unknown: ["fatal", "The target is looked for at an address that is new here."],
  installation_unknown: ["fatal", "Another installation of the functions works at the target than the one known there."],
  side_effect: ["fatal", "What a write to the table sets off has not been acknowledged."],
} as const satisfies Readonly<Record<string, readonly ["fatal" | "warn", string]>>;

/** What an inspection of the source, or a plan, finds besides: nothing of it stops an entity. */
export const INSPECTED = {
  source_key_not_indexed: ["warn", "The key of a source table has no index that leads with it."],
  source_modified_unusable: ["warn", "The modification time that an entity names cannot be paged through."],
  source_modified_not_indexed: ["warn", "The modification time that an entity names has no index."],
  source_role_excess: ["warn", "The source role may do more than read."],
  horizon_held: [
    "warn",
    "A transaction of the source has been open for long, so that runs look at the rows written since again and again.",
  ],
  source_reshaped: [
    "warn",
    "DDL on the source may have changed rows without writing them, since both sides were compared last: they are compared.",
  ],
  target_reshaped: [
    "warn",
    "DDL on the target may have changed rows without writing them, since both sides were compared last: they are compared.",
  ],
  source_replica_cancels: ["warn", "The replica cancels long queries."],
} as const satisfies Readonly<Record<string, readonly ["warn", string]>>;

/** What the check of an installation finds besides, of the control tables and functions: nothing of it stops an entity. */
export const DRIFT = {
  target_object_missing: ["warn", "A function, trigger, policy or table of the release is gone from the target."],
  target_object_changed: [
    "warn",
    "A function, trigger, policy or the row level security of a control table is not as the release declares it.",
  ],
  target_object_added: [
    "warn",
    "The schema sync, or a control table, has a function, trigger or policy that the release does not have.",
  ],
  target_right_added: ["warn", "A role has a right on something of the sync that the release does not give."],
  target_right_missing: ["warn", "A role has lost a right that the release gives."],
} as const satisfies Readonly<Record<string, readonly ["warn", string]>>;

const ALL = { ...FINDINGS, ...INSPECTED, ...DRIFT };
export type FindingCode = keyof typeof ALL;

/** Something in which a catalog does not fit an entity. Fatal: the entity pauses until it is mended. */
export interface Finding {
  readonly code: FindingCode;
  readonly severity: "fatal" | "warn";
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
  return (code, details) => ({ code, severity: ALL[code][0], entity, table, column: null, ...details });
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
