import type { FindingCode } from "../shared/contract/finding.ts";

/** What each finding means, and what to do in general, for docs/errors.md: a finding itself says both with its names. */
export const FINDING_TEXTS: Readonly<Record<FindingCode, readonly [meaning: string, remedy: string]>> = {
  source_version: [
    "The source's PostgreSQL is older than the sync can read.",
    "Upgrade the source, or read from a replica that runs a later version.",
  ],
  source_table_missing: ["A source table is missing.", "Restore the table, or correct the entity file."],
  source_column_missing: [
    "A column that the entity file names is missing in the source.",
    "Restore the column, or correct the entity file and run npm run schema:types.",
  ],
  source_column_type: [
    "A source column has another kind of type than the entity file was compiled against.",
    "Run npm run schema:types, correct what no longer compiles, npm run generate, and deploy.",
  ],
  source_stamp_type: [
    "The column by which an entity's changed rows are found or dated has no time zone, so it is no moment.",
    "Remove modified or dated from the entity file, or alter the column's type.",
  ],
  source_key_type: [
    "What identifies the rows of a source table is not smallint, integer or bigint.",
    "Name an integer column as the key; where there is none, add one to the table.",
  ],
  source_key_null: [
    "What identifies the rows of a source table is null in some row.",
    "Correct these rows and set the column not null, or name another column as the key.",
  ],
  source_key_repeated: [
    "Several rows of a source table have what should identify one, or be joined to one record.",
    "Correct these rows and keep them so by a unique index, or name a unique column as the key, or join by other columns.",
  ],
  source_key_unproven: [
    "Nothing of the source keeps a key unique or present, and asking its rows took too long.",
    "Add a unique index on the key and set it not null: then the catalog says it, and no row is asked.",
  ],
  source_not_readable: [
    "The source role may not read what the entity needs.",
    "Run what npm run sync -- setup-source prints, on the source.",
  ],
  source_rows_hidden: [
    "Row level security filters what the source role sees: rows would be missing silently.",
    "On the source, as a superuser: alter role ... bypassrls.",
  ],
  capture_impossible: [
    "Which rows of a source table were written cannot be told: only full and digest find all changes.",
    "Name the table behind the view in the entity file, grant select on xmin and ctid, or ask for the capture full or digest.",
  ],
  source_refused: [
    "The source refuses the entity's projection.",
    "Correct the SQL of the entity file that the message names, or the rights of the source role.",
  ],
  source_column_new: [
    "A source column is neither read nor ignored with a reason.",
    "Read the column in the entity file, or name it in ignored with a reason.",
  ],
  target_table_missing: [
    "The target table is missing, or is a view.",
    "Create the table, or correct target.table in the entity file.",
  ],
  target_primary_key: ["The target table has no primary key id of type uuid.", "The record's UUID is its primary key: add it."],
  target_rows_hidden: [
    "Row level security filters what the worker sees in the target.",
    "On the target: alter role isthmus_worker bypassrls.",
  ],
  target_column_missing: ["A target column is missing.", "Add the column, or remove the field from the entity file."],
  target_column_generated: [
    "The database itself sets a target column that a field fills.",
    "Make it an ordinary column, or remove the field from the entity file.",
  ],
  target_column_type: [
    "A target column cannot take what its field yields.",
    "Correct the column's type, or the field in the entity file.",
  ],
  zone_undeclared: [
    "Times without a zone would become moments, or moments times without a zone, and the entity does not say of which zone.",
    "Read the column in the entity file as inZone(column, zone, reason), and where any text is taken with what skipped and repeated times become; or give both columns one type.",
  ],
  money_decimals: [
    "A column is money, and under the server's own lc_monetary its amounts have other decimals than the sync reads or writes.",
    "Make the column numeric, converted under that lc_monetary, and correct the entity file.",
  ],
  money_locale_hidden: [
    "A column holds money, and an lc_monetary of the sync's own role hides which one the server gives to other roles.",
    "Reset lc_monetary of the sync's role on that side: the sync sets its own in each transaction.",
  ],
  target_enum_member_missing: [
    "The target's enum lacks a value that the field can yield.",
    "Add the value to the enum (alter type ... add value), or correct the field.",
  ],
  target_column_required: [
    "A target column needs a value, and no field fills it.",
    "Give the column a field in the entity file, a default, or: alter column ... drop not null.",
  ],
  target_legacy_key_not_unique: [
    "Nothing keeps the legacy key unique.",
    "Merge the rows that share a value, then add a unique constraint on the legacy key.",
  ],
  target_legacy_key_not_indexed: ["The legacy key has no index.", "Create an index on the legacy key, concurrently."],
  target_foreign_key_missing: [
    "A column that holds a parent's id has no foreign key.",
    "Add the foreign key; until then nothing but the sync keeps these ids right.",
  ],
  target_foreign_key_elsewhere: [
    "A column that holds a parent's id has a foreign key to another table or column.",
    "Look the id up in the entity of that table, or correct the foreign key.",
  ],
  target_reference_unfed: [
    "What the entity fills has a foreign key to a table that no entity feeds.",
    "Write an entity that feeds that table, have the application fill it before, or drop the constraint.",
  ],
  target_grant_missing: [
    "The worker lacks rights on the target table.",
    "The owner of the target runs what npm run sync -- grants prints.",
  ],
  target_not_released: [
    "Nobody has released what decisions on the entity have to read and write.",
    "The owner of the target runs what npm run sync -- grants prints.",
  ],
  source_unknown: [
    "Another database answers as the source than the one known here.",
    "Correct SOURCE_DB_URL; or, if the source has moved, put your name into accepted_by of its row in sync_identities.",
  ],
  target_unknown: [
    "The target is another database than the one known here.",
    "Correct TARGET_DB_URL; or, if this is the target from now on, put your name into accepted_by of its row in sync_identities.",
  ],
  target_state_unknown: [
    "The target seems to have been put back to an older state.",
    "Correct TARGET_DB_URL; or, if it was put back on purpose, or has failed over, put your name into accepted_by of its row in sync_identities: the next execution of each entity compares both sides.",
  ],
  source_address_unknown: [
    "The source is looked for at an address that is new here.",
    "Correct SOURCE_DB_URL; or, if the address is meant, put your name into accepted_by of its row in sync_identities.",
  ],
  target_address_unknown: [
    "The target is looked for at an address that is new here.",
    "Correct TARGET_DB_URL; or, if the address is meant, put your name into accepted_by of its row in sync_identities.",
  ],
  installation_unknown: [
    "Another installation of the functions works at the target than the one known there.",
    "Correct TARGET_DB_URL of the other installation; or, if this one takes over, put your name into accepted_by of its row in sync_identities.",
  ],
  side_effect: [
    "What a write to the table sets off has not been acknowledged.",
    "Switch it off for the first load, or accept it: npm run sync -- acknowledge, or acknowledged_at in sync_side_effects.",
  ],
  entity_paused: [
    "A person has paused the entity. It is left out of executions until somebody resumes it.",
    "npm run sync -- resume entity NAME, or empty control of its row in sync_entities.",
  ],
  source_key_not_indexed: [
    "The key of a source table has no index that leads with it.",
    "Create the index that npm run sync -- setup-source prints.",
  ],
  source_modified_unusable: [
    "The modification time that an entity names cannot be paged through.",
    "Name a timestamp with time zone in modified, or remove modified from the entity file.",
  ],
  source_modified_not_indexed: [
    "The modification time that an entity names has no index.",
    "Create the index on (column, key) that npm run sync -- setup-source prints.",
  ],
  source_role_excess: ["The source role may do more than read.", "Revoke what the message names: the sync only reads."],
  horizon_held: [
    "A transaction of the source has been open for long, so that runs look at the rows written since again and again.",
    "End the transaction that the message names (commit, rollback, or pg_terminate_backend by its owner).",
  ],
  source_reshaped: [
    "DDL on the source may have changed rows without writing them, since both sides were compared last: they are compared.",
    "Nothing to do: the run compares the entity as a digest does.",
  ],
  target_reshaped: [
    "DDL on the target may have changed rows without writing them, since both sides were compared last: they are compared.",
    "Nothing to do: the run compares the entity as a digest does. A column that was dropped and added needs its grants again: npm run sync -- grants.",
  ],
  source_replica_cancels: [
    "The replica cancels long queries.",
    "Raise max_standby_streaming_delay on the replica, or set hot_standby_feedback; or read from the primary.",
  ],
  target_object_missing: [
    "A function, trigger, policy or table of the release is gone from the target.",
    "Bring it back with npm run sync -- setup --upgrade, or the SQL that the finding gives.",
  ],
  target_object_changed: [
    "A function, trigger, policy or the row level security of a control table is not as the release declares it.",
    "Bring it back with npm run sync -- setup --upgrade, or the SQL that the finding gives.",
  ],
  target_object_added: [
    "The schema sync, or a control table, has a function, trigger or policy that the release does not have.",
    "Drop it, if nobody needs it; things of yours belong into another schema, or on tables of yours.",
  ],
  target_right_added: [
    "A role has a right on something of the sync that the release does not give.",
    "Revoke it, with the SQL that the finding gives.",
  ],
  target_right_missing: ["A role has lost a right that the release gives.", "Grant it, with the SQL that the finding gives."],
};
