import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import { consumedJoins } from "../entity/consumed-joins.ts";
import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import { projectionSql } from "./projection.ts";
import { dependantKeys, joinRows, writtenJoinRows } from "./joins.ts";
import { allKeys, type KeyQuery } from "./keys.ts";
import { changedRecords, windowQuery } from "./scan.ts";

/**
 * Whether the source would run an entity's statements, with all that their expressions name: they are planned, not
 * executed, and planning checks names, types and rights. `changes`: with those that ask which rows were written.
 * @returns the SQLSTATE of a refusal and what the source names in it, undefined without one.
 */
export async function projectionRefusal(
  source: Queryable,
  entity: Entity,
  changes = true,
): Promise<{ readonly sqlstate: string; readonly at: string | undefined } | undefined> {
  const written = { from: "0", to: "1" };
  const statements: KeyQuery[] = [
    { text: projectionSql(entity), parameters: ["{}", "0"] },
    changes
      ? windowQuery(changedRecords(entity, written.from), "keys", null, 1, 1)
      : allKeys(entity, { from: null, after: null, upTo: null, limit: 1 }),
    ...consumedJoins(entity).flatMap((join) => [
      joinRows(join, null, 1),
      ...(changes
        ? [windowQuery(writtenJoinRows(join, written.from), "keys", null, 1, 1), dependantKeys(entity, join, [], written, 1)]
        : []),
    ]),
  ];
  try {
    for (const { text, parameters } of statements) await query(source, "source", `explain ${text}`, parameters);
    return undefined;
  } catch (error) {
    if (!(error instanceof IsthmusError) || error.code !== "SOURCE_REFUSED") throw error;
    const { sqlstate, at } = error.detail;
    return { sqlstate: String(sqlstate), at: typeof at === "string" ? at : undefined };
  }
}
