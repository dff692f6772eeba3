/**
 * Transaction ids. A row's xmin is 32 bits wide; horizons are 64 bits (xid8). A row is changed when its xmin lies in
 * [from, to) modulo 2^32, which is exact as long as fewer than 2^31 transactions lie between.
 */
export const XID_MODULUS = 4_294_967_296n;
/** From here on the 32-bit comparison is no longer trusted (half of the space, as PostgreSQL itself compares). */
export const XID_HALF = 2_147_483_648n;

/** Whether a 32-bit comparison can tell what changed between two positions. */
export function spanIsComparable(from: string, to: string): boolean {
  const span = BigInt(to) - BigInt(from);
  return span >= 0n && span < XID_HALF;
}

/** SQL for "this xmin lies in [from, to)"; parameters: $from mod 2^32 and the span, both as bigint. */
export function changedSql(xmin: string, fromParameter: number, spanParameter: number): string {
  return `((${xmin}::text::bigint - $${fromParameter}::text::bigint + ${XID_MODULUS}) % ${XID_MODULUS}) < $${spanParameter}::text::bigint`;
}

/**
 * SQL for "written by this transaction or a later one", for scans of many rows; parameter: its id mod 2^32. There is
 * no end: a record that is written again before its page comes must not escape, or one that never rests would never
 * land. Ages, which cost a tenth of the text that changedSql takes an xmin through, count from the statement's
 * present, and it sees nothing younger. One of 2^31 transactions or more is negative; from there on nothing is ruled
 * out.
 */
export function scannedSql(xmin: string, fromParameter: number): string {
  const age = `(select age($${fromParameter}::text::xid))`;
  return `(${age} < 0 or age(${xmin}) between 0 and ${age})`;
}

/** The parameter of scannedSql. */
export function scannedParameter(from: string): string {
  return (BigInt(from) % XID_MODULUS).toString();
}

/** The two parameters of changedSql. */
export function changedParameters(from: string, to: string): [string, string] {
  return [scannedParameter(from), (BigInt(to) - BigInt(from)).toString()];
}
