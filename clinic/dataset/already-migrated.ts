import { makeClinic } from "./clinic.ts";
import { openConnection } from "./connect.ts";
import { makeContentTypes } from "./content-types.ts";
import { copyTable } from "./copy.ts";
import { migrateMoney } from "./migrated-money.ts";
import { migratePeople } from "./migrated-people.ts";
import type { MigratedRows } from "./migrated-rows.ts";

/**
 * What the migration did to the target's constraints to get through: duplicates need legacy ids that may repeat or be
 * missing, a profile's id in place of a doctor's needs the foreign key gone, and nobody made an index again for
 * payments.
 */
const CONSTRAINTS_LOST = `
  alter table public.offices alter column legacy_office_id drop not null;
  alter table public.orders drop constraint orders_doctor_id_fkey;
  alter table public.payments drop constraint payments_legacy_payment_id_key;
  alter table public.payments alter column legacy_payment_id drop not null;
  alter table public.operations drop constraint operations_legacy_operation_id_key;
  create index on public.operations (legacy_operation_id);`;

export interface MigrateOptions {
  /** The target, as the owner of the application's tables. */
  readonly url: string;
  readonly seed?: number;
  /** The scale of the legacy database that is synced into it. */
  readonly scale: number;
}

/**
 * Fills a target as a real one-off migration did (clinic/domain.md, "A target that was migrated before"): random ids,
 * rows imported two and three times, references to the wrong kind of row, arbitrary parents, records filtered out,
 * lossy text. @returns what it wrote, table by table.
 */
export async function migrateBadly({ url, seed = 1, scale }: MigrateOptions): Promise<readonly MigratedRows[]> {
  const clinic = makeClinic(seed, scale, makeContentTypes(seed));
  const people = migratePeople(clinic, seed);
  const all = [...people.tables, ...migrateMoney(clinic, seed, people)];
  const sql = openConnection(url);
  try {
    await sql.unsafe(CONSTRAINTS_LOST);
    for (const made of all) await copyTable(sql, made);
    await sql.unsafe("analyze");
  } finally {
    await sql.end();
  }
  return all;
}
