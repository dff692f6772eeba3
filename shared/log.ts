/** A structured log: one JSON line per event; ids, counts and codes only, never a value of a row. docs/metrics.md has the schema. */
export interface Log {
  info(event: string, fields?: Record<string, unknown>): void;
  error(event: string, fields?: Record<string, unknown>): void;
  with(fields: Record<string, unknown>): Log;
}

/** The platform caps a line at 10,000 characters. */
const LONGEST = 9_900;
/** Of a line that would be longer, what is kept of its fields, as text. Escaped once more, it may grow to twice its length. */
const KEPT = 4_000;

/** @param write receives each finished line, which is JSON however long its fields are. */
export function createLog(write: (line: string) => void, context: Record<string, unknown> = {}): Log {
  const emit = (level: string, event: string, fields: Record<string, unknown> = {}) => {
    const line = JSON.stringify(Object.assign({ level, event }, context, fields, { level, event }));
    write(
      line.length <= LONGEST ? line : JSON.stringify({ level, event, ...context, cut: JSON.stringify(fields).slice(0, KEPT) }),
    );
  };
  return {
    info: (event, fields) => emit("info", event, fields),
    error: (event, fields) => emit("error", event, fields),
    with: (fields) => createLog(write, { ...context, ...fields }),
  };
}
