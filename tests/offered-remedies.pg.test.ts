import { describe, expect, it } from "vitest";
import type { Conflicts, Entity } from "../shared/entity/define-entity.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { bothChange, clinic, only, openOf, rowOf, studio } from "./support/studio.ts";

/** What a remedy of the queue offers for record 1, in its own words; what a person does then, and what the target row holds after that. */
interface Offer {
  readonly words: string;
  readonly act: (test: Pipeline) => Promise<unknown>;
  /** The amount of record 1 in the target; undefined: there is no row. */
  readonly amount: string | undefined;
}
interface Case {
  readonly type: string;
  readonly rule: string;
  readonly arise: (test: Pipeline) => Promise<unknown>;
  readonly capture?: "digest";
  readonly conflicts?: Conflicts;
  readonly more?: Partial<Entity>;
  readonly offers: readonly Offer[];
}

const source = (statement: string) => (test: Pipeline) => test.source.admin.unsafe(statement);
const target = (statement: string) => (test: Pipeline) => test.target.admin.unsafe(statement);
const both =
  (first: (test: Pipeline) => Promise<unknown>, second: (test: Pipeline) => Promise<unknown>) => async (test: Pipeline) => {
    await first(test);
    await second(test);
  };
/** The one cell that a person changes in Studio. */
const decide = (strategy: string, data?: object) => async (test: Pipeline) => {
  const { id } = await openOf(test, 1);
  const merged = data ? `, resolution_data = '${JSON.stringify(data)}'` : "";
  await studio(test, `update public.sync_conflicts set resolution_strategy = '${strategy}'${merged} where id = '${id}'`);
};
const price = (value: number | string, more = "") =>
  source(`update public.dispatch_operation set price = ${value}${more} where id = 1`);
const kept = { words: "target_wins", act: decide("target_wins"), amount: "1.00" };

