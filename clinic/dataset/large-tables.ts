import { files } from "./files.ts";
import type { LargeCounts, Surroundings } from "./large-rows.ts";
import { notifications, NOTIFICATIONS } from "./notifications.ts";
import { madeTable } from "./made-table.ts";
import type { LargeObservers } from "./manifest.ts";
import { brackets, plans, projects } from "./plans.ts";
import { comments, records } from "./records.ts";
import { streamTable } from "./stream.ts";
import type { TableRows } from "./table.ts";
import { nthId, sizeAt } from "./values.ts";
import { actions, tasks } from "./work.ts";

/** At any scale enough for every kind of dirt. */
export function largeCounts(scale: number): LargeCounts {
  const size = sizeAt(scale);
  return {
    projects: size(72_155, 24),
    brackets: size(1_720, 12),
    plans: size(209_241, 40),
    records: size(70_742, 40),
    files: size(327_771, 60),
    comments: size(16_312, 24),
    notifications: size(NOTIFICATIONS, 120),
    tasks: size(969_000, 60),
    actions: size(3_130_000, 40),
  };
}

/**
 * The tables that grow by the day, over ten million rows at scale 1: none of them is ever in memory. Parents come
 * before their children, because the manifest is made from the rows as they pass.
 */
export function largeTables(seed: number, around: Surroundings, seen: LargeObservers): TableRows[] {
  const { counts, clinic } = around;
  return [
    streamTable(seed, projects(around), seen.project),
    streamTable(seed, brackets(around), seen.bracket),
    streamTable(seed, plans(around), seen.plan),
    streamTable(seed, records(around), seen.record),
    madeTable(seed, "dispatch_record_roles", "record_id role_id", Math.max(3, Math.round(counts.records / 700)), (random) => [
      nthId(random.between(1, counts.records)),
      random.pick(clinic.roles).id,
    ]),
    streamTable(seed, files(around), seen.file),
    streamTable(seed, comments(around), seen.comment),
    streamTable(seed, notifications(around), seen.notification),
    streamTable(seed, tasks(around), seen.task),
    streamTable(seed, actions(around), seen.action),
  ];
}
