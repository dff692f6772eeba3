import postgres, { type Sql } from "postgres";
import type { Platform } from "../platform.ts";
import { dim, line } from "./terminal.ts";

/** What is changed on both sides: entity, its rows on either side, and the two edits. */
const EDITS = [
  {
    entity: "offices",
    source: "update public.dispatch_office set name = name || ' (moved)' where id = $1",
    target: "update public.offices set name = name || ', 2nd floor' where legacy_office_id = $1",
    said: "an office gets a new name in the old application, and another one in the new",
  },
  {
    entity: "patients",
    source: "update public.dispatch_patient set birthdate = birthdate + 1 where id = $1",
    target: "update public.patients set date_of_birth = date_of_birth + 365 where legacy_patient_id = $1",
    said: "a patient's date of birth is corrected on either side, differently",
  },
  {
    entity: "operations",
    source: "update public.dispatch_operation set attempts = coalesce(attempts, 0) + 1 where id = $1",
    target: "delete from public.operations where legacy_operation_id = $1",
    said: "a card operation is deleted in the new application, and changes in the old",
  },
] as const;
const TABLES = { offices: "legacy_office_id", patients: "legacy_patient_id", operations: "legacy_operation_id" } as const;
/** Of a patient whose date of birth nobody knows nothing can be corrected. */
const EDITABLE = { offices: "true", patients: "date_of_birth is not null", operations: "true" } as const;

/** The same records are changed by people in both applications. */
export async function editBothSides(platform: Platform, target: Sql): Promise<string[]> {
  const source = postgres(platform.urls.sourceOwner, { max: 1 });
  for (const edit of EDITS) {
    const [record] = await target.unsafe<{ id: string }[]>(
      `select t.${TABLES[edit.entity]}::text as id from public.${edit.entity} t
        where ${EDITABLE[edit.entity]} and not exists (
                select from public.sync_conflicts c
                 where c.entity_type = '${edit.entity}' and c.source_record_id = t.${TABLES[edit.entity]} and c.state in ('waiting', 'open'))
        order by t.${TABLES[edit.entity]} limit 1`,
    );
    if (!record) throw new Error(`No ${edit.entity} have landed.`);
    await source.unsafe(edit.source, [record.id]);
    await target.unsafe(edit.target, [record.id]);
    line(`  ${edit.entity} ${record.id}: ${edit.said}`);
  }
  await source.end();
  return EDITS.map(({ entity }) => entity);
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

const DECISIONS: Readonly<Record<string, (conflict: OpenConflict) => readonly string[]>> = {
  offices: ({ id }) => [`update sync_conflicts set resolution_strategy = 'source_wins', resolved_by = 'you' where id = '${id}';`],
  patients: ({ id }) => [
    `select sync.reveal('${id}');`,
    `update sync_conflicts set resolution_strategy = 'merge', resolution_data = '{"date_of_birth": "1980-02-29"}' where id = '${id}';`,
  ],
  operations: ({ id }) => [`update sync_conflicts set resolution_strategy = 'target_wins' where id = '${id}';`],
};
const MEANINGS: Readonly<Record<string, string>> = {
  offices: "what the old application says is written; the other name stays in the queue and can be put back",
  patients: "clinical values are masked: looking at them leaves a trace in sync_audit; then a third value is written",
  operations: "the row stays away, and is not asked about again until the source changes it",
};

/** The open conflicts that people can decide, and the SQL that decides each. */
export async function printConflicts(target: Sql): Promise<void> {
  const open = await target<OpenConflict[]>`
    select id, entity_type as entity, source_record_id::text as record, rule, policy, remedy, differences
      from public.sync_conflicts where decidable and entity_type in ${target(Object.keys(DECISIONS))} order by entity_type`;
  for (const conflict of open) {
    line(`\n  ${conflict.entity} ${conflict.record}: ${conflict.rule}${conflict.policy === null ? "" : ` (${conflict.policy})`}`);
    for (const [field, { seen, source, target: now }] of Object.entries(conflict.differences ?? {}))
      line(`    ${field}: was ${show(seen)}; the source says ${show(source)}, the target ${show(now)}`);
    line(dim(`    ${MEANINGS[conflict.entity] ?? conflict.remedy}:`));
    for (const statement of DECISIONS[conflict.entity]?.(conflict) ?? []) line(`    ${statement}`);
  }
  line(`\n  ${dim("-- put a decision back")}`);
  line(`  update sync_conflicts set resolution_strategy = null where entity_type = 'offices' and resolved_by = 'you';`);
}

function show(value: unknown): string {
  return typeof value === "string" ? `"${value}"` : JSON.stringify(value);
}
