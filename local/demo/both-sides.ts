import postgres, { type Sql } from "postgres";
import type { Platform } from "../platform.ts";
import type { BothSides } from "./demo.ts";
import { dim, line } from "./terminal.ts";

/** The same records are changed by people in both applications. */
export async function editBothSides(platform: Platform, target: Sql, edits: readonly BothSides[]): Promise<string[]> {
  const source = postgres(platform.urls.sourceOwner, { max: 1 });
  for (const edit of edits) {
    const [record] = await target.unsafe<{ id: string }[]>(
      `select t.${edit.legacyKey}::text as id from public.${edit.entity} t
        where ${edit.where} and not exists (
                select from public.sync_conflicts c
                 where c.entity_type = '${edit.entity}' and c.source_record_id = t.${edit.legacyKey} and c.state in ('waiting', 'open'))
        order by t.${edit.legacyKey} limit 1`,
    );
    if (!record) throw new Error(`No ${edit.entity} have landed.`);
    await source.unsafe(edit.source, [record.id]);
    await target.unsafe(edit.target, [record.id]);
    line(`  ${edit.entity} ${record.id}: ${edit.said}`);
  }
  await source.end();
  return edits.map(({ entity }) => entity);
}

interface OpenConflict {
  readonly id: string;
  readonly entity: string;
  readonly record: string;
  readonly rule: string;
  readonly policy: string | null;
  readonly remedy: string;
  readonly differences: Readonly<Record<string, Readonly<Record<"seen" | "source" | "target", unknown>>>> | null;
}

/** The open conflicts that people can decide, and the SQL that decides each. */
export async function printConflicts(target: Sql, edits: readonly BothSides[]): Promise<void> {
  const open = await target<OpenConflict[]>`
    select id, entity_type as entity, source_record_id::text as record, rule, policy, remedy, differences
      from public.sync_conflicts where decidable and entity_type in ${target(edits.map(({ entity }) => entity))} order by entity_type`;
  for (const conflict of open) {
    const edit = edits.find(({ entity }) => entity === conflict.entity);
    line(`\n  ${conflict.entity} ${conflict.record}: ${conflict.rule}${conflict.policy === null ? "" : ` (${conflict.policy})`}`);
    for (const [field, { seen, source, target: now }] of Object.entries(conflict.differences ?? {}))
      line(`    ${field}: was ${show(seen)}; the source says ${show(source)}, the target ${show(now)}`);
    line(dim(`    ${edit?.meaning ?? conflict.remedy}:`));
    for (const statement of edit?.decide(conflict.id) ?? []) line(`    ${statement}`);
  }
  line(`\n  ${dim("-- put a decision back")}`);
  line(
    `  update sync_conflicts set resolution_strategy = null where entity_type = '${edits[0]?.entity ?? ""}' and resolved_by = 'you';`,
  );
}

function show(value: unknown): string {
  return typeof value === "string" ? `"${value}"` : JSON.stringify(value);
}
