import { ident } from "../db/ident.ts";
import type { Queryable } from "../db/connect.ts";
import { horizonHolder, type HorizonHolder } from "../source/horizon-holder.ts";
import type { Checkpoint } from "../target/plan.ts";
import type { SourcePosition } from "../sql/position.ts";
import { findingsOn, type Finding } from "../contract/finding.ts";

/** What an operator is told of a transaction that holds the horizon. */
export interface HeldHorizon {
  readonly finding: Finding;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;
}

/**
 * Whether a transaction holds the source's horizon for longer than it should: it was there when the last run began
 * although others have begun since, or it has been open for so many minutes.
 */
export async function heldHorizon(
  source: Queryable,
  position: SourcePosition,
  known: readonly Checkpoint[],
  minutes: number,
): Promise<HeldHorizon | undefined> {
  if (position.xmin === position.xmax) return undefined;
  const standing = stands(position, known);
  // On a replica the transactions of its primary are not to be seen.
  if (position.in_recovery) return standing ? describe(position, undefined) : undefined;
  const holder = await horizonHolder(source, position.xmin);
  if (!holder || !(standing || (holder.seconds ?? 0) >= minutes * 60)) return undefined;
  return describe(position, holder);
}

/** Whether a run before this one had the same horizon, and transactions have begun since. */
export function stands({ xmin, xmax, system_identifier: system }: SourcePosition, known: readonly Checkpoint[]): boolean {
  return known.some(
    ({ horizon, snapshot_xmax: seen, system_identifier: its }) =>
      its === system && horizon === xmin && seen !== null && BigInt(xmax) > BigInt(seen),
  );
}

export function describe({ xmin, xmax }: SourcePosition, holder: HorizonHolder | undefined): HeldHorizon {
  const since = BigInt(xmax) - BigInt(xmin);
  const who = holder ? nameOf(holder) : "a transaction on the primary that this replica follows";
  return {
    finding: findingsOn(null, null)("horizon_held", {
      message: `The source's horizon stands still: ${who} has been open while ${since} others began. Until it ends, every run looks once more at the rows written since.`,
      remedy: remedyOf(holder),
    }),
    details: { horizon: xmin, transactions: String(since), ...(holder ?? { kind: "primary" }) },
  };
}

function nameOf({ kind, id, application, database, user, seconds }: HorizonHolder): string {
  const of = [
    application === null ? [] : [`application ${application}`],
    database === null ? [] : [`database ${database}`],
    user === null ? [] : [`user ${user}`],
    seconds === null ? [] : [`for ${Math.floor(seconds / 60)} minutes`],
  ].flat();
  return `${kind === "session" ? "the transaction of process" : "the prepared transaction"} ${id} (${of.join(", ")})`;
}

function remedyOf(holder: HorizonHolder | undefined): string {
  if (!holder)
    return "On the primary: select pid, application_name, datname, usename, xact_start from pg_stat_activity where backend_xid is not null order by age(backend_xid) desc limit 1; and look into pg_prepared_xacts.";
  const { kind, id } = holder;
  if (kind === "prepared")
    return `On the source, in its database: commit prepared or rollback prepared '${id.replaceAll("'", "''")}', whichever its transaction manager says.`;
  const more =
    holder.seconds === null
      ? ` How long it has been open, members of pg_read_all_stats see: grant pg_read_all_stats to ${ident("isthmus_reader")};`
      : "";
  return `Have its owner end it, or on the source: select pg_terminate_backend(${id}); what it has not committed is lost then.${more}`;
}
