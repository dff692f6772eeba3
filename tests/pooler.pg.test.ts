import { spawn, type ChildProcess } from "node:child_process";
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { freePort } from "../local/ports.ts";
import { endState } from "./support/digest.ts";
import { testServer } from "./support/servers.ts";
import { createInProcess } from "./support/in-process.ts";

const NOBODY = 65_534;

let pooler: ChildProcess;
let folder: string;
let port: number;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "isthmus-pgbouncer-"));
  port = await freePort();
  const server = await testServer();
  const asRoot = process.getuid?.() === 0;
  writeFileSync(join(folder, "users"), '"isthmus_worker" "local-worker"\n');
  writeFileSync(
    join(folder, "ini"),
    `[databases]\n* = host=127.0.0.1 port=${server.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=${port}\nunix_socket_dir=\n` +
      `auth_type=scram-sha-256\nauth_file=${join(folder, "users")}\npool_mode=transaction\ndefault_pool_size=3\nignore_startup_parameters=extra_float_digits\n`,
  );
  if (asRoot) for (const path of [folder, join(folder, "users"), join(folder, "ini")]) chownSync(path, NOBODY, NOBODY);
  pooler = spawn("pgbouncer", [join(folder, "ini")], { stdio: "ignore", ...(asRoot ? { uid: NOBODY, gid: NOBODY } : {}) });
  await new Promise<void>((started, failed) => {
    pooler.once("error", failed);
    pooler.once("spawn", () => started());
  });
});
afterAll(async () => {
  pooler.kill("SIGINT");
  await new Promise<void>((gone) => pooler.once("exit", () => gone()));
  rmSync(folder, { recursive: true, force: true });
});

it("a sync through a pooler in transaction mode ends as one over direct connections", async () => {
  await using direct = await createInProcess({ scale: 0.01 });
  await direct.sync();
  await using pooled = await createInProcess({
    scale: 0.01,
    targetUrl: (db) => db.url("isthmus_worker", "local-worker").replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`),
    env: { ISTHMUS_PAGE_SIZE: "50", ISTHMUS_PAGE_SIZE_MAX: "50" },
  });
  await pooled.start();
  // Pages side by side, so that transactions of one page meet different connections of the pool.
  while (pooled.queue.length > 0) await Promise.all(pooled.queue.splice(0, 4).map((message) => pooled.run(message)));
  expect((await pooled.target.admin`select status from public.sync_executions`).map((row) => row["status"] as string)).toEqual([
    "succeeded",
  ]);
  expect(await endState(pooled.target.admin)).toEqual(await endState(direct.target.admin));
  await pooled.sync({ capture: "full" });
});
