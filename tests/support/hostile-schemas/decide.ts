import type { Sql } from "postgres";
import type { Random } from "../../../clinic/dataset/random.ts";

/** People decide on some of what is open. Of refusals only those of ours are right, which say why. */
export async function decideSome(here: Sql, random: Random, log: string[], faults: string[]): Promise<void> {
  const open = await here<{ id: string; what: string }[]>`
    select id, entity_type || ' ' || source_record_id || ' ' || rule as what
      from public.sync_conflicts where state = 'open' order by entity_type, source_record_id`;
  for (const { id, what } of open) {
    if (!random.chance(0.5)) continue;
    const strategy = random.pick(["source_wins", "target_wins"]);
    try {
      // What another decision has closed meanwhile is closed.
      await here`
        update public.sync_conflicts set resolution_strategy = ${strategy}, resolved_by = 'a test' where id = ${id} and state = 'open'`;
      log.push(`-- ${what} is decided: ${strategy}`);
    } catch (error) {
      const { code = "", message } = error as Error & { code?: string };
      log.push(`-- ${what} is not decided by ${strategy}: ${code} ${message}`);
      if (!code.startsWith("IS") || message.includes("needs a right"))
        faults.push(`a decision of ${what} for ${strategy} is refused with ${code} ${message}`);
    }
  }
}
