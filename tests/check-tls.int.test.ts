import { resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startFunctionsHost } from "../local/functions/host.ts";
import { startTlsServer, type TlsServer } from "./support/tls-server.ts";

const KEY = "sb_secret_of_a_project_with_tls";
let server: TlsServer;
beforeAll(async () => {
  server = await startTlsServer();
  await server.present({ names: "DNS:localhost" });
});
afterAll(() => server[Symbol.asyncDispose]());

/** What the deployed function says of its source, whose authority and name these are. */
async function checked(host: string, ca: string): Promise<unknown> {
  const functions = await startFunctionsHost({
    functionsDir: resolve(import.meta.dirname, "../functions"),
    names: ["sync-trigger"],
    project: {
      SUPABASE_URL: "http://127.0.0.1:1",
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: KEY }),
      SUPABASE_PUBLISHABLE_KEYS: "{}",
      SUPABASE_JWKS: JSON.stringify({ keys: [] }),
    },
    env: {
      SOURCE_DB_URL: `postgres://postgres@${host}:${server.port}/postgres`,
      SOURCE_DB_CA: ca,
      // Nobody is there: the check tells of each side by itself.
      TARGET_DB_URL: "postgres://isthmus_worker@127.0.0.1:1/postgres",
      QSTASH_URL: "http://127.0.0.1:1",
      QSTASH_TOKEN: "unused",
      QSTASH_CURRENT_SIGNING_KEY: "unused",
      QSTASH_NEXT_SIGNING_KEY: "unused",
    },
  });
  try {
    const answer = await fetch(`${functions.url}/sync-trigger?check`, { headers: { apikey: KEY } });
    const said = (await answer.json()) as { ok: boolean; reachable: { source: unknown; target: unknown } };
    expect(answer.status, JSON.stringify(said)).toBe(200);
    expect(said.reachable.target).toEqual({ reachable: false, reason: "connection_refused" });
    return said.reachable.source;
  } finally {
    await functions.stop();
  }
}

it.each([
  { why: "the certificate carries another name", host: "127.0.0.1", ca: () => server.ca, reason: "tls_other_host" },
  { why: "another authority has signed it", host: "localhost", ca: () => server.otherCa, reason: "tls_unknown_authority" },
])("the deployed check names the reason why a source is not trusted: $why", async ({ host, ca, reason }) => {
  expect(await checked(host, ca())).toEqual({ reachable: false, reason });
});

it("the deployed check reaches a source over TLS whose authority and name are right", async () => {
  expect(await checked("localhost", server.ca)).toMatchObject({ reachable: true });
});
