import type { Config } from "../config.ts";
import type { Clock } from "../clock.ts";
import type { Denied } from "../entity/denied.ts";
import type { CompiledColumns } from "../entity/installation.ts";
import type { Severity } from "../entity/rules.ts";
import type { Sql } from "../db/connect.ts";
import type { DescribedError } from "../errors.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Log } from "../log.ts";
import type { Refusal } from "../queue/refusal.ts";
import type { Meter } from "../runtime.ts";

/** What every stage may use. Built once per worker. */
export interface Context {
  readonly config: Config;
  readonly source: Sql;
  readonly target: Sql;
  readonly cache: MappingCache;
  readonly queue: PageQueue;
  readonly entities: ReadonlyMap<string, Entity>;
  readonly hashes: ReadonlyMap<string, string>;
  readonly columns: CompiledColumns;
  readonly denied: Denied;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

/** The message that triggers a page: ids only. */
export interface PageMessage {
  readonly execution: string;
  readonly chain: string;
  readonly page: number;
  /** Which attempt to send this page: a repeated id would be swallowed by the queue's deduplication. */
  readonly sends?: number | undefined;
  /** MESSAGE_FORMAT of whoever sent it; undefined: a person did. */
  readonly format?: number | undefined;
}

/** Which message of the queue brought a page, and for which time, counted from 0. */
export interface Delivery {
  readonly id: string;
  readonly attempt: number;
}

export interface PageQueue {
  /** Sends within a few seconds or not at all. @returns what the queue did not accept: nothing is lost, the sweep sends it again. */
  send(messages: readonly PageMessage[]): Promise<readonly RefusedPage[]>;
}

/** A message that the queue did not accept. */
export interface RefusedPage {
  readonly message: PageMessage;
  readonly refusal: Refusal;
}

/** A cache of mappings. It may forget, fail or lie: a lie is recognised and read as nothing. */
export interface MappingCache {
  /** @returns UUIDs by `entity:legacyId`; what is not in it is not known. */
  read(keyOf: CacheKeyOf, ids: readonly RecordId[]): Promise<ReadonlyMap<string, string>>;
  write(keyOf: CacheKeyOf, entries: readonly MappedRecord[]): Promise<void>;
  /** The ordinal of the latest execution that was begun: what a target that is put back to an older state has forgotten. */
  recallExecution(): Promise<number | null>;
  rememberExecution(ordinal: number): Promise<void>;
}
export interface RecordId {
  readonly entity: string;
  readonly legacyId: string;
}
export interface MappedRecord extends RecordId {
  readonly uuid: string;
}
export type CacheKeyOf = (id: RecordId) => string;

export interface Chain {
  readonly id: string;
  readonly execution_id: string;
  readonly entity_id: number | null;
  readonly capture: "full" | "xmin" | "modified" | "selection" | "digest" | "keys" | "joins" | "adopt" | "validate";
  readonly page: number;
  readonly page_size: number;
  /** A limit has ended or cut a page of the chain. */
  readonly slow_growth: boolean;
  /** How often this page, of one record, has ended with its worker. */
  readonly crashes: number;
  /** full capture: what neither side has changed since it was read last is not read. */
  readonly skips_unchanged: boolean;
  readonly round: number;
  readonly lease: number;
  readonly failures: number;
  readonly cursor: string | null;
  /** The first key and the last one; null: no bound. */
  readonly range_from: string | null;
  readonly range_to: string | null;
  readonly changed_from: string | null;
  /** xmin capture: what was written before this transaction, the last run may have read. */
  readonly seen_before: string | null;
  /** keys capture: records that the source no longer has are deleted as their entity says. */
  readonly deletes: boolean;
  /** deletes: the last generation of keys that belongs to this chain. */
  readonly up_to: string | null;
  /** modified capture: the time stamp that goes with the cursor, and the last one that belongs to this chain. */
  readonly cursor_at: string | null;
  readonly until_at: string | null;
  /** selection capture: which records were asked for. */
  readonly selection: Readonly<Record<string, unknown>> | null;
  /** Scans by place: the table's file that the cursor is a place in. */
  readonly table_file: string | null;
  /** joins capture: the ConsumedJoin whose rows are looked at. */
  readonly join_id: number | null;
}

export interface Claim {
  readonly outcome: "claimed";
  readonly chain: Chain;
  readonly execution: {
    readonly id: string;
    readonly horizon: string;
    /** A node that has not got here must not be read: its state is older than what was read already. */
    readonly not_before: string;
    readonly snapshot_xmax: string;
    readonly system_identifier: string;
    readonly timeline: number;
    readonly database_oid: string;
    readonly entities: readonly string[];
    /** Those whose changes were looked for and found: of the others, neither side has moved by this execution. */
    readonly compared: readonly string[];
    /** A plan: nothing is written but what it finds out. */
    readonly dry_run: boolean;
    /** Records per page that its request asked for; null: as configured. */
    readonly page_size: number | null;
  };
  /** Severities that overrides give to rules now, by rule name. */
  readonly severities: Readonly<Record<string, Severity>>;
  readonly source: { readonly id: number; readonly name: string; readonly namespace: string };
  readonly entities: Readonly<Record<string, { readonly id: number; readonly epoch: number; readonly hash: string }>>;
  readonly target: string;
}
export interface NoClaim {
  readonly outcome: "closed" | "stale" | "leased" | "source_refuses";
}

/** The keys of a page, ascending. */
export interface DetectedKeys {
  readonly ids: readonly string[];
  /** Where the next page begins; null: where this one began. */
  readonly cursor: string | null;
  /** modified capture: the time stamp that goes with the cursor. */
  readonly cursorAt?: string | null;
  /** Scans by place: the file of the table that the cursor is a place in. */
  readonly tableFile?: string | null;
  /** No key of the chain lies beyond these. */
  readonly done: boolean;
  /** full capture: rows of the key range that the predicate waives, besides those among the keys. */
  readonly waived: number;
  /** keys capture: the requests these ids answer. */
  readonly pending: readonly PendingKey[];
}

/** A request to read a record: its generation, and why it was made. */
export interface PendingKey {
  readonly k: string;
  readonly g: string;
  readonly r: string;
}

/** A record that refers to a selected one. */
export interface Dependant {
  readonly entity: string;
  readonly k: string;
}

/** A record ready to load, with its key, UUID and raw codes. */
export interface LoadRecord {
  readonly _key: string;
  readonly _uuid: string | null;
  readonly _raw: Readonly<Record<string, string | null>> | null;
  /** Hash of the record as the source has it. */
  readonly _digest: string | null;
  /** Legacy ids of records on the same page without which it does not land, by the field that refers to them. */
  readonly _together?: Readonly<Record<string, string>>;
  /** Target column → text. */
  readonly _values: Readonly<Record<string, string | null>>;
}

/** A record that does not land with this page. */
export interface Issue {
  readonly k: string;
  readonly state: "waiting" | "open";
  readonly type: "foreign_key_violation" | "business_rule_violation" | "schema_mismatch" | "uuid_mapping_conflict";
  readonly field: string | null;
  readonly rule: string;
  readonly remedy: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** What has the record read again; default: parent, rule or source, by what stops it. */
  readonly retry?: "source" | "target";
  readonly parent?: string;
  readonly parentId?: string;
  /** Hash of the record as the source has it. */
  readonly digest?: string | null;
}

/** A record that lands although it breaks a rule. */
export interface Warning {
  readonly k: string;
  readonly rule: string;
}

export interface CommittedPage {
  readonly counts: Readonly<
    Record<"inserted" | "updated" | "unchanged" | "deleted" | "waiting" | "in_conflict" | "waived", number>
  >;
  /** Legacy ids of the records that landed for the first time. */
  readonly landed: readonly string[];
  readonly surplus: number;
  readonly dispatch: readonly PageMessage[];
}

export type PageOutcome =
  | {
      readonly outcome: "committed";
      readonly entity: string;
      readonly read: number;
      readonly bytes: number;
      readonly counts: CommittedPage["counts"];
      readonly next: number;
    }
  | {
      readonly outcome: "adopted";
      readonly read: number;
      readonly adopted: number;
      readonly ambiguous: number;
      readonly next: number;
    }
  | { readonly outcome: "fanned_out"; readonly asked: number | "range"; readonly next: number }
  | { readonly outcome: "compared"; readonly records: number; readonly differing: number; readonly next: number }
  | { readonly outcome: "reported"; readonly next: number }
  | { readonly outcome: "validated"; readonly passed: boolean; readonly differences: number }
  | { readonly outcome: "smaller"; readonly error: DescribedError; readonly pageSize: number }
  | { readonly outcome: "failed"; readonly error: DescribedError; readonly retrySeconds: number | null }
  | NoClaim;
