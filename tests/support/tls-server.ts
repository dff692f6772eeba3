import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../local/ports.ts";
import { scratchFolder } from "./scratch.ts";

const BIN = "/usr/lib/postgresql/15/bin";
const NOBODY = 65_534;

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
  mkdirSync(folder, { recursive: true });
  const file = (name: string) => join(folder, name);
  const as = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  if (as.uid !== undefined) chownSync(folder, NOBODY, NOBODY);
  const must = (program: string, ...args: string[]) => {
    const result = spawnSync(program, args, { ...as, cwd: folder, encoding: "utf8" });
    if (result.status !== 0) throw new Error(`${program}: ${result.error?.message ?? result.stderr}`);
  };
  const authority = (name: string) => {
    const days = ["-days", "2", "-nodes", "-newkey", "rsa:2048"];
    must("openssl", "req", "-x509", ...days, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.pem`);
    return readFileSync(file(`${name}.pem`), "utf8");
  };
  const ca = authority("authority");
  const otherCa = authority("stranger");
  must(join(BIN, "initdb"), "-D", file("data"), "-U", "postgres", "--auth=trust", "--locale=C");

  const sign = ({ names, expired = false }: Presented) => {
    writeFileSync(file("names"), `subjectAltName=${names}\nbasicConstraints=CA:FALSE\n`);
    must("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr");
    const by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "names"];
    const life = expired ? ["-days", "-1"] : ["-days", "2"];
    must("openssl", "x509", "-req", "-in", "server.csr", ...by, ...life, "-out", "server.pem");
    chmodSync(file("server.key"), 0o600);
  };

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
    sign(what);
    const rule = what.clients ? "hostssl all all all trust clientcert=verify-full" : "host all all all trust";
    writeFileSync(file("data/pg_hba.conf"), `${rule}\n`);
    copyFileSync(file("authority.pem"), file("clients.pem"));
    const settings = {
      port,
      listen_addresses: "localhost",
      unix_socket_directories: "",
      ssl: what.tls === false ? "off" : "on",
      ssl_cert_file: file("server.pem"),
      ssl_key_file: file("server.key"),
      ...(what.clients ? { ssl_ca_file: file("clients.pem") } : {}),
    };
    const options = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
    server = spawn(join(BIN, "postgres"), ["-D", file("data"), ...options], { ...as, stdio: ["ignore", "ignore", "pipe"] });
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
