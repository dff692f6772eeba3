import { describe, expect, it } from "vitest";
import { PAGE_BYTES, RECORD_BYTES } from "../shared/page/page-size.ts";
import { createAsciiSource } from "./support/ascii-source.ts";
import { expectAccounted, limited, officesWith, seedOffices, toItsEnd } from "./support/limits.ts";
import type { Pipeline } from "./support/pipeline.ts";

const NUMBER = officesWith("(o.phone::numeric)::text", "phone");
const city = async (test: Pipeline, id: number) =>
  (await test.target.admin<{ city: string }[]>`select city from public.offices where legacy_office_id = ${id}`)[0]?.city;

async function run(test: Pipeline, count: number, capture: "full" | "auto" | "digest" = "auto") {
  const { execution } = await test.start({ entities: ["offices"], capture });
  const ended = await toItsEnd(test, execution);
  await expectAccounted(test, execution, ended, count);
  return ended;
}

describe("a record that the source cannot compute", () => {
  it("goes to the queue with its SQLSTATE and column, the rest lands, and no later run stumbles over it", async () => {
    await using test = await limited({ entity: NUMBER, env: { ISTHMUS_PAGE_SIZE: "200" } });
    await seedOffices(test, 102);
    await test.source.admin`update public.dispatch_office set phone = '12,5' where id in (41, 77)`;
    const ended = await run(test, 102);
    expect(ended).toMatchObject({ status: "succeeded", queued: [[41, "source_22P02"], [77, "source_22P02"]] }); // prettier-ignore
    expect(ended.landed).toHaveLength(100);
    const [conflict] = await test.target.admin`
      select conflict_type as type, field, remedy, conflict_data as data from public.sync_conflicts where state = 'open' and source_record_id = 41`;
    expect(conflict).toMatchObject({ type: "schema_mismatch", field: "phone", data: { sqlstate: "22P02", column: "phone" } });
    expect(JSON.stringify(conflict)).not.toContain("12,5");

    // One that had landed and breaks, a digest over all of them, and a full pass.
    await test.source.admin`update public.dispatch_office set phone = 'x', city = 'c' where id = 5`;
    const queued = [[5, "source_22P02"], [41, "source_22P02"], [77, "source_22P02"]]; // prettier-ignore
    expect(await run(test, 102)).toMatchObject({ status: "succeeded", queued });
    await test.source.admin`update public.dispatch_office set city = 'd' where id = 6`;
    const digest = await run(test, 102, "digest");
    expect(digest).toMatchObject({ status: "succeeded", queued });
    expect(digest.landed).toHaveLength(100);
    expect(await run(test, 102, "full")).toMatchObject({ status: "succeeded", queued });
    expect(await city(test, 6)).toBe("d");

    // Corrected: found by its change, and by a digest.
    await test.source.admin`update public.dispatch_office set phone = '7' where id in (5, 41)`;
    expect(await run(test, 102)).toMatchObject({ status: "succeeded", queued: [[77, "source_22P02"]] });
    expect(await city(test, 5)).toBe("c");
    await test.source.admin`update public.dispatch_office set phone = '8' where id = 77`;
    expect(await run(test, 102, "digest")).toMatchObject({ status: "succeeded", queued: [] });
    expect((await test.target.admin`select from public.offices`).length).toBe(102);
  });

  it("whose breaking nobody has seen yet does not stop a digest: it is read, and queued", async () => {
    await using test = await limited({ entity: NUMBER });
    await seedOffices(test, 30);
    await test.sync({ entities: ["offices"] });
    await test.source.admin`set session_replication_role = replica`;
    await test.source.admin`update public.dispatch_office set phone = 'x' where id = 9`;
    const { execution } = await test.start({ entities: ["offices"], capture: "digest" });
    const ended = await toItsEnd(test, execution);
    expect(ended).toMatchObject({ status: "succeeded", queued: [[9, "source_22P02"]] });
  });

  it("so many that a read of all would take too long are queued page by page", async () => {
    await using test = await limited({ entity: NUMBER, env: { ISTHMUS_PAGE_SIZE: "200" } });
    await seedOffices(test, 90);
    await test.source.admin`update public.dispatch_office set phone = 'x' where id > 20 and id <= 80`;
    const ended = await run(test, 90);
    expect(ended.status).toBe("succeeded");
    expect(ended.landed).toHaveLength(30);
    expect(ended.queued).toHaveLength(60);
  });

  it.each([
    ["a function of the source raises", "raise exception 'no' using errcode = 'P0001'", "P0001"],
    ["a value is nested too deeply", "perform (repeat('[', 200000) || repeat(']', 200000))::json", "54001"],
  ])("%s", async (_, body, sqlstate) => {
    await using test = await limited({ entity: officesWith("public.of_test(o.id::integer)") });
    await test.source.admin.unsafe(`create function public.of_test(id integer) returns text language plpgsql stable as $$
      begin if id = 3 then ${body}; end if; return 'x'; end $$`);
    await seedOffices(test, 12);
    expect(await run(test, 12)).toMatchObject({ status: "succeeded", queued: [[3, `source_${sqlstate}`]] });
  });
});

