import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";
import type { DescribedError } from "../errors.ts";

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

/** What the queue said of a message. */
export interface SendNote extends PageMessage {
  readonly sends: number;
  /** null: it was accepted. */
  readonly refusal: DescribedError | null;
}

/** The sweep: messages of chains that are overdue. Nothing is marked before the queue has answered. */
export async function overduePages(target: Queryable, limit: number): Promise<PageMessage[]> {
  const rows = await query<{ message: PageMessage }>(target, "target", "select sync.overdue_chains($1) as message", [limit]);
  return rows.map((row) => row.message);
}

/** Marks the chains of messages by what the queue said: when they are due again, and why they were refused. */
export async function noteSends(target: Queryable, leaseSeconds: number, notes: readonly SendNote[]): Promise<void> {
  if (notes.length === 0) return;
  await query(target, "target", "select sync.note_sends($1, $2::text::jsonb)", [leaseSeconds, JSON.stringify(notes)]);
}

/** Opens or closes the alert about what the queue does not accept. */
export async function tellRefusedSends(target: Queryable, sourceId: number): Promise<void> {
  await query(target, "target", "select sync.tell_refused_sends($1::integer::smallint)", [sourceId]);
}

/**
 * How many open chains were sent more than once and taken by nobody, and since when. none: there are none; later:
 * there are, and QStash's log was asked less than so many seconds ago.
 */
export async function unclaimedChains(
  target: Queryable,
  sourceId: number,
  seconds: number,
): Promise<{ readonly chains: number; readonly since: string } | "none" | "later"> {
  const row = await queryOne<{ unclaimed: { chains: number; since: string } | null; look: boolean }>(
    target,
    "target",
    `select u.unclaimed, case when u.unclaimed is not null then sync.take_look($1::integer::smallint, 'deliveries', $2) end as look
       from (select sync.unclaimed_chains($1::integer::smallint) as unclaimed offset 0) u`,
    [sourceId, seconds],
  );
  if (row.unclaimed === null) return "none";
  return row.look ? row.unclaimed : "later";
}

/** Whether the dead letters were not looked at for so many seconds; from now on they were. */
export async function lookAtDeadLetters(target: Queryable, sourceId: number, seconds: number): Promise<boolean> {
  const row = await queryOne<{ look: boolean }>(
    target,
    "target",
    "select sync.take_look($1::integer::smallint, 'dead_letters', $2) as look",
    [sourceId, seconds],
  );
  return row.look;
}

/** Of these dead letters, those that nobody was told of. */
export async function newDeadLetters(target: Queryable, sourceId: number, ids: readonly string[]): Promise<string[]> {
  const row = await queryOne<{ added: string[] }>(
    target,
    "target",
    "select sync.new_dead_letters($1::integer::smallint, $2::text::jsonb) as added",
    [sourceId, JSON.stringify(ids)],
  );
  return row.added;
}

/** Remembers which dead letters lie there, when they have been told. */
export async function noteDeadLetters(target: Queryable, sourceId: number, ids: readonly string[]): Promise<void> {
  await query(target, "target", "select sync.note_dead_letters($1::integer::smallint, $2::text::jsonb)", [
    sourceId,
    JSON.stringify(ids),
  ]);
}

/** Opens or closes the alert about pages that the queue has accepted and no function has begun. */
export async function tellUnrunPages(target: Queryable, sourceId: number): Promise<void> {
  await query(target, "target", "select sync.tell_unrun_pages($1::integer::smallint)", [sourceId]);
}

/** Opens, counts or closes the alerts about pages that are tried in vain. */
export async function tellRetriedPages(target: Queryable, sourceId: number, tries: number): Promise<void> {
  await query(target, "target", "select sync.tell_retried_pages($1::integer::smallint, $2)", [sourceId, tries]);
}

export interface Alert {
  readonly kind: string;
  readonly severity: "warning" | "critical";
  readonly message: string;
  readonly details: object;
}

/** Opens an alert that belongs to no execution, or counts it again. */
export async function openAlert(target: Queryable, sourceId: number, alert: Alert): Promise<void> {
  await query(target, "target", "select sync.raise_alert($1, $2, $3::integer::smallint, null, null, $4, $5::text::jsonb)", [
    alert.kind,
    alert.severity,
    sourceId,
    alert.message,
    JSON.stringify(alert.details),
  ]);
}

/** Closes an alert whose cause is gone. */
export async function closeAlert(target: Queryable, sourceId: number, kind: string): Promise<void> {
  await query(target, "target", "select sync.close_alert($1, $2::integer::smallint)", [kind, sourceId]);
}
