import type { Sql } from "postgres";
import { expect } from "vitest";
import { say } from "../verifier/finding.ts";
import type { Shapes } from "../verifier/catalog.ts";
import { ident, keyOf, quote, tableOf, type Recomputed } from "../verifier/recompute.ts";
import { verify } from "../verifier/verify.ts";

/**
 * What somebody breaks in the target, as statements, and what the verifier says then. In both, ID stands for the
 * legacy id of a record with which nothing was wrong; in what is said, ALL stands for each record that has landed.
 */
export interface Sabotage {
  readonly breaks: readonly string[];
  readonly says: readonly string[];
}

/** Who breaks something, in words of SQL about the record ID of an entity. */
export interface Hands {
  /** A person writes the row. */
  readonly edit: (set: string) => string;
  /** The sync writes the row, and remembers what it wrote. */
  readonly forge: (set: string, ...columns: string[]) => string;
  /** Its mapping or row state. */
  readonly mapping: string;
  readonly state: string;
  /** An entry of the queue: a state, a rule and the fields that it is about. */
  readonly queue: (
    state: "open" | "waiting",
    rule: string,
    fields: readonly string[],
    more?: Readonly<Record<string, string>>,
  ) => string;
  readonly warn: (field: string) => string;
}

export function handsOf(definition: Recomputed): Hands {
  const { entity } = definition;
  const table = tableOf(definition);
  const row = `${ident(keyOf(definition))} = ID`;
  const id = `(select id from public.sync_entities where entity_type = ${quote(entity)})`;
  return {
    edit: (set) => `update ${table} t set ${set} where ${row}`,
    forge: (set, ...columns) => `
      with written as (update ${table} t set ${set} where ${row} returning t.*)
      update public.sync_row_states s set written_by = pg_current_xact_id()::xid,
             "left" = s."left" || (select coalesce(jsonb_object_agg(f.key, f.value), '{}') from written w cross join lateral jsonb_each(to_jsonb(w)) f
                                    where f.key = any (array[${columns.map(quote).join(", ")}]::text[]))
       where s.entity_id = ${id} and s.legacy_id = ID`,
    mapping: `public.uuid_mappings_enhanced where entity_type = ${quote(entity)} and legacy_id = ID`,
    state: `public.sync_row_states where entity_id = ${id} and legacy_id = ID`,
    queue: (state, rule, fields, more = {}) => {
      const columns = Object.keys(more)
        .map((name) => `, ${name}`)
        .join("");
      return `insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, remedy, rule, source_table, target_table, entity_id, differences${columns})
        values (${quote(state)}, ${quote(entity)}, ID, 'concurrent_modification', 'none', ${quote(rule)}, 'x', 'x', ${id},
                ${quote(JSON.stringify(Object.fromEntries(fields.map((field) => [field, {}]))))}${Object.values(more)
                  .map((value) => `, ${value}`)
                  .join("")})`;
    },
    warn: (field) =>
      `insert into public.sync_warnings (entity_id, legacy_id, rule) values (${id}, ID, ${quote(`written_otherwise: ${field}`)})`,
  };
}

/** The first record that has landed and of which nobody says anything. */
export async function victimOf(target: Sql, { entity }: Recomputed): Promise<string> {
  const [row] = await target<{ id: string }[]>`
    select s.legacy_id::text as id from public.sync_row_states s join public.sync_entities e on e.id = s.entity_id
     where e.entity_type = ${entity} and s.gone_at is null
       and not exists (select from public.sync_conflicts c where c.entity_id = e.id and c.source_record_id = s.legacy_id)
       and not exists (select from public.sync_warnings w where w.entity_id = e.id and w.legacy_id = s.legacy_id)
     order by s.legacy_id limit 1`;
  if (!row) throw new Error(`${entity} has no record to break`);
  return row.id;
}

/** Breaks something, asks the verifier, and undoes it: it says this, beside what it said before, and nothing else. */
export async function expectSeen(
  source: Sql,
  target: Sql,
  definition: Recomputed,
  { breaks, says }: Sabotage,
  before?: Shapes,
): Promise<void> {
  const id = await victimOf(target, definition);
  const known = (await verify(source, target, definition)).findings.map(say);
  const landed = await target<{ id: string }[]>`
    select legacy_id::text as id from public.uuid_mappings_enhanced where entity_type = ${definition.entity} and sync_status <> 'deleted'`;
  const expected = says.flatMap((one) =>
    one.includes("ALL") ? landed.map((row) => one.replace("ALL", row.id)) : [one.replaceAll(/\bID\b/g, id)],
  );
  const undone = new Error("undone");
  await target
    .begin(async (tx) => {
      for (const statement of breaks) {
        // What is remembered of a record nobody but the sync writes.
        const forced = statement.includes("update public.sync_row_states");
        if (forced) await tx.unsafe("set local session_replication_role = replica");
        await tx.unsafe(statement.replaceAll(/\bID\b/g, id));
        if (forced) await tx.unsafe("set local session_replication_role = origin");
      }
      const { findings } = await verify(source, tx as unknown as Sql, definition, before);
      const seen = findings.map(say);
      expect(seen.filter((one) => !known.includes(one)).sort()).toEqual(expected.sort());
      throw undone;
    })
    .catch((error: unknown) => {
      if (error !== undone) throw error;
    });
}
