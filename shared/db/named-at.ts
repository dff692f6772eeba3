/** A name, of however many parts: public.books, o."Name", count. */
const NAME = /^(?:"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*)(?:\.(?:"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*))*/u;

/** Syntax, rights and names (42), schemas (3F): of these an error says where in the statement it is. */
const OF_NAMES = /^(42|3F)/;

/**
 * The name in a statement that PostgreSQL refuses: a column, table, type or function. Values are parameters, so what
 * stands in the text comes from us and from entity files.
 * @param position 1-based, in characters, as the server sends it.
 */
export function namedAt(sqlstate: string, text: string, position: unknown): string | undefined {
  const at = typeof position === "string" ? Number(position) : NaN;
  if (!OF_NAMES.test(sqlstate) || !Number.isSafeInteger(at) || at < 1) return undefined;
  return NAME.exec(
    Array.from(text)
      .slice(at - 1)
      .join(""),
  )?.[0];
}
