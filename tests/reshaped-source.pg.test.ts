import { expect, it } from "vitest";
import { defineEntity, type Entity } from "../shared/entity/define-entity.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Orders with the city of their customer, by way of a join that customers move within. */
const orders = (defineEntity as unknown as (spec: object) => Entity)({
  name: "shop_orders",
  target: { table: "shop_orders", legacyKey: "legacy_id" },
  source: {
    table: "shop_order",
    key: "id",
    alias: "o",
    joins: { c: { table: "shop_customer", on: { seat: "o.seat" } } },
    columns: { label: "o.label", city: "c.city" },
    ignored: {},
  },
  fields: ({ copy }: { copy: (column: string) => unknown }) => ({ label: copy("label"), city: copy("city") }),
});

/** Orders 1 and 2 stand at the seats 10 and 20; customers Ada and Bo sit there. */
async function landed(): Promise<Pipeline> {
  const test = await createPipeline({ entities: [orders] });
  await test.source.admin.unsafe(`
    create table public.shop_customer (id bigint primary key, seat bigint unique, city text);
    create table public.shop_order (id bigint primary key, seat bigint, label text, remark text);
    create index on public.shop_order (seat);
    grant select on public.shop_customer, public.shop_order to isthmus_reader;
    insert into public.shop_customer values (1, 10, 'Aarau'), (2, 20, 'Bern');
    insert into public.shop_order values (1, 10, 'one'), (2, 20, 'two'), (3, 30, 'three')`);
  await test.target.admin.unsafe(`
    create table public.shop_orders (id uuid primary key, legacy_id bigint not null unique, label text, city text);
    alter table public.shop_orders owner to postgres`);
  await test.target.admin.unsafe(workerGrants([orders]));
  await test.sync();
  return test;
}

const cities = async (test: Pipeline) =>
  (await test.target.admin`select city from public.shop_orders order by legacy_id`.values()).map(
    ([city]) => city as string | null,
  );
const told = ({ warnings }: { readonly warnings: readonly { readonly code: string }[] }) =>
  warnings.filter(({ code }) => code === "source_reshaped").length;

it("DDL on a table that is only joined is found, and the next run has nothing to do", async () => {
  await using test = await landed();
  await test.source.admin.unsafe("alter table public.shop_customer drop column city");
  await test.source.admin.unsafe("alter table public.shop_customer add column city text default 'Chur'");
  await test.source.admin.unsafe("grant select on public.shop_customer to isthmus_reader");
  expect(told(await test.sync())).toBe(1);
  expect(await cities(test)).toEqual(["Chur", "Chur", null]);
  expect((await test.sync()).chains).toEqual([]);
});

it("what is noted of joined rows is noted anew: one that moved by DDL has its old records read again when it moves on", async () => {
  await using test = await landed();
  // By a change of the tables alone, Ada moves from order 1 to order 3.
  await test.source.admin.unsafe(`
    create table public.moved (like public.shop_customer including all);
    insert into public.moved values (1, 30, 'Aarau'), (2, 20, 'Bern');
    alter table public.shop_customer rename to former;
    alter table public.moved rename to shop_customer;
    grant select on public.shop_customer to isthmus_reader`);
  await test.sync();
  expect(await cities(test)).toEqual([null, "Bern", "Aarau"]);
  await test.source.admin`update public.shop_customer set seat = 10 where id = 1`;
  await test.sync();
  expect(await cities(test)).toEqual(["Aarau", "Bern", null]);
});

it("DDL on columns that no entity reads costs no comparison", async () => {
  await using test = await landed();
  await test.source.admin.unsafe("alter table public.shop_order drop column remark");
  await test.source.admin.unsafe("alter table public.shop_order add column remark text");
  const begun = await test.sync();
  expect([told(begun), begun.chains]).toEqual([0, []]);
});

it("what was not compared, because the execution failed, is compared by the next one", async () => {
  await using test = await landed();
  await test.source.admin.unsafe("update public.shop_customer set city = city");
  await test.source.admin.unsafe("alter table public.shop_order drop column label");
  await test.source.admin.unsafe("alter table public.shop_order add column label text");
  await test.source.admin.unsafe("grant select on public.shop_order to isthmus_reader");
  const begun = await test.start();
  await test.target.admin`update public.sync_executions set status = 'cancelled' where id = ${begun.execution}`;
  await test.drain();
  expect(told(await test.sync())).toBe(1);
  expect((await test.target.admin`select label from public.shop_orders`.values()).map(([label]) => label as unknown)).toEqual([
    null,
    null,
    null,
  ]);
});

it("what changes while an execution runs is compared by the next one", async () => {
  await using test = await landed();
  await test.source.admin.unsafe("alter table public.shop_order drop column label");
  await test.source.admin.unsafe("alter table public.shop_order add column label text default 'first'");
  await test.source.admin.unsafe("grant select on public.shop_order to isthmus_reader");
  await test.start();
  await test.runOne();
  await test.source.admin.unsafe("vacuum full public.shop_order");
  await test.drain();
  expect(told(await test.sync())).toBe(1);
  expect(told(await test.sync())).toBe(0);
});

it("of a dry run nothing is kept: the run still compares", async () => {
  await using test = await landed();
  await test.source.admin.unsafe("alter table public.shop_customer drop column city");
  await test.source.admin.unsafe("alter table public.shop_customer add column city text");
  await test.source.admin.unsafe("grant select on public.shop_customer to isthmus_reader");
  expect(told(await test.sync({ dryRun: true }))).toBe(1);
  expect(told(await test.sync())).toBe(1);
  expect(await cities(test)).toEqual([null, null, null]);
});
