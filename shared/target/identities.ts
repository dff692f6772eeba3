import type { Queryable } from "../db/connect.ts";
import { queryOne } from "../db/query.ts";

/** Who meets at the target, as far as the functions themselves know. */
export interface Parties {
  /** Under which name the functions are known at the target. */
  readonly installation: string;
  /** Host, port and database. */
  readonly target_address: string;
  readonly source_address?: string;
}

/** The source itself, and its address, are not asked by every tick. */
export interface Met extends Parties {
  readonly source?: string;
  /** The last execution that the cache remembers; null: it remembers none, or there is no cache. */
  readonly remembered: number | null;
}

/** One that nobody has accepted. */
export interface UnknownIdentity {
  /** Of its row in sync_identities. */
  readonly id: string;
  readonly side: "source" | "target" | "target_state" | "installation" | "source_address" | "target_address";
  readonly identity: string;
  /** null: a source under a new name, beside others, or a sign that the target was put back. */
  readonly known: string | null;
}

/** Asks a person about every identity that is new, and closes what was asked about the others. @returns those that are new. */
export async function askForIdentities(
  target: Queryable,
  sourceId: number,
  met: Met,
  databaseName: string | null,
): Promise<readonly UnknownIdentity[]> {
  const row = await queryOne<{ asked: UnknownIdentity[] }>(
    target,
    "target",
    "select sync.ask_for_identities($1::integer::smallint, $2::text::jsonb, $3) as asked",
    [sourceId, JSON.stringify(met), databaseName],
  );
  return row.asked;
}
