import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const NOBODY = 65_534;

/** What servers are started as: root may run none. */
export const SERVER_ACCOUNT = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

/** An authority of a test's own, another one that signs nothing, and what the first signs, as files that a server's account may read. */
export interface Certificates {
  /** PEM of the authority that signs, and of the stranger. */
  readonly ca: string;
  readonly otherCa: string;
  /** The authority's file. */
  readonly caFile: string;
  /** Signs a new certificate for these names, in openssl's words. */
  sign(names: string, expired?: boolean): { readonly key: string; readonly cert: string };
}

/** @throws Error with what openssl said. */
export function createCertificates(folder: string): Certificates {
  mkdirSync(folder, { recursive: true });
  if (SERVER_ACCOUNT.uid !== undefined) chownSync(folder, NOBODY, NOBODY);
  const file = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => {
    const result = spawnSync("openssl", args, { ...SERVER_ACCOUNT, cwd: folder, encoding: "utf8" });
    if (result.status !== 0) throw new Error(`openssl: ${result.error?.message ?? result.stderr}`);
  };
  const authority = (name: string) => {
    const days = ["-days", "2", "-nodes", "-newkey", "rsa:2048"];
    openssl("req", "-x509", ...days, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.pem`);
    return readFileSync(file(`${name}.pem`), "utf8");
  };
  return {
    ca: authority("authority"),
    otherCa: authority("stranger"),
    caFile: file("authority.pem"),
    sign: (names, expired = false) => {
      writeFileSync(file("names"), `subjectAltName=${names}\nbasicConstraints=CA:FALSE\n`);
      openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr");
      const by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "names"];
      const life = expired ? ["-days", "-1"] : ["-days", "2"];
      openssl("x509", "-req", "-in", "server.csr", ...by, ...life, "-out", "server.pem");
      chmodSync(file("server.key"), 0o600);
      return { key: file("server.key"), cert: file("server.pem") };
    },
  };
}
