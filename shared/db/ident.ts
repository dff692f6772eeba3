/** Quotes one SQL identifier. The only place where a name becomes SQL text. */
export function ident(name: string): string {
  if (name.length === 0 || name.includes("\u0000")) throw new TypeError("An SQL identifier must not be empty or hold NUL.");
  return `"${name.replaceAll('"', '""')}"`;
}

/** Quotes one SQL literal, for names within SQL and for SQL that is printed; a statement that runs binds its values. */
export function literal(value: string): string {
  if (value.includes("\u0000")) throw new RangeError("An SQL literal must not hold NUL.");
  const quoted = `'${value.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`;
  // A backslash is read alike in this form only, whatever the session's settings are.
  return value.includes("\\") ? `E${quoted}` : quoted;
}

/** SQL of a table of the schema public as a regclass, whatever it is called: a quote within a name would end a text. */
export function regclass(table: string): string {
  return `${literal(`public.${ident(table)}`)}::regclass`;
}

/** A PostgreSQL array literal of integers and NULLs, bound as text and cast in SQL: `$1::text::bigint[]`. */
export function integerArray(values: readonly (string | number | bigint | null)[]): string {
  for (const value of values) {
    if (value !== null && !/^-?\d{1,19}$/.test(String(value))) throw new TypeError("A legacy id must be an integer.");
  }
  return `{${values.map((value) => value ?? "NULL").join(",")}}`;
}
