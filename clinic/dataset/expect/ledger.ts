import { IdSet } from "../id-set.ts";
import type { EntityExpectation, Exception, Trouble } from "../manifest.ts";
import { cents, money } from "../values.ts";

/** What becomes of an entity's records, said once more from clinic/domain.md. */
export interface Rules<Row> {
  readonly id: (row: Row) => number;
  /** Rows that are not transferred, under the predicate's name. */
  readonly predicate?: { readonly rule: string; readonly holds: (row: Row) => boolean };
  /** The record's own trouble, with the field. */
  readonly trouble?: (row: Row) => readonly [field: string, trouble: Trouble] | null;
  /** References in the order of the target's columns: a record waits for the first that has not landed. */
  readonly parents?: readonly Parent<Row>[];
  /** Whether the target's checks take it. They never see a record that waits. */
  readonly check?: (row: Row) => boolean;
  readonly amounts?: Readonly<Record<string, (row: Row) => string | null>>;
  readonly golden?: readonly Kind<Row>[];
}

export type Parent<Row> = readonly [field: string, parent: string, id: (row: Row) => number | null];

/** A kind of dirt that lands, and what must then stand in the target. */
export type Kind<Row> = readonly [is: (row: Row) => boolean, values: (row: Row) => Record<string, string | null>];

interface Account {
  eligible: number;
  landed: number;
  waived: { rule: string; count: number } | null;
  readonly ids: IdSet;
  readonly exceptions: Exception[];
  readonly money: Record<string, bigint>;
  readonly golden: Record<string, Record<string, string | null>>;
}

/** Judges records one by one, parents before their children. Of a record that lands only its id is remembered, as a bit. */
export class Ledger {
  readonly #accounts = new Map<string, Account>();

  has(entity: string, id: number): boolean {
    return this.#accounts.get(entity)?.ids.has(id) ?? false;
  }

  judgeAll<Row>(entity: string, rows: readonly Row[], rules: Rules<Row>): void {
    const judge = this.open(entity, rules);
    for (const row of rows) judge(row);
  }

  /** The judge of an entity's records. */
  open<Row>(entity: string, rules: Rules<Row>): (row: Row) => void {
    const { predicate, amounts = {} } = rules;
    const account: Account = {
      eligible: 0,
      landed: 0,
      waived: predicate ? { rule: predicate.rule, count: 0 } : null,
      ids: new IdSet(),
      exceptions: [],
      money: Object.fromEntries(Object.keys(amounts).map((column) => [column, 0n])),
      golden: {},
    };
    this.#accounts.set(entity, account);
    const sought = [...(rules.golden ?? [])];
    return (row) => {
      if (account.waived && predicate?.holds(row) === false) {
        account.waived.count += 1;
        return;
      }
      account.eligible += 1;
      const exception = this.#judge(entity, row, rules);
      if (exception) {
        account.exceptions.push(exception);
        return;
      }
      account.landed += 1;
      account.ids.add(rules.id(row));
      for (const [column, amount] of Object.entries(amounts)) {
        const text = amount(row);
        if (text !== null) account.money[column] = (account.money[column] ?? 0n) + cents(text);
      }
      remember(account, sought, row, rules.id(row));
    };
  }

  result(): Record<string, EntityExpectation> {
    const entries = [...this.#accounts].map(([entity, { ids: _, money: sums, ...account }]) => {
      const texts = Object.fromEntries(Object.entries(sums).map(([column, sum]) => [column, money(sum)]));
      return [entity, { ...account, money: texts }] as const;
    });
    return Object.fromEntries(entries);
  }

  /** Its own trouble first, then its parents, then the target's checks. */
  #judge<Row>(entity: string, row: Row, { id, trouble, parents, check }: Rules<Row>): Exception | undefined {
    const own = trouble?.(row) ?? null;
    if (own !== null) {
      const type = own[1] === "reference_missing" ? "foreign_key_violation" : "business_rule_violation";
      return { entity, legacyId: id(row), outcome: "open", type, field: own[0], reason: own[1] };
    }
    for (const [field, parent, of] of parents ?? []) {
      const parentId = of(row);
      if (parentId === null || this.has(parent, parentId)) continue;
      const waiting = { outcome: "waiting", type: "foreign_key_violation", reason: "parent_missing" } as const;
      return { entity, legacyId: id(row), ...waiting, field, parent, parentId };
    }
    if (check?.(row) !== false) return undefined;
    return { entity, legacyId: id(row), outcome: "open", type: "business_rule_violation", field: null, reason: "check" };
  }
}

/** The first record of each kind is golden; then the kind is no longer sought. */
function remember<Row>(account: Account, sought: Kind<Row>[], row: Row, id: number): void {
  for (let index = sought.length - 1; index >= 0; index--) {
    const kind = sought[index];
    if (!kind?.[0](row)) continue;
    account.golden[id] = { ...account.golden[id], ...kind[1](row) };
    sought.splice(index, 1);
  }
}
