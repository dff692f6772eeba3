import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import type { DescribedError } from "../errors.ts";
import type { PageMessage } from "../pipeline/types.ts";

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
