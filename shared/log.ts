/** A structured log: one JSON line per event; ids, counts and codes only, never a value of a row. */
export interface Log {
  info(event: string, fields?: Record<string, unknown>): void;
  error(event: string, fields?: Record<string, unknown>): void;
  with(fields: Record<string, unknown>): Log;
}

/** @param write receives each finished line (the platform caps a line at 10,000 characters). */
export function createLog(write: (line: string) => void, context: Record<string, unknown> = {}): Log {
  const emit = (level: string, event: string, fields: Record<string, unknown> = {}) => {
    write(JSON.stringify({ level, event, ...context, ...fields }).slice(0, 9_900));
  };
  return {
    info: (event, fields) => emit("info", event, fields),
    error: (event, fields) => emit("error", event, fields),
    with: (fields) => createLog(write, { ...context, ...fields }),
  };
}
