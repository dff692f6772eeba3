import { readFileSync } from "node:fs";
import postgres, { type TransactionSql } from "postgres";
import { expect, it } from "vitest";
import { createTestTarget } from "./support/databases.ts";

const ROWS = 4_000;
/** Clock ticks per second of /proc. */
const TICKS = 100;

const seed = `
  insert into public.sync_sources (name) values ('legacy');
  insert into public.sync_entities (source_id, entity_type, source_table, target_table, legacy_key, columns, definition_hash, adoption_epoch)
  select s.id, 'offices', 'x', 'offices', 'legacy_office_id', '[{"name": "legacy_office_id", "type": "bigint"}, {"name": "name", "type": "text"}]', 'h', 1 from public.sync_sources s;
  insert into public.offices (legacy_office_id, name, is_active, email_notifications) select n, 'target', true, true from generate_series(1, ${ROWS + 1}) n;
  insert into public.sync_row_states (entity_id, legacy_id, seen, "left") select e.id, legacy_office_id, '{"name": "seen"}', '{"name": "seen"}' from public.offices, public.sync_entities e;
  insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, field, remedy, rule, source_table, target_table, entity_id, target_record_id)
  select 'open', 'offices', legacy_office_id, 'concurrent_modification', 'name', '', 'both_changed', 'x', 'offices', e.id, o.id from public.offices o, public.sync_entities e;
  insert into public.sync_conflict_values (conflict_id, seen, source, target, "left")
  select id, '{"name": "seen"}', '{"name": "source"}', '{"name": "target"}', '{"name": "seen"}' from public.sync_conflicts`;
const DECIDE_ONE = `update public.sync_conflicts set resolution_strategy = 'source_wins' where source_record_id = ${ROWS + 1}`;
const TOUCH = `update public.sync_conflicts set attempts = attempts + 1 where source_record_id <= ${ROWS}`;

it("a page that touches thousands of conflicts pays for no decision, and an owner's change of them for no comparison", async () => {
  await using target = await createTestTarget();
  await target.admin.unsafe(seed).simple();
  const session = postgres(target.superuserUrl, { max: 1, onnotice: () => undefined });
  try {
    const [backend] = await session<{ pid: number }[]>`select pg_backend_pid() as pid`;
    const cpu = () => {
      const fields =
        readFileSync(`/proc/${backend?.pid ?? 0}/stat`, "utf8")
          .split(") ")[1]
          ?.split(" ") ?? [];
      return ((Number(fields[11]) + Number(fields[12])) * 1_000) / TICKS;
    };
    const undone = async <T>(work: (tx: TransactionSql) => Promise<T>): Promise<T> => {
      let result: T | undefined;
      await session
        .begin(async (tx) => {
          await tx.unsafe("set local track_functions = 'all'");
          result = await work(tx);
          throw new Error("undone");
        })
        .catch((error: unknown) => {
          if (!(error instanceof Error) || error.message !== "undone") throw error;
        });
      return result as T;
    };
    const calls = async (tx: TransactionSql) =>
      (await tx`select calls::integer from pg_stat_xact_user_functions where funcname = 'apply_decisions'`)[0]?.["calls"] as
        number | undefined;
    const cost = (role: string, prepare: string) =>
      undone(async (tx) => {
        await tx.unsafe(prepare).simple();
        // The server counts on from transactions of the last second.
        const earlier = (await calls(tx)) ?? 0;
        await tx.unsafe(`set local role ${role}`);
        const before = cpu();
        await tx.unsafe(TOUCH);
        const used = cpu() - before;
        await tx.unsafe("reset role");
        return { used, calls: ((await calls(tx)) ?? 0) - earlier };
      });
    // A plan that was made for one decision serves all of this session.
    await undone((tx) => tx.unsafe(DECIDE_ONE));
    expect((await cost("isthmus_worker", "select 1")).calls).toBe(0);
    const without = await cost("postgres", "alter table public.sync_conflicts disable trigger apply_decisions");
    const withIt = await cost("postgres", "select 1");
    process.stdout.write(`${ROWS} conflicts touched: ${without.used} ms of CPU without the trigger, ${withIt.used} ms with it\n`);
    expect(withIt.calls).toBe(1);
    expect(withIt.used).toBeLessThan(2 * without.used + 300);
  } finally {
    await session.end();
  }
});
