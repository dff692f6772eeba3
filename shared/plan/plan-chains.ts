import { consumedJoins } from "../entity/consumed-joins.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Context } from "../context.ts";
import { modifiedKeys, type Watermark } from "../source/keys.ts";
import { finds, hasChangedRows, tableBytes, tableSize } from "../source/tables.ts";
import { splitRange } from "./choose-capture.ts";

/** Whether a table may have rows written since a horizon. */
type ChangedTables = (table: string, from: string) => Promise<boolean>;

const MEGABYTE = 1_048_576;

/**
 * Asks each table once per horizon, however many entities join it. A large one is not looked at: it gets its chain,
 * whose pages are bounded where this look is not.
 */
export function changedTables({ source, config }: Context): ChangedTables {
  const looksAt = async (table: string) => (await tableBytes(source, table)) <= config.ISTHMUS_LOOK_MB * MEGABYTE;
  const answers = new Map<string, boolean>();
  return async (table, from) => {
    const question = `${table} ${from}`;
    const answer = answers.get(question) ?? (!(await looksAt(table)) || (await hasChangedRows(source, table, from)));
    answers.set(question, answer);
    return answer;
  };
}

/** All records, and what they consume of all joined rows; a dry run notes nothing of those. */
export async function fullChains(context: Context, entity: Entity, dryRun: boolean): Promise<object[]> {
  const { source, config } = context;
  const { lowest, highest, rows } = await tableSize(source, entity);
  const ranges = splitRange(lowest, highest, rows, config.ISTHMUS_ROWS_PER_CHAIN, config.ISTHMUS_CHAINS_PER_ENTITY);
  return [...(dryRun ? [] : joinsChains(context, entity)), ...ranges.map((range) => ({ capture: "full", ...range }))];
}

/** What is consumed of all joined rows. */
function joinsChains({ config }: Context, entity: Entity): object[] {
  return consumedJoins(entity).map(({ id }) => ({ capture: "joins", join_id: id, page_size: config.ISTHMUS_JOIN_ROWS }));
}

/**
 * Changed rows of joined tables, and changed records; no chain where nothing was written. `seenBefore`: what was
 * written before this transaction, the last run may have read. `allJoins`: joined rows may have changed that nobody
 * wrote.
 */
export async function changedChains(
  context: Context,
  entity: Entity,
  { from, seenBefore, allJoins }: { readonly from: string; readonly seenBefore: string | null; readonly allJoins: boolean },
  changed: ChangedTables,
): Promise<object[]> {
  const { config } = context;
  const chains: object[] = allJoins ? joinsChains(context, entity) : [];
  for (const { id, table } of allJoins ? [] : consumedJoins(entity)) {
    if (await changed(table, from)) {
      chains.push({ capture: "joins", join_id: id, changed_from: from, page_size: config.ISTHMUS_JOIN_ROWS });
    }
  }
  if (await changed(entity.source.table, from)) chains.push({ capture: "xmin", changed_from: from, seen_before: seenBefore });
  return chains;
}

/** Both sides compared by hashes, after what is found without them. */
export function digestChain({ config }: Context): object {
  return { capture: "digest", page_size: config.ISTHMUS_DIGEST_ROWS };
}

/** Records stamped beyond the watermark; no chain where one probe finds none. Rows of joined tables have no stamps. */
export async function modifiedChains({ source }: Context, entity: Entity, after: Watermark, until: string): Promise<object[]> {
  const found = await finds(source, modifiedKeys(entity, entity.source.modified ?? "", after, until, 1));
  return !found ? [] : [{ capture: "modified", cursor: after.id, cursor_at: after.at, until_at: until }];
}
