import { expect, it } from "vitest";
import { createPipeline } from "./support/pipeline.ts";

it("a page that ran under another entity definition than its execution was planned with has the entity read again in full", async () => {
  await using test = await createPipeline();
  await test.seed.office(1);
  await test.seed.office(2);
  await test.start({ entities: ["offices"] });
  // The functions are deployed one after the other: this page's still has the old entity file.
  const old = { ...test.context, hashes: new Map(test.context.hashes).set("offices", "the old definition") };
  while (test.queue.length > 0) {
    const message = test.queue.shift();
    if (message) await test.run(message, old);
  }
  expect((await test.sync({ entities: ["offices"] })).chains).toMatchObject([{ entity: "offices", capture: "full" }]);
  expect((await test.sync({ entities: ["offices"] })).chains).toEqual([]);
});
