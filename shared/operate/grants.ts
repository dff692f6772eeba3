import { ident, literal } from "../db/ident.ts";
import { deletesRows, type Entity } from "../entity/define-entity.ts";

/**
 * SQL for the owner of the database. It gives the worker exactly the columns that the entities own on the
 * application's tables, and nothing else (xmin tells who wrote a row last), and releases them for what people decide.
 */
export function workerGrants(entities: readonly Entity[], role = "isthmus_worker"): string {
  return entities
    .map((entity) => {
      const table = `public.${ident(entity.target.table)}`;
      const columns = Object.keys(entity.fields);
      const owned = columns.map(ident).join(", ");
      const leaving = deletesRows(entity) ? ", delete" : "";
      // Where the sync itself deletes nothing, a person may still decide that a row goes.
      const decided = deletesRows(entity) || entity.onDelete === "review";
      return [
        `revoke all on ${table} from ${ident(role)};`,
        `grant select (id, xmin, ${owned}), insert (id, ${owned}), update (${owned})${leaving} on ${table} to ${ident(role)};`,
        `select sync.release_entity(${literal(entity.name)}, ${literal(entity.target.table)}, array[${columns.map(literal).join(", ")}], ${decided});`,
      ].join("\n");
    })
    .join("\n");
}
