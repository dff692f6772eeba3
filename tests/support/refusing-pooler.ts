import { createServer, type Socket } from "node:net";

/** What Supavisor writes when it refuses a connection: severity, SQLSTATE and message, with the untranslated severity in some places. */
export interface Refused {
  readonly code: string;
  readonly message: string;
  readonly untranslated?: boolean;
}

/** Answers every connection with one refusal, as a pooler that is not to be had as a package does. */
export async function createRefusingPooler(says: Refused): Promise<AsyncDisposable & { readonly port: number; says: Refused }> {
  const open = new Set<Socket>();
  const pooler = { says };
  const server = createServer((socket) => {
    open.add(socket.on("close", () => open.delete(socket)).on("error", () => undefined));
    socket.once("data", () => socket.end(errorResponse(pooler.says)));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return Object.assign(pooler, {
    port: address.port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((closed) => server.close(closed));
    },
  });
}

export function errorResponse({ code, message, untranslated = false }: Refused): Buffer {
  const fields = Buffer.from(`SFATAL\0${untranslated ? "VFATAL\0" : ""}C${code}\0M${message}\0\0`);
  const head = Buffer.alloc(5);
  head.write("E");
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}
