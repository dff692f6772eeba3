import postgres from "postgres";
import { inject } from "vitest";

declare module "vitest" {
  interface ProvidedContext {
    postgresServers: readonly TestServer[];
  }
}

export interface TestServer {
  readonly port: number;
  /** The server's own log. */
  readonly log: string;
}

const CLAIM = 1_769_173_081;
let claimed: Promise<TestServer> | undefined;

/**
 * A server that no other test file uses while this one runs: transactions of another file would hold the source's
 * horizon back, and its log would not be this file's alone.
 */
export function testServer(): Promise<TestServer> {
  return (claimed ??= claim());
}

/** As many files run at a time as there are servers. The claim ends with the session, and that with the file's process. */
async function claim(): Promise<TestServer> {
  for (;;) {
    for (const server of inject("postgresServers")) {
      const session = postgres(`postgres://supabase_admin@127.0.0.1:${server.port}/postgres`, { max: 1, max_lifetime: null });
      const [row] = await session<{ free: boolean }[]>`select pg_try_advisory_lock(${CLAIM}) as free`;
      if (row?.free === true) return server;
      await session.end();
    }
    await new Promise((again) => setTimeout(again, 50));
  }
}
