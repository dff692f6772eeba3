import { ident } from "../db/ident.ts";
import { deletesRows, type Entity } from "../entities/define-entity.ts";

/** SQL that gives the worker exactly the columns that the entities own on the application's tables, and nothing else; xmin tells who wrote a row last. */
export function workerGrants(entities: readonly Entity[], role = "isthmus_worker"): string {
  return entities
    .map((entity) => {
      const table = `public.${ident(entity.target.table)}`;
      const owned = Object.keys(entity.fields).map(ident).join(", ");
      const leaving = deletesRows(entity) ? ", delete" : "";
      return [
        `revoke all on ${table} from ${ident(role)};`,
        `grant select (id, xmin, ${owned}), insert (id, ${owned}), update (${owned})${leaving} on ${table} to ${ident(role)};`,
      ].join("\n");
    })
    .join("\n");
}
