import { connect, createServer, type Server, type Socket } from "node:net";
import { errorResponse, type Refused } from "./refusing-pooler.ts";

/** The way to a server, which a test can cut: a port of its own, whose connections reach the server. */
export interface Wire extends AsyncDisposable {
  readonly port: number;
  /** Ends every connection. New ones are refused by nobody listening, or by a pooler that says so, until `mend`. */
  cut(says?: Refused): Promise<void>;
  /** Lets connections in, and ends each at its next statement with these words, until `mend`: as a pooler that has no server for it. */
  turnAway(says: Refused): void;
  mend(): Promise<void>;
}

/** `rewrite`: what the server gets of a part of what is sent to it; as many bytes. */
export async function createWire(serverPort: number, rewrite?: (sent: Buffer) => Buffer): Promise<Wire> {
  const open = new Set<Socket>();
  let says: Refused | undefined;
  let turnsAway: Refused | undefined;
  let server: Server | undefined;
  let port = 0;
  const keep = (socket: Socket) => open.add(socket.on("close", () => open.delete(socket)).on("error", () => undefined));
  const serve = (client: Socket) => {
    keep(client);
    if (says) {
      const refusal = errorResponse(says);
      client.once("data", () => client.end(refusal));
      return;
    }
    const upstream = connect(serverPort, "127.0.0.1");
    keep(upstream);
    client.setNoDelay(true);
    upstream.setNoDelay(true).pipe(client);
    client.on("data", (sent) => {
      if (turnsAway && isStatement(sent)) client.end(errorResponse(turnsAway));
      else upstream.write(rewrite ? rewrite(sent) : sent);
    });
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  };
  const listen = async () => {
    if (server) return;
    const made = createServer(serve);
    await new Promise<void>((listening, failed) => made.once("error", failed).listen(port, "127.0.0.1", listening));
    const address = made.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    ({ port } = address);
    server = made;
  };
  const close = async () => {
    const closed = new Promise<void>((done) => (server ? server.close(() => done()) : done()));
    for (const socket of open) socket.destroy();
    await closed;
    server = undefined;
  };
  await listen();
  return {
    get port() {
      return port;
    },
    cut: async (refusal) => {
      says = refusal;
      await close();
      if (refusal) await listen();
    },
    turnAway: (refusal) => {
      turnsAway = refusal;
    },
    mend: async () => {
      turnsAway = undefined;
      if (says) await close();
      says = undefined;
      await listen();
    },
    [Symbol.asyncDispose]: close,
  };
}

/** Query or Parse. */
function isStatement(sent: Buffer): boolean {
  return sent[0] === 0x51 || sent[0] === 0x50;
}