const CASES: readonly Case[] = [
  {
    type: "concurrent_modification",
    rule: "both_changed",
    arise: (test) => bothChange(test, 1),
    offers: [
      { words: "source_wins: the old application's value is written.", act: decide("source_wins"), amount: "1001.00" },
      { words: "target_wins: the row stays as it is.", act: decide("target_wins"), amount: "2001.00" },
      {
        words: "merge: the values in resolution_data are written.",
        act: decide("merge", { amount: 1500, card_brand: "merged" }),
        amount: "1500.00",
      },
    ],
  },
  {
    type: "concurrent_modification",
    rule: "target_deleted",
    arise: both(target("delete from public.operations where legacy_operation_id = 1"), price(5)),
    offers: [
      { words: "source_wins: it is written again.", act: decide("source_wins"), amount: "5.00" },
      { words: "target_wins: it stays away.", act: decide("target_wins"), amount: undefined },
    ],
  },
  {
    type: "business_rule_violation",
    rule: "deleted_in_source",
    capture: "digest",
    arise: source("delete from public.dispatch_operation where id = 1"),
    offers: [
      { words: "source_wins: its target row is deleted too.", act: decide("source_wins"), amount: undefined },
      { words: "target_wins: the row stays.", act: decide("target_wins"), amount: "1.00" },
    ],
  },
  {
    type: "concurrent_modification",
    rule: "left_edited",
    capture: "digest",
    more: { onDelete: "hard" },
    arise: both(
      target("update public.operations set amount = 9 where legacy_operation_id = 1"),
      source("delete from public.dispatch_operation where id = 1"),
    ),
    offers: [
      {
        words: "source_wins: it is deleted all the same, and what it held is kept.",
        act: decide("source_wins"),
        amount: undefined,
      },
      { words: "target_wins: it stays.", act: decide("target_wins"), amount: "9.00" },
    ],
  },
  {
    type: "business_rule_violation",
    rule: "operations.type.known_code@1",
    arise: source("update public.dispatch_operation set type = 99, price = 5 where id = 1"),
    offers: [
      { words: "correct it in the source", act: price(5, ", type = 2"), amount: "5.00" },
      { ...kept, words: "" },
    ],
  },
  {
    type: "business_rule_violation",
    rule: "small",
    arise: both(target("alter table public.operations add constraint small check (amount < 5000)"), price(6000)),
    offers: [
      { words: "correct it in the source", act: price(60), amount: "60.00" },
      {
        words: "or change the constraint.",
        act: target("alter table public.operations drop constraint small"),
        amount: "6000.00",
      },
      { ...kept, words: "" },
    ],
  },
  {
    type: "business_rule_violation",
    rule: "write_cancelled",
    arise: both(
      target(`create function public.cancel() returns trigger language plpgsql as 'begin if new.amount > 5000 then return null; end if; return new; end';
              create trigger cancel before update on public.operations for each row execute function public.cancel()`),
      price(6000),
    ),
    offers: [
      { words: "correct the record in the source", act: price(60), amount: "60.00" },
      { words: "or change the trigger.", act: target("drop trigger cancel on public.operations"), amount: "6000.00" },
      { ...kept, words: "" },
    ],
  },
  {
    type: "business_rule_violation",
    rule: "P0001",
    arise: both(
      target(`create function public.refuse() returns trigger language plpgsql as 'begin if new.amount > 5000 then raise ''no''; end if; return new; end';
              create trigger refuse before update on public.operations for each row execute function public.refuse()`),
      price(6000),
    ),
    offers: [
      { words: "correct it in the source", act: price(60), amount: "60.00" },
      { words: "or change the trigger.", act: target("drop trigger refuse on public.operations"), amount: "6000.00" },
    ],
  },
  {
    type: "business_rule_violation",
    rule: "one_brand",
    arise: async (test) => {
      await test.source.admin`update public.dispatch_operation set card_brand = 'B' || id`;
      await test.sync(only);
      await test.target.admin`create unique index one_brand on public.operations (card_brand)`;
      await price(5, ", card_brand = 'B2'")(test);
    },
    offers: [
      { words: "correct one of the two.", act: price(5, ", card_brand = 'OTHER'"), amount: "5.00" },
      {
        words: "Record 2 holds the same unique value",
        act: source("update public.dispatch_operation set card_brand = 'OTHER' where id = 2"),
        amount: "5.00",
      },
    ],
  },
  {
    type: "schema_mismatch",
    rule: "22001",
    arise: both(
      target("alter table public.operations alter card_brand type varchar(6)"),
      price(5, ", card_brand = 'MASTERCARD'"),
    ),
    offers: [
      { words: "correct it in the source", act: price(5, ", card_brand = 'SHORT'"), amount: "5.00" },
      { words: "widen the column", act: target("alter table public.operations alter card_brand type text"), amount: "5.00" },
    ],
  },
];

describe("what a remedy of the queue offers, done in its words, closes the conflict", () => {
  it.each(
    CASES.flatMap(({ offers, ...one }) =>
      offers.map((offer, n) => ({ ...one, ...offer, title: offer.words || "target_wins", n })),
    ),
  )("$rule: $title", async ({ type, rule, arise, capture, conflicts, more, words, act, amount }) => {
    await using test = await clinic(3, conflicts, more);
    await arise(test);
    await test.sync({ ...only, ...(capture ? { capture } : {}) });
    const [told, ...others] = await test.live("operations");
    expect(others).toEqual([]);
    expect(told).toMatchObject({ id: 1, state: "open", type, rule });
    expect(told?.remedy).toContain(words);

    await act(test);
    // What a decision has not done, the next run does, or the tick, when the record is due.
    await test.sync(only);
    await test.target
      .admin`update public.sync_conflicts set next_attempt_at = now() where state = 'open' and next_attempt_at is not null`;
    await tick(test.context);
    await test.drain();
    expect(await test.live("operations")).toEqual([]);
    expect((await rowOf(test, 1))?.amount).toBe(amount);
    // A comparison of both sides finds nothing to ask again, and nothing to change.
    const { execution } = await test.sync({ ...only, capture: "digest" });
    expect((await test.status(execution)).status).toBe("succeeded");
    expect(await test.live("operations")).toEqual([]);
    expect((await rowOf(test, 1))?.amount).toBe(amount);
  });
});
