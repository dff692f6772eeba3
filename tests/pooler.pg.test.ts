import { expect, it } from "vitest";
import { endState } from "./support/digest.ts";
import { createInProcess } from "./support/in-process.ts";
import { startTransactionPooler } from "./support/transaction-pooler.ts";

it("a sync through a pooler in transaction mode ends as one over direct connections", async () => {
  await using pooler = await startTransactionPooler();
  await using direct = await createInProcess({ scale: 0.01 });
  await direct.sync();
  await using pooled = await createInProcess({
    scale: 0.01,
    targetUrl: (db) => pooler.through(db.url("isthmus_worker", "local-worker")),
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
