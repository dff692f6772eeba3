import { createWriteStream, existsSync, renameSync, rmSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import type postgres from "postgres";
import { Problem } from "../problem.ts";
import { withoutLimits } from "./limits.ts";

/** Whether anything of ours is in the database. */
export async function isInstalled(owner: postgres.Sql): Promise<boolean> {
  const [row] = await owner<{ installed: boolean }[]>`
    select to_regclass('public.uuid_mappings_enhanced') is not null and to_regprocedure('sync.own_tables()') is not null as installed`;
  return row?.installed === true;
}

/** Where the mappings stand until the drop is committed. Once nothing of ours is installed, the file is whole. */
export const draftOf = (path: string): string => `${path}.part`;

/**
 * Writes the mappings to a file, and drops all that is ours, in one transaction: nothing is mapped in between. The
 * file gets its name when the transaction is committed: one that was not leaves a draft, beside which the next try
 * writes its own. @throws Problem as dropAll.
 */
export async function saveAndDrop(owner: postgres.Sql, path: string): Promise<void> {
  // Whether an earlier draft is the only copy nobody knows here: it stays.
  if (existsSync(draftOf(path))) renameSync(draftOf(path), `${draftOf(path)}.${new Date().toISOString().replaceAll(":", "")}`);
  try {
    await owner.begin(async (tx) => {
      // Of many mappings a copy takes longer than a hosted project lets a statement take.
      await withoutLimits(tx);
      await tx`set local lock_timeout = '500ms'`;
      await tx`lock table public.uuid_mappings_enhanced in access exclusive mode`;
      await saveMappings(tx, draftOf(path));
      await dropAll(tx);
    });
  } catch (error) {
    // Where the server has said no, the rows are still there. A lost connection may have been lost behind the commit.
    if ((error as { severity?: string }).severity === "ERROR" || error instanceof Problem) rmSync(draftOf(path), { force: true });
    throw error;
  }
  renameSync(draftOf(path), path);
}

async function saveMappings(tx: postgres.TransactionSql, path: string): Promise<void> {
  const rows = await tx`
    copy (select * from public.uuid_mappings_enhanced order by source_id, entity_type, legacy_id)
      to stdout with (format csv, header)`.readable();
  // On the disk before the rows go.
  await pipeline(rows, createWriteStream(path, { flags: "w", mode: 0o600, flush: true }));
}

const TRIES = 10;
const PAUSE_MS = 2_000;

/** Whoever works on the tables meanwhile, a tick for one, is not kept waiting: the drop gives way and tries again. @throws Problem after some twenty seconds of that. */
export async function atRest(work: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await work();
      return;
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== "40P01" && code !== "55P03") throw error;
      if (tries === TRIES)
        throw new Problem(
          "SYNC_RUNNING",
          "Somebody is at work in our tables all the time.",
          "Stop that, then run the command again. Nothing was dropped.",
          { cause: error },
        );
      await new Promise((later) => setTimeout(later, PAUSE_MS));
    }
  }
}

const TYPES = [
  "sync_schedule_type",
  "sync_job_status",
  "sync_execution_status",
  "conflict_type_enum",
  "conflict_resolution_strategy",
  "mapping_sync_status",
  "sync_conflict_state",
  "sync_capture",
  "sync_chain_state",
  "sync_control",
  "sync_rule_severity",
];
/** No column owns it, so no table takes it along. */
const SEQUENCE = "sync_pending_keys_generation_seq";
const ROLES = ["isthmus_worker", "isthmus_decisions"];

/** Drops all that is ours. @throws Problem, with everything back in place, when something of the application's would go too. */
export async function dropAll(tx: postgres.TransactionSql): Promise<void> {
  await tx`set local lock_timeout = '500ms'`;
  const tables = (await tx<{ name: string }[]>`select pg_catalog.unnest(sync.own_tables()) as name`).map(({ name }) => name);
  await tx.unsafe(`lock table ${tables.map((name) => `public.${name}`).join(", ")} in access exclusive mode`);
  const before = await objects(tx, tables);
  await tx`drop schema sync cascade`;
  await tx.unsafe(`drop table ${tables.map((name) => `public.${name}`).join(", ")} cascade`);
  await tx.unsafe(`drop sequence public.${SEQUENCE}`);
  try {
    // Nothing of ours needs them any more: what still does is a column of the application's.
    await tx.unsafe(`drop type ${TYPES.map((name) => `public.${name}`).join(", ")}`);
  } catch (error) {
    if ((error as { code?: string }).code !== "2BP01") throw error;
    throw applicationUses([(error as { detail?: string }).detail ?? "a column of one of our types"]);
  }
  const after = new Set(await objects(tx, tables));
  const lost = before.filter((name) => !after.has(name));
  if (lost.length > 0) throw applicationUses(lost);
  for (const role of ROLES) {
    // Whoever drops what a role has must be a member of the role.
    await tx.unsafe(`do $$ begin execute format('grant ${role} to %I', current_user); end $$`);
    await tx.unsafe(`drop owned by ${role}`);
    await tx.unsafe(`drop role ${role}`);
  }
}

function applicationUses(lost: readonly string[]): Problem {
  return new Problem(
    "APPLICATION_USES_IT",
    `The application has made what would go too: ${lost.slice(0, 10).join("; ")}${lost.length > 10 ? ` and ${lost.length - 10} more` : ""}.`,
    "Drop or change these first. Nothing was dropped.",
  );
}

/** Everything in the database that is not ours, by name. What belongs to one of our tables (constraint, index, policy ...) is ours. */
async function objects(tx: postgres.TransactionSql, tables: readonly string[]): Promise<readonly string[]> {
  const rows = await tx<{ name: string }[]>`
    with own as (select oid from pg_class where relnamespace = to_regnamespace('sync')
                  or (relnamespace = 'public'::regnamespace and relname in ${tx([...tables, SEQUENCE])})),
         ours as (select oid from own union select indexrelid from pg_index where indrelid in (select oid from own)
                  union select d.objid from pg_depend d where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
                           and d.refobjid in (select oid from own) and d.deptype in ('a', 'i')),
         named (classid, objid) as (
      select 'pg_class'::regclass, c.oid from pg_class c where c.relkind in ('r', 'v', 'm', 'p', 'f', 'i', 'S') and c.oid not in (select oid from ours)
      union all select 'pg_proc'::regclass, p.oid from pg_proc p
      union all select 'pg_type'::regclass, t.oid from pg_type t where t.typrelid = 0 and t.typelem = 0 and t.typname not in ${tx(TYPES)}
      union all select 'pg_constraint'::regclass, k.oid from pg_constraint k where k.conrelid not in (select oid from ours)
      union all select 'pg_trigger'::regclass, g.oid from pg_trigger g where not g.tgisinternal and g.tgrelid not in (select oid from ours)
      union all select 'pg_policy'::regclass, y.oid from pg_policy y where y.polrelid not in (select oid from ours)
      union all select 'pg_attrdef'::regclass, f.oid from pg_attrdef f where f.adrelid not in (select oid from ours))
    select o.type || ' ' || o.identity as name from named n cross join lateral pg_identify_object(n.classid, n.objid, 0) o
     where coalesce(o.schema, '') not in ('sync', 'pg_catalog', 'information_schema', 'pg_toast') and o.identity not like 'sync.%'`;
  return rows.map(({ name }) => name);
}
