import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import type { Context } from "../context.ts";
import { scheduledConfigurations } from "../target/jobs.ts";
import { isSelection, selectiveSync } from "./selective-sync.ts";

/**
 * Time stamps accelerate; they promise nothing. So changes may be found by them only of entities that a scheduled job
 * also looks through by another capture.
 * @throws IsthmusError CAPTURE_UNBACKED
 */
export async function assertOtherCapture(context: Context, entities: readonly Entity[]): Promise<void> {
  const stamped = entities.filter(({ source }) => source.modified !== undefined).map(({ name }) => name);
  if (stamped.length === 0) return;
  const unbacked = withoutOtherCapture(await scheduledConfigurations(context.target), stamped, context);
  if (unbacked.length === 0) return;
  throw new IsthmusError(
    "CAPTURE_UNBACKED",
    `No scheduled job finds by another capture what time stamps miss: ${unbacked.join(", ")}.`,
    {
      detail: { entities: unbacked },
    },
  );
}

/** Of these entities, those that none of the configurations covers. One that is not valid starts nothing. */
export function withoutOtherCapture(
  configurations: readonly unknown[],
  names: readonly string[],
  { entities, columns }: Pick<Context, "entities" | "columns">,
): string[] {
  const backing = configurations
    .map((configuration) => selectiveSync(entities, columns.source).safeParse(configuration).data)
    .filter((job) => job !== undefined && !isSelection(job) && !job.adopt && !job.dryRun && job.capture !== "modified");
  return names.filter((name) => !backing.some((job) => job?.entities?.includes(name) ?? true));
}
