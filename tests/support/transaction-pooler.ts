import { spawn } from "node:child_process";
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../local/ports.ts";
import { testServer } from "./servers.ts";

const NOBODY = 65_534;

/** A real pooler in transaction mode before the server of the tests, with three connections per database and role. */
export interface TransactionPooler extends AsyncDisposable {
  /** The same address through the pooler. */
  through(url: string): string;
}

export async function startTransactionPooler(): Promise<TransactionPooler> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-pgbouncer-"));
  const port = await freePort();
  const server = await testServer();
  const asRoot = process.getuid?.() === 0;
  writeFileSync(join(folder, "users"), '"isthmus_worker" "local-worker"\n"isthmus_reader" "local-reader"\n');
  writeFileSync(
    join(folder, "ini"),
    `[databases]\n* = host=127.0.0.1 port=${server.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=${port}\nunix_socket_dir=\n` +
      `auth_type=scram-sha-256\nauth_file=${join(folder, "users")}\npool_mode=transaction\ndefault_pool_size=3\nignore_startup_parameters=extra_float_digits\n`,
  );
  if (asRoot) for (const path of [folder, join(folder, "users"), join(folder, "ini")]) chownSync(path, NOBODY, NOBODY);
  const pooler = spawn("pgbouncer", [join(folder, "ini")], { stdio: "ignore", ...(asRoot ? { uid: NOBODY, gid: NOBODY } : {}) });
  await new Promise<void>((started, failed) => {
    pooler.once("error", failed);
    pooler.once("spawn", () => started());
  });
  return {
    through: (url) => url.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`),
    [Symbol.asyncDispose]: async () => {
      const gone = new Promise<void>((ended) => pooler.once("exit", () => ended()));
      pooler.kill("SIGINT");
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
