import { rmSync } from "node:fs";
import { afterAll, expect, it } from "vitest";
import { createCertificates } from "./support/certificates.ts";
import { createTestTarget, workerUrl } from "./support/databases.ts";
import { connectOnDeno, transactOnDeno } from "./support/deno-connections.ts";
import { scratchFolder } from "./support/scratch.ts";
import { startTransactionPooler } from "./support/transaction-pooler.ts";

const folder = scratchFolder("pooler-tls");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it("the functions' socket, on the hosted runtime's Deno, works over TLS through PgBouncer in transaction mode", async () => {
  await using target = await createTestTarget();
  const certificates = createCertificates(folder);
  const { key, cert } = certificates.sign("IP:127.0.0.1");
  const { ca, otherCa } = certificates;
  const encrypted = { client_tls_sslmode: "require", client_tls_key_file: key, client_tls_cert_file: cert };
  // One server for two connections: they have it by turns, a transaction each.
  await using pooler = await startTransactionPooler({ settings: { ...encrypted, default_pool_size: 1 } });
  const url = pooler.through(workerUrl(target));
  expect(await transactOnDeno("hosted", { url, ca })).toEqual({ whole: true, backends: 1 });

  const port = Number(new URL(url).port);
  const attempt = { host: "127.0.0.1", port, tls: "verify-full" as const };
  expect(await connectOnDeno("hosted", [{ ...attempt, ca: otherCa }])).toEqual(["tls_unknown_authority"]);
  await pooler.restart({ client_tls_sslmode: "disable" });
  expect(await connectOnDeno("hosted", [{ ...attempt, ca }])).toEqual(["tls_not_offered"]);
});
