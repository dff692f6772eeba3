import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import type { Shape, SourceShape } from "../sql/shape.ts";

export interface EntityShapes {
  readonly entity: string;
  /** Of the target table. */
  readonly target: Shape;
  /** Of all tables that the entity reads; null: nobody has looked. */
  readonly source: Shape | null;
  /** Rows of the target may have changed, without having been written, since they were compared last. */
  readonly target_moved: boolean;
  /** The same of the source. */
  readonly source_moved: boolean;
}

/** Notes what the shapes of entities are now, and which parts of their values are padded, and says which of them were others when both sides were compared last. */
export async function lookAtShapes(
  target: Queryable,
  sourceId: number,
  names: readonly string[],
  source: ReadonlyMap<string, SourceShape>,
): Promise<ReadonlyMap<string, EntityShapes>> {
  const rows = await query<EntityShapes>(
    target,
    "target",
    `select entity, target, source, target_moved, source_moved
       from sync.look_at_shapes($1::integer::smallint, array(select jsonb_array_elements_text($2::text::jsonb)), $3::text::jsonb)`,
    [sourceId, JSON.stringify(names), JSON.stringify(Object.fromEntries(source))],
  );
  return new Map(rows.map((row) => [row.entity, row]));
}
