/** An error that a server, or a pooler before it, has sent; of the driver's shape. */
export interface SaidError extends Error {
  readonly name: "PostgresError";
  readonly code: string;
}

/** What tells of the bytes that it receives: the driver's socket. */
interface Source {
  on(event: "data", listener: (bytes: Uint8Array) => void): unknown;
}

/** Fields of an ErrorResponse (https://www.postgresql.org/docs/current/protocol-error-fields.html), by the driver's names. */
const FIELDS: Readonly<Record<string, string>> = { S: "severity_local", V: "severity", C: "code", M: "message", R: "routine" };
const ERROR_RESPONSE = "E".charCodeAt(0);

/**
 * Listens for what is said before a connection ends: that no server is free, that it is shut down, that a transaction
 * was idle for too long. The driver forgets these words: it says of each that the connection is closed.
 * @returns what was said last, if that was an error.
 */
export function lastWords(socket: Source): () => SaidError | undefined {
  let last: Uint8Array | undefined;
  socket.on("data", (bytes) => (last = bytes));
  return () => (last === undefined ? undefined : errorAtTheEnd(last));
}

/** The error in the last message of what was received at once. Whoever ends a connection sends the reason in one piece. */
function errorAtTheEnd(bytes: Uint8Array): SaidError | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 5 <= bytes.length;) {
    const end = at + 1 + view.getUint32(at + 1);
    // Not the beginning of a message, or one that goes on elsewhere.
    if (end <= at + 4 || end > bytes.length) return undefined;
    if (end === bytes.length && bytes[at] === ERROR_RESPONSE) return errorOf(bytes.subarray(at + 5, end));
    at = end;
  }
  return undefined;
}

function errorOf(body: Uint8Array): SaidError {
  const fields: Record<string, string> = {};
  for (const part of new TextDecoder().decode(body).split("\0")) {
    const name = FIELDS[part.charAt(0)];
    if (name !== undefined) fields[name] = part.slice(1);
  }
  const { message = "", code = "", ...rest } = fields;
  return Object.assign(new Error(message), { ...rest, code, name: "PostgresError" as const });
}
