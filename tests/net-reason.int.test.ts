import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { denoProgram, type DenoRelease } from "../local/functions/deno.ts";
import { freePort } from "../local/ports.ts";
import { reasonOf } from "../shared/net-reason.ts";
import { scratchFolder } from "./support/scratch.ts";

const ROOT = resolve(import.meta.dirname, "..");

describe("why a service does not answer", () => {
  let server: Server;
  let addresses: string[];
  beforeAll(async () => {
    server = createServer(selfSigned(), (_, response) => response.end("never"));
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    const { port } = server.address() as AddressInfo;
    addresses = [`http://127.0.0.1:${await freePort()}/`, "http://nowhere.invalid/", `https://localhost:${port}/`];
  });
  afterAll(() => server.close());

  const runtimes = {
    "the hosted runtime's Deno": () => reasonsOnDeno("hosted", addresses),
    "the current Deno": () => reasonsOnDeno("current", addresses),
    Node: () =>
      Promise.all(
        addresses.map((address) =>
          fetch(address).then(
            ({ status }) => String(status),
            (error: unknown) => reasonOf(error),
          ),
        ),
      ),
  };
  it.each(Object.entries(runtimes))(
    "is the same on %s: nobody listens, no such name, an unknown authority",
    async (_, reasons) => {
      expect(await reasons()).toEqual(["connection_refused", "name_not_resolved", "tls_unknown_authority"]);
    },
  );
});

/** What fetch fails with on Deno, as a reason. */
async function reasonsOnDeno(release: DenoRelease, addresses: readonly string[]): Promise<string[]> {
  const program = `
    import { reasonOf } from "${ROOT}/shared/net-reason.ts";
    const told = await Promise.all(${JSON.stringify(addresses)}.map((address) => fetch(address).then(({ status }) => String(status), reasonOf)));
    console.log(JSON.stringify(told));`;
  const flags = ["--quiet", "--no-lock", "--node-modules-dir=manual", "--allow-net"];
  const config = `--config=${join(ROOT, "functions/sync-page/deno.json")}`;
  const run = spawn(denoProgram(release), ["run", ...flags, config, "-"], { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"] });
  run.stdin.end(program);
  const [out, err] = await Promise.all([text(run.stdout), text(run.stderr)]);
  if (out === "") throw new Error(err);
  return JSON.parse(out) as string[];
}

/** A certificate for localhost that nobody has vouched for. */
function selfSigned(): { key: Buffer; cert: Buffer } {
  const folder = scratchFolder("net-reason");
  mkdirSync(folder, { recursive: true });
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const made = spawnSync("openssl", [
    "req",
    "-x509",
    "-days",
    "2",
    "-nodes",
    "-newkey",
    "rsa:2048",
    ...subject,
    "-keyout",
    key,
    "-out",
    cert,
  ]);
  if (made.status !== 0) throw new Error(made.stderr.toString());
  const pair = { key: readFileSync(key), cert: readFileSync(cert) };
  rmSync(folder, { recursive: true });
  return pair;
}
