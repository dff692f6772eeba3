// Times of a zone as SQL. The clocks of a zone skip times and repeat others: such a time is no moment, or two.

/** What becomes of the times that the zone's clocks skip and repeat. What is not said sends the record to the queue. */
export interface ZoneRules {
  /** A skipped time is as far behind the change of the clocks as they were put forward (as PostgreSQL reads it), or as far before it. */
  readonly skipped?: "forward" | "back";
  /** A repeated time is the moment before the clocks were put back, or the one after (as PostgreSQL reads it). */
  readonly repeated?: "first" | "second";
}

/** No offset of a zone is larger, so that a change of the clocks that matters to a time lies no further from that time read as UTC. */
const FARTHEST = "interval '16 hours'";

/**
 * SQL for a column of times in a zone, as text: a time without a zone becomes the moment that it was there, and a
 * moment the time that it was there. A time that the zone's clocks skip or repeat, and about which the rules say
 * nothing, stays as the column has it: with or without a zone where the other is wanted, so that no column of times
 * takes it.
 */
export function zonedSql(column: string, zone: string, { skipped, repeated }: ZoneRules): string {
  const there = (moment: string) => `(${moment} at time zone '${zone}')`;
  // The type of a sum is never a domain.
  const isWallTime = `pg_catalog.pg_typeof(${column} + interval '0') = 'timestamp'::regtype`;
  const wall = `(case when ${isWallTime} then ${column}::timestamp else ${there(`${column}::timestamptz`)} end)`;
  const asUtc = `(${wall} at time zone 'UTC')`;
  const offset = (sign: Sign) => `(${there(`(${asUtc} ${sign} ${FARTHEST})`)} - (${wall} ${sign} ${FARTHEST}))`;
  const moment = (sign: Sign) => `(${asUtc} - ${offset(sign)})`;
  const isMoment = (sign: Sign) => `(${there(moment(sign))} = ${wall})::integer`;
  const plain = `${there(column)}::text`;
  // What a moment was there is certain, whatever else was called so.
  const ruled = (sign: Sign) => `case when ${isWallTime} then ${moment(sign)}::text else ${plain} end`;
  const whenSkipped = skipped === undefined ? `${column}::text` : ruled(skipped === "forward" ? "-" : "+");
  const whenRepeated = repeated === undefined ? `${column}::text` : ruled(repeated === "first" ? "-" : "+");
  // Hours can be added to any time between these two.
  return (
    `case when ${column} > '4713-01-01 BC' and ${column} < '294276-01-01' and ${offset("-")} <> ${offset("+")} ` +
    `then case ${isMoment("-")} + ${isMoment("+")} when 0 then ${whenSkipped} when 2 then ${whenRepeated} else ${plain} end ` +
    `else ${plain} end`
  );
}

/** Before or behind a change of the clocks. */
type Sign = "-" | "+";
