import { expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
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

it("a page of an entity that the old functions do not have is given back until the new ones take it", async () => {
  await using test = await createPipeline();
  await test.seed.office(1);
  await test.start({ entities: ["offices"] });
  await test.runJoins();
  const entities = new Map(test.context.entities);
  entities.delete("offices");
  const message = test.queue.shift();
  if (!message) throw new Error("no page");
  expect(await test.run(message, { ...test.context, entities })).toMatchObject({
    outcome: "failed",
    error: { code: "DEPLOYMENT_BEHIND" },
    retrySeconds: 1,
  });
  expect((await test.run(message)).outcome).toBe("committed");
  await test.drain();
  expect((await test.target.admin`select status from public.sync_executions`)[0]).toEqual({ status: "succeeded" });
});

it("when no new functions come, the page stops, and says that they are to be deployed", async () => {
  await using test = await createPipeline({ env: { ISTHMUS_PAGE_TRIES: "3" } });
  await test.seed.office(1);
  await test.start({ entities: ["offices"] });
  await test.runJoins();
  const entities = new Map(test.context.entities);
  entities.delete("offices");
  const message = test.queue.shift();
  if (!message) throw new Error("no page");
  for (let tries = 0; tries < 3; tries++) await test.run(message, { ...test.context, entities });
  await tick(test.context);
  const [ended] = await test.target.admin<
    { status: string; errors: { cause?: { code: string }; remedy: string }[] }[]
  >`select status, errors from public.sync_executions`;
  expect(ended).toMatchObject({
    status: "failed",
    errors: [{ code: "PAGE_STALLED", entity: "offices", cause: { code: "DEPLOYMENT_BEHIND" } }],
  });
  expect(ended?.errors[0]?.remedy).toContain("deploy all functions of one version");
});
