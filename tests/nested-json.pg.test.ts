import { describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { createStranger, ENTITY } from "./support/stranger.ts";

/** Deeper than either server's stack, as short as it can be. */
const DEEP = 200_000;

const documents = (type: string) =>
  createStranger({ source: "old", target: "fresh", columns: { doc: { type, sourceType: "text" } }, computed: true });

describe("a record whose JSON is nested too deeply goes to the queue alone", () => {
  it.each([
    ["jsonb", "54001"],
    ["json", "54001"],
  ])("where the target's %s cannot hold it", async (type, state) => {
    await using test = await documents(type);
    await test.source.admin`
      insert into public.old select i, case i when 3 then repeat('[', ${DEEP}::integer) || repeat(']', ${DEEP}::integer) else '{"n": [' || i || ']}' end
        from generate_series(1, 20) i`;
    await test.sync();
    expect((await test.target.admin`select from public.fresh`).length).toBe(19);
    const [queued, ...more] = await test.live(ENTITY);
    expect(more).toEqual([]);
    expect(queued).toMatchObject({ id: 3, state: "open", type: "schema_mismatch", rule: state, field: "doc" });
    expect(queued?.remedy).toMatch(/^A value is nested too deeply for the target: correct it in the source/);
    await test.source.admin`update public.old set doc = '[3]' where id = 3`;
    await test.sync();
    expect(await test.live(ENTITY)).toEqual([]);
  });

  it("where the source cannot read it", async () => {
    await using test = await documents("text");
    const entity = test.context.entities.get(ENTITY);
    if (!entity) throw new Error("no such entity");
    const columns = { c0: { type: "text", sql: "((s.doc::json) ->> 'n')" } };
    const read = { ...entity, source: { ...entity.source, columns } } as unknown as Entity;
    const context = { ...test.context, entities: new Map([[ENTITY, read]]) };
    await test.source.admin`
      insert into public.old select i, case i when 3 then repeat('[', ${DEEP}::integer) || repeat(']', ${DEEP}::integer) else '{"n": ' || i || '}' end
        from generate_series(1, 20) i`;
    await test.start({}, context);
    for (let message = test.queue.shift(); message; message = test.queue.shift()) await test.run(message, context);
    expect((await test.target.admin`select from public.fresh`).length).toBe(19);
    expect(await test.live(ENTITY)).toMatchObject([{ id: 3, rule: "source_54001", field: "doc" }]);
  });
});
