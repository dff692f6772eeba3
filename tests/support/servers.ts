import { inject } from "vitest";

declare module "vitest" {
  interface ProvidedContext {
    postgresServers: readonly { readonly port: number; readonly log: string }[];
  }
}

/**
 * The server of this worker, which runs one file at a time. Files do not share one: transactions of another file would
 * hold the source's horizon back, and its log would not be this file's alone.
 */
export function testServer(): { readonly port: number; readonly log: string } {
  const servers = inject("postgresServers");
  const server = servers[(Number(process.env["VITEST_POOL_ID"]) - 1) % servers.length];
  if (!server) throw new Error("this worker has no server");
  return server;
}
