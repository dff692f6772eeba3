import type { ErrorCode } from "../errors.ts";

/** SQLSTATEs that our own database functions (supabase/schemas/) raise and that leave the database, with the error that a caller gets. */
export const OWN_STATES: Readonly<Record<string, ErrorCode>> = {
  IS010: "LEASE_LOST",
  IS011: "RECORDS_MOVED",
  IS012: "CACHE_OUTDATED",
  IS021: "TARGET_NOT_EMPTY",
  IS022: "DECISION_REFUSED",
  IS030: "EXECUTION_ACTIVE",
  IS031: "EXECUTION_CLOSED",
  IS032: "CONTROL_REFUSED",
  IS040: "BRAKE_APPLIED",
  IS050: "PAGE_STANDS_STILL",
  IS060: "SOURCE_CHANGED",
  IS061: "TARGET_UNKNOWN",
  IS062: "SOURCE_UNKNOWN",
  IS071: "SCHEMA_OUTDATED",
  IS072: "SCHEMA_AHEAD",
  IS073: "TRIGGERS_OFF",
};

/** SQLSTATEs that a commit raises and catches itself: what becomes of the one record that caused them. They are in the server's log at most. */
export const CAUGHT_STATES: Readonly<Record<string, string>> = {
  IS001: "The target would hold another value than the source has. The record goes to the queue (`schema_mismatch`).",
  IS002: "The legacy id belongs to another row, or to several. The record goes to the queue (`uuid_mapping_conflict`).",
  IS003: "A part of the page was only tried. It is rolled back, and what was learned is used.",
  IS004:
    "The target cancelled a write without an error, or several decisions met on one record. The write is undone; the record goes to the queue, or the decisions are taken one by one.",
};
