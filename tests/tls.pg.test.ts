import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connect } from "../shared/db/connect.ts";
import { SUPABASE_ROOT_CA } from "../shared/db/supabase-ca.ts";
import { expectedServer } from "../shared/db/tls.ts";
import { reasonOf } from "../shared/net-reason.ts";
import { connectOnDeno, converseOnDeno, type Attempt } from "./support/deno-connections.ts";
import { scratchFolder } from "./support/scratch.ts";
import { startTlsServer, type TlsServer } from "./support/tls-server.ts";

const MB = 1024 * 1024;

describe("TLS to a database", () => {
  let server: TlsServer;
  beforeAll(async () => {
    server = await startTlsServer();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const attempt = (host: string, tls: Attempt["tls"] = "verify-full", ca: string | undefined = server.ca): Attempt => ({
    ...{ host, tls, port: server.port },
    ...(ca === "" ? {} : { ca }),
  });
  async function connectOnNode({ host, port, tls, ca }: Attempt): Promise<string> {
    const url = `postgres://postgres@${host}:${port}/postgres`;
    const pool = { poolSize: 1, idleTimeoutSeconds: 1, connectTimeoutSeconds: 3, applicationName: "test" };
    const sql = connect({ side: "target", url, tls, ca, ...pool });
    try {
      const [row] = await sql.unsafe<{ ssl: boolean }[]>("select ssl from pg_stat_ssl where pid = pg_backend_pid()");
      return row?.ssl === true ? "encrypted" : "plain";
    } catch (error) {
      return reasonOf(error);
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
  const runtimes = {
    "the hosted runtime's Deno": (attempts: readonly Attempt[]) => connectOnDeno("hosted", attempts),
    "the current Deno": (attempts: readonly Attempt[]) => connectOnDeno("current", attempts),
    Node: async (attempts: readonly Attempt[]) => {
      const told: string[] = [];
      for (const one of attempts) told.push(await connectOnNode(one));
      return told;
    },
  };

  /** A server that takes connections, and tells what becomes of them. */
  async function startListener(take: (socket: Socket) => void) {
    const sockets: Socket[] = [];
    const listener = createServer((socket) => {
      socket.on("error", () => undefined);
      sockets.push(socket);
      take(socket);
    });
    await new Promise<void>((listening) => listener.listen(0, "127.0.0.1", listening));
    const { port } = listener.address() as { port: number };
    return { port, open: () => sockets.filter((socket) => !socket.destroyed).length, close: () => listener.close() };
  }

  describe.each(Object.entries(runtimes))("on %s", (runtime, tried) => {
    it("accepts the authority it was given and the name on the certificate, nothing else", async () => {
      await server.present({ names: "DNS:localhost" });
      const attempts = [
        attempt("localhost"),
        attempt("127.0.0.1"),
        attempt("localhost", "verify-full", server.otherCa),
        attempt("localhost", "disable"),
        attempt("localhost", "verify-full", ""),
      ];
      expect(await tried(attempts)).toEqual(["encrypted", "tls_other_host", "tls_unknown_authority", "plain", "plain"]);
    });
    it("accepts an address that the certificate carries", async () => {
      await server.present({ names: "IP:127.0.0.1" });
      expect(await tried([attempt("127.0.0.1"), attempt("localhost")])).toEqual(["encrypted", "tls_other_host"]);
    });
    it("refuses a certificate that has expired", async () => {
      await server.present({ names: "DNS:localhost", expired: true });
      expect(await tried([attempt("localhost")])).toEqual(["tls_expired"]);
    });
    it("never goes on in clear where the server does not encrypt", async () => {
      await server.present({ names: "DNS:localhost", tls: false });
      const [reason] = await tried([attempt("localhost")]);
      expect(reason).toBe(runtime === "Node" ? "unreachable" : "tls_not_offered");
    });
    it("names a server that wants a client's certificate", async () => {
      await server.present({ names: "DNS:localhost", clients: true });
      expect(await tried([attempt("localhost")])).toEqual(["credentials_refused"]);
    });
    it("trusts nothing that came in clear before the handshake", async () => {
      const seen: Buffer[] = [];
      const liar = await startListener((socket) => {
        socket.once("data", () => socket.write("SZ\0\0\0\x05I"));
        socket.on("data", (chunk) => seen.push(chunk));
      });
      const [reason] = await tried([{ ...attempt("localhost"), port: liar.port }]);
      expect(reason).not.toMatch(/encrypted|plain/);
      expect(Buffer.concat(seen).includes("postgres")).toBe(false);
      liar.close();
    });
  });

  it.each(["hosted", "current"] as const)(
    "on Deno (%s) a server that is silent, hangs up, is not there or has no name is named, and keeps no connection",
    async (release) => {
      const silent = await startListener((socket) => socket.resume());
      const stillOpen: number[] = [];
      const rude = await startListener((socket) => {
        stillOpen.push(silent.open());
        socket.once("data", () => socket.destroy());
      });
      const told = await connectOnDeno(release, [
        { ...attempt("localhost"), port: silent.port },
        { ...attempt("localhost"), port: rude.port },
        { ...attempt("localhost"), port: 1 },
        attempt("nowhere.invalid"),
        // The process goes on, and has given the first one up.
        { ...attempt("localhost"), port: rude.port },
      ]);
      expect(told).toEqual(["timeout", "unreachable", "connection_refused", "name_not_resolved", "unreachable"]);
      expect(stillOpen.at(-1)).toBe(0);
      silent.close();
      rude.close();
    },
  );

  it.each(["hosted", "current"] as const)("on Deno (%s) megabytes go both ways over TLS as they are", async (release) => {
    await server.present({ names: "DNS:localhost" });
    const [encrypted, plain] = [
      await converseOnDeno(release, attempt("localhost"), 8),
      await converseOnDeno(release, attempt("localhost", "disable"), 8),
    ];
    for (const said of [encrypted, plain]) expect(said).toMatchObject({ sent: 8 * MB, received: 8 * MB, whole: true });
    process.stdout.write(
      `Deno (${release}): a connection opens in ${encrypted.openMs.toFixed(1)} ms over TLS, in ${plain.openMs.toFixed(1)} ms in clear\n`,
    );
  });

  it.each(["hosted", "current"] as const)(
    "on Deno (%s) an authority that is given is one more, beside the runtime's own",
    async (release) => {
      await server.present({ names: "DNS:localhost" });
      writeFileSync(join(scratchFolder("tls"), "trusted.pem"), server.ca);
      const trusted = { DENO_CERT: join(scratchFolder("tls"), "trusted.pem") };
      expect(await connectOnDeno(release, [attempt("localhost", "verify-full", server.otherCa)])).toEqual([
        "tls_unknown_authority",
      ]);
      expect(await connectOnDeno(release, [attempt("localhost", "verify-full", server.otherCa)], trusted)).toEqual(["encrypted"]);
    },
  );

  it("require encrypts without verifying, on Node alone", async () => {
    await server.present({ names: "DNS:localhost" });
    expect(await connectOnNode(attempt("127.0.0.1", "require"))).toBe("encrypted");
    expect(await connectOnDeno("hosted", [attempt("127.0.0.1", "require")])).toEqual(["tls_other_host"]);
  });

  it("expects Supabase's own authority at its hosts, and another where one is given", () => {
    expect(new X509Certificate(SUPABASE_ROOT_CA)).toMatchObject({
      fingerprint256: "80:70:25:AD:50:D4:ED:21:9D:2C:9C:7D:29:9C:00:4F:82:4E:B0:0C:F7:F6:5A:FE:F6:07:D0:7B:72:E6:CA:FA",
      ca: true,
    });
    for (const host of ["db.abcdefgh.supabase.co", "aws-0-eu-central-1.pooler.supabase.com"]) {
      expect(expectedServer(host, "verify-full", undefined)).toEqual({ serverName: host, ca: SUPABASE_ROOT_CA });
      expect(expectedServer(host, "verify-full", "PEM")).toEqual({ serverName: host, ca: "PEM" });
    }
    expect(expectedServer("db.supabase.co.example.com", "verify-full", undefined)?.ca).toBeUndefined();
  });
});
