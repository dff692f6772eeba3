import { describe, expect, it } from "vitest";
import { createTurns } from "../shared/page/turns.ts";

describe("turns", () => {
  /** Work that ends when told. */
  const work = () => {
    let end: (value: string) => void = () => undefined;
    const done = new Promise<string>((ended) => (end = ended));
    return { end, run: () => done };
  };
  const settle = () => new Promise((next) => setTimeout(next, 0));

  it("run so many at a time, and the next in the order in which they came", async () => {
    const turns = createTurns(2, 10_000);
    const began: number[] = [];
    const works = [0, 1, 2, 3].map(work);
    const results = works.map(({ run }, n) =>
      turns.take(() => {
        began.push(n);
        return run();
      }),
    );
    await settle();
    expect(began).toEqual([0, 1]);
    works[1]?.end("second");
    await settle();
    expect(began).toEqual([0, 1, 2]);
    works[0]?.end("first");
    await settle();
    expect(began).toEqual([0, 1, 2, 3]);
    works[2]?.end("third");
    works[3]?.end("fourth");
    expect(await Promise.all(results)).toEqual(["first", "second", "third", "fourth"]);
    expect(await turns.take(() => Promise.resolve("free again"))).toBe("free again");
  });

  it("are given up after a while, and not taken from who comes later", async () => {
    const turns = createTurns(1, 20);
    const held = work();
    const first = turns.take(held.run);
    expect(await turns.take(() => Promise.resolve("too late"))).toBeUndefined();
    held.end("done");
    expect(await first).toBe("done");
    expect(await turns.take(() => Promise.resolve("free"))).toBe("free");
  });

  it("pass on after a failure", async () => {
    const turns = createTurns(1, 10_000);
    const held = work();
    const failing = turns.take(() => held.run().then(() => Promise.reject(new Error("failed"))));
    const next = turns.take(() => Promise.resolve("next"));
    held.end("");
    await expect(failing).rejects.toThrow("failed");
    expect(await next).toBe("next");
  });
});