describe("a source without an encoding", () => {
  it("a record with bytes that are no text goes to the queue, the rest lands, under digest and totals too, and lands when it is mended", async () => {
    await using ascii = await createAsciiSource();
    await using test = await limited({ env: { SOURCE_DB_URL: ascii.readerUrl } });
    const { admin } = ascii;
    await admin`insert into public.dispatch_office (id, name, city, valid, emails, tax_rate) select id, 'office', 'Z\u00fcrich', true, true, 1.5 from generate_series(1, 12) id`;
    const bad = (where: string) => admin.unsafe(`update public.dispatch_office set city = E'Z\\xfcrich' where ${where}`);
    await bad("id = 7");
    const queued = [[7, "source_22021"]];
    const first = await run(test, 12, "full");
    expect(first).toMatchObject({ status: "succeeded", queued });
    expect(first.landed).toHaveLength(11);
    expect(await city(test, 6)).toBe("Z\u00fcrich");
    const [conflict] = await test.target
      .admin`select field, remedy, conflict_data as data from public.sync_conflicts where state = 'open'`;
    expect(conflict).toMatchObject({ field: "city", data: { sqlstate: "22021", column: "city" } });

    expect(await run(test, 12, "digest")).toMatchObject({ status: "succeeded", queued });
    // One that had landed; found by its change, and by a digest that nothing else told.
    await bad("id = 3");
    const both = [[3, "source_22021"], ...queued];
    expect(await run(test, 12)).toMatchObject({ status: "succeeded", queued: both });
    await admin`set session_replication_role = replica`;
    await bad("id = 11");
    await admin`update public.dispatch_office set city = 'Basel' where id = 2`;
    expect(await run(test, 12, "digest")).toMatchObject({ status: "succeeded", queued: [...both, [11, "source_22021"]] });
    expect(await city(test, 2)).toBe("Basel");
    await admin`update public.dispatch_office set city = 'Bern' where id in (3, 7, 11)`;
    expect(await run(test, 12, "digest")).toMatchObject({ status: "succeeded", queued: [] });
    expect(await test.target.admin`select from public.offices where city = 'Bern'`).toHaveLength(3);
  });
});

describe("the bytes of a page", () => {
  it("are bounded before they are read: large records land few at a time, and one that is too large alone is queued", async () => {
    const large = Math.floor(PAGE_BYTES / 2.5);
    const entity = officesWith(
      `case when o.id = 5 then repeat('x', ${RECORD_BYTES + 1}) when o.id in (6, 7, 8) then repeat('x', ${large}) else 'x' end`,
    );
    await using test = await limited({ entity });
    await seedOffices(test, 12);
    await test.target.admin`alter table public.offices alter column address type text`;
    const ended = await run(test, 12);
    expect(ended).toMatchObject({ status: "succeeded", queued: [[5, "record_too_large"]] });
    expect(ended.landed).toHaveLength(11);
    const [conflict] = await test.target.admin<{ data: Record<string, number> }[]>`
      select conflict_data as data from public.sync_conflicts where state = 'open'`;
    expect(conflict?.data["bytes"]).toBeGreaterThan(RECORD_BYTES);
    expect(conflict?.data["most_bytes"]).toBe(RECORD_BYTES);
    const [sizes] = await test.target.admin<{ most: number }[]>`select max(length(address)) as most from public.offices`;
    expect(sizes?.most).toBe(large);
  });
});

describe("a statement that the source refuses because a name is gone", () => {
  it("is told with the entity and the name, and without a value of a row", async () => {
    await using test = await limited({ entity: NUMBER });
    await seedOffices(test, 3);
    const { execution } = await test.start({ entities: ["offices"] });
    await test.source.admin`alter table public.dispatch_office rename column phone to telephone`;
    await test.drain();
    const { status, errors } = await test.status(execution);
    expect(status).toBe("failed");
    expect(errors).toMatchObject([
      {
        code: "SOURCE_REFUSED",
        entity: "offices",
        sqlstate: "42703",
        at: "o.phone",
        message: "The source refused a statement (SQLSTATE 42703 at o.phone).",
      },
    ]);
  });
});
