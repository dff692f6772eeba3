// A connection to a database as the driver wants it, over Deno's own TCP and TLS. Not a function: the folder has no
// index.ts.
import { Buffer } from "node:buffer";
import { EventEmitter } from "node:events";
import type { SocketTarget } from "../shared/db/connect.ts";
import { codeOfWords } from "../shared/error-words.ts";

/** Bytes that one read takes at most. */
const READ_BYTES = 64 * 1024;
/** PostgreSQL's SSLRequest: its length and its code (https://www.postgresql.org/docs/current/protocol-message-formats.html). */
const SSL_REQUEST = Uint8Array.of(0, 0, 0, 8, 4, 210, 22, 47);
const TLS_OFFERED = "S".charCodeAt(0);
const TLS_DENIED = "N".charCodeAt(0);

/**
 * The part of `net.Socket` that the driver uses. The hosted runtime's own `net.Socket` (Deno 2.1.4) cannot carry TLS
 * for the driver, and ends the isolate, with every request in it, when the driver writes late.
 *
 * The socket is handed over before it is open: what is written before waits, and the driver hears of a failure as of
 * any other. `close` never says "with an error": the driver would then forget a query that it has begun since, and
 * nobody would hear of its end.
 */
export class DatabaseSocket extends EventEmitter {
  readyState: "opening" | "open" | "closed" = "opening";
  #connection: Deno.Conn | undefined;
  /** Closes what is being opened: a server that is silent in the middle of it would keep it for ever. */
  #abandon: () => void = () => undefined;
  #unwritten: Uint8Array[] = [];
  #writing = false;
  #ending = false;

  constructor(target: SocketTarget) {
    super();
    openConnection(target, (abandon) => this.#hold(abandon)).then(
      (connection) => this.#opened(connection),
      // Not before the driver listens: it gets the socket a moment after it was made.
      (error: unknown) => setTimeout(() => this.#failed(error), 0),
    );
  }

  /** Always true: what cannot be written at once waits in memory, at most a page. The driver also writes null, when nothing is left to write. */
  write(chunk: Uint8Array | null): boolean {
    if (chunk !== null && !this.#ending && this.readyState !== "closed") {
      this.#unwritten.push(chunk);
      void this.#flush();
    }
    return true;
  }

  /** Closes after everything has been written. */
  end(chunk: Uint8Array | null = null): void {
    this.write(chunk);
    this.#ending = true;
    void this.#flush();
  }

  /** Closes at once. */
  destroy(): void {
    this.#close();
  }

  #hold(abandon: () => void): void {
    if (this.readyState === "closed") abandon();
    else this.#abandon = abandon;
  }

  #opened(connection: Deno.Conn): void {
    if (this.readyState === "closed") return connection.close();
    this.#connection = connection;
    this.readyState = "open";
    void this.#flush();
    void this.#read(connection);
  }

  async #read(connection: Deno.Conn): Promise<void> {
    const bytes = new Uint8Array(READ_BYTES);
    try {
      for (;;) {
        const count = await connection.read(bytes);
        if (count === null || this.readyState === "closed") break;
        this.emit("data", Buffer.from(bytes.subarray(0, count)));
      }
      this.#close();
    } catch (error) {
      this.#failed(error);
    }
  }

  async #flush(): Promise<void> {
    const connection = this.#connection;
    if (this.#writing || !connection) return;
    this.#writing = true;
    try {
      for (let chunk = this.#unwritten.shift(); chunk; chunk = this.#unwritten.shift()) {
        for (let from = 0; from < chunk.length;) from += await connection.write(chunk.subarray(from));
      }
      if (this.#ending) this.#close();
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#writing = false;
    }
  }

  #failed(error: unknown): void {
    // After the close nobody listens, and what fails then is the close itself.
    if (this.readyState === "closed") return;
    this.emit("error", coded(error));
    this.#close();
  }

  #close(): void {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    this.#unwritten = [];
    const connection = this.#connection;
    if (connection) quietly(() => connection.close());
    else this.#abandon();
    // Not within the driver's own call: it would find its socket gone in the middle of it.
    setTimeout(() => this.emit("close", false), 0);
  }
}

/**
 * A TCP connection without Nagle's delay, and TLS on it where it is asked for. `holding` is given what closes it
 * while it is being opened. @throws Error with a code.
 */
async function openConnection({ host, port, tls }: SocketTarget, holding: (abandon: () => void) => void): Promise<Deno.Conn> {
  const tcp = await Deno.connect({ hostname: host.replace(/^\[|\]$/g, ""), port });
  let held: Deno.Conn = tcp;
  const close = () => quietly(() => held.close());
  holding(close);
  try {
    tcp.setNoDelay(true);
    tcp.setKeepAlive(true);
    if (!tls) return tcp;
    await askForTls(tcp);
    const encrypted = await Deno.startTls(tcp, { hostname: tls.serverName, caCerts: tls.ca === undefined ? [] : [tls.ca] });
    held = encrypted;
    await encrypted.handshake();
    return encrypted;
  } catch (error) {
    close();
    throw error;
  }
}

/** @throws Error TLS_NOT_OFFERED, TLS_REFUSED, ECONNRESET. */
async function askForTls(tcp: Deno.TcpConn): Promise<void> {
  await tcp.write(SSL_REQUEST);
  // One byte and no more: what came in clear behind the answer belongs to nobody, and the handshake stumbles over it.
  const answer = new Uint8Array(1);
  if ((await tcp.read(answer)) === null)
    throw withCode("ECONNRESET", "The server closed the connection when it was asked for TLS.");
  if (answer[0] === TLS_DENIED) throw withCode("TLS_NOT_OFFERED", "The server does not offer TLS.");
  if (answer[0] !== TLS_OFFERED) throw withCode("TLS_REFUSED", "What answers does not speak PostgreSQL's protocol.");
}

/** What is closed already is closed. */
function quietly(close: () => void): void {
  try {
    close();
  } catch {
    // The other side was faster, or TLS has taken the connection over.
  }
}

function withCode(code: string, message: string, cause?: Error): Error {
  return Object.assign(new Error(message, { cause }), { code });
}

/** Deno names kinds of errors; the driver, and what reads its errors, want codes. */
function coded(error: unknown): Error {
  const known = error instanceof Error ? error : new Error(String(error));
  const { code } = known as { code?: unknown };
  if (typeof code === "string") return known;
  return withCode(codeOfWords(`${known.name}: ${known.message}`) ?? "ECONNABORTED", known.message, known);
}
