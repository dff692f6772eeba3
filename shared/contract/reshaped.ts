import type { Entity } from "../entity/define-entity.ts";
import { findingsOn, type Finding } from "./finding.ts";
import type { EntityShapes } from "../target/entity-shapes.ts";

/** Whether rows of either side may have changed without having been written. */
export function hasMoved(shapes: EntityShapes | undefined): boolean {
  return shapes !== undefined && (shapes.source_moved || shapes.target_moved);
}

/** What is told of entities whose tables have another shape than when both sides were compared last. `compares`: this execution does it. */
export function reshapedFindings(
  entities: readonly Entity[],
  shapes: ReadonlyMap<string, EntityShapes>,
  compares: boolean,
): Finding[] {
  return entities.flatMap((entity) => {
    const of = shapes.get(entity.name);
    return [...(of?.source_moved ? [ofSource(entity, compares)] : []), ...(of?.target_moved ? [ofTarget(entity, compares)] : [])];
  });
}

const WHAT =
  "a column was dropped, added, renamed or retyped, a member of an enum renamed, a partition attached or detached, or the table rewritten, emptied or reloaded";
const OF_SOURCE = `${WHAT}, or a function that the entity's SQL or a generated column calls is another one`;
const LATER =
  "What is read now is exact. The next execution without a selection compares all of the entity: npm run sync -- start";

function ofSource({ name, source }: Entity, compares: boolean): Finding {
  return findingsOn(name, source.table)("source_reshaped", {
    message: `${name}: DDL has changed what the entity reads of the source since everything was compared last (${OF_SOURCE}). Rows may have changed that nobody wrote.`,
    remedy: compares
      ? `Nothing: this execution compares all of the entity. The report digest:${name} says what differed.`
      : LATER,
  });
}

function ofTarget({ name, target }: Entity, compares: boolean): Finding {
  return findingsOn(name, target.table)("target_reshaped", {
    message: `${name}: DDL has changed public.${target.table} since everything was compared last (${WHAT}). Rows may have changed that nobody wrote.`,
    remedy: compares
      ? `Nothing where DDL emptied or changed a column: this execution writes the source's values again. Rows that were loaded from elsewhere count as edits of people and stay: the report digest:${name} lists them (edited).`
      : LATER,
  });
}
