import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../local/ports.ts";
import { createCertificates, SERVER_ACCOUNT } from "./certificates.ts";
import { scratchFolder } from "./scratch.ts";

const BIN = "/usr/lib/postgresql/15/bin";

/** A certificate of the server: for whom, until when, and whether the server asks clients for theirs. */
export interface Presented {
  readonly names: string;
  readonly expired?: boolean;
  readonly clients?: boolean;
  readonly tls?: boolean;
}

/** A real server that encrypts, with an authority of its own. */
export interface TlsServer extends AsyncDisposable {
  readonly port: number;
  /** PEM of the authority that signs the server's certificates, and of one that does not. */
  readonly ca: string;
  readonly otherCa: string;
  /** Restarts the server with another certificate. */
  present(what: Presented): Promise<void>;
}

/** Starts PostgreSQL 15 of the system; nobody is asked for a password. */
export async function startTlsServer(): Promise<TlsServer> {
  const folder = scratchFolder("tls");
  const file = (name: string) => join(folder, name);
  const certificates = createCertificates(folder);
  const { ca, otherCa } = certificates;
  const made = spawnSync(join(BIN, "initdb"), ["-D", file("data"), "-U", "postgres", "--auth=trust", "--locale=C"], {
    ...SERVER_ACCOUNT,
    cwd: folder,
    encoding: "utf8",
  });
  if (made.status !== 0) throw new Error(`initdb: ${made.error?.message ?? made.stderr}`);

  const port = await freePort();
  let server: ChildProcess = spawn("true");
  const stop = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const gone = new Promise<void>((done) => server.once("exit", () => done()));
    server.kill("SIGQUIT");
    await gone;
  };
  const present = async (what: Presented) => {
    await stop();
    const { key, cert } = certificates.sign(what.names, what.expired);
    const rule = what.clients ? "hostssl all all all trust clientcert=verify-full" : "host all all all trust";
    writeFileSync(file("data/pg_hba.conf"), `${rule}\n`);
    const settings = {
      port,
      listen_addresses: "localhost",
      unix_socket_directories: "",
      ssl: what.tls === false ? "off" : "on",
      ssl_cert_file: cert,
      ssl_key_file: key,
      ...(what.clients ? { ssl_ca_file: certificates.caFile } : {}),
    };
    const options = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
    server = spawn(join(BIN, "postgres"), ["-D", file("data"), ...options], {
      ...SERVER_ACCOUNT,
      stdio: ["ignore", "ignore", "pipe"],
    });
    await new Promise<void>((ready, failed) => {
      let said = "";
      server.stderr?.on("data", (text: Buffer) => {
        said += text.toString();
        if (said.includes("ready to accept connections")) ready();
      });
      server.once("exit", () => failed(new Error(said)));
    });
  };
  return {
    port,
    ca,
    otherCa,
    present,
    [Symbol.asyncDispose]: async () => {
      await stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
