import type { Entity } from "../entity/define-entity.ts";
import type { SideEffect } from "../target/contract.ts";
import type { TargetCatalog, TargetCatalogTable, TargetCatalogTrigger } from "../target/catalog.ts";
import { findingsOn, type Finding } from "./finding.ts";

/** Bits of pg_trigger.tgtype. */
const ROW = 1;
const BEFORE = 2;
const INSERT = 4;
const DELETE = 8;
const UPDATE = 16;

/** Everything that a write of the sync to the entities' tables sets off in the target. */
export function sideEffects(entities: readonly Entity[], catalog: TargetCatalog): SideEffect[] {
  return entities.flatMap((entity) => {
    const name = entity.target.table;
    const table = catalog.tables[name];
    if (!table) return [];
    const owned = new Set(Object.keys(entity.fields));
    return [...triggers(name, table, owned), ...rules(name, table), ...publications(name, table)];
  });
}

/** Unacknowledged effects: they stop an entity's first load, and are a warning after that. */
export function effectFindings(
  unacknowledged: readonly SideEffect[],
  entities: readonly Entity[],
  loaded: ReadonlySet<string>,
): Finding[] {
  return unacknowledged.flatMap((effect) => {
    const entity = entities.find(({ target }) => target.table === effect.table);
    if (!entity) return [];
    const first = !loaded.has(entity.name);
    return [
      findingsOn(entity.name, effect.table)("side_effect", {
        severity: first ? "fatal" : "warn",
        message: `${effect.kind} ${effect.name} on ${effect.table}: ${effect.does}.`,
        remedy: `Switch it off${first ? " for the first load" : ""}, or accept it: npm run sync -- acknowledge ${effect.table}, or set acknowledged_at in sync_side_effects.`,
      }),
    ];
  });
}

function triggers(table: string, { triggers: all }: TargetCatalogTable, owned: ReadonlySet<string>): SideEffect[] {
  return all
    .map((trigger) => ({ trigger, events: eventsOf(trigger, owned) }))
    .filter(({ events }) => events.length > 0)
    .map(({ trigger, events }) => ({
      kind: trigger.calls.some((call) => call.includes("http")) ? "webhook" : "trigger",
      table,
      name: trigger.name,
      does:
        `${(trigger.type & BEFORE) > 0 ? "before" : "after"} ${events.join(" or ")}, ` +
        `${(trigger.type & ROW) > 0 ? "for each row" : "for each statement"}: ${trigger.function}` +
        (trigger.calls.length > 0 ? `, which calls ${trigger.calls.join(", ")}` : ""),
      definition: trigger.definition,
    }));
}

/** The events of a trigger that our writes can be: an `update of` columns that no field fills is none. */
function eventsOf({ type, columns }: TargetCatalogTrigger, owned: ReadonlySet<string>): string[] {
  const updates = (type & UPDATE) > 0 && (columns.length === 0 || columns.some((column) => owned.has(column)));
  return [...((type & INSERT) > 0 ? ["insert"] : []), ...(updates ? ["update"] : []), ...((type & DELETE) > 0 ? ["delete"] : [])];
}

function rules(table: string, { rules: all }: TargetCatalogTable): SideEffect[] {
  return all.map(({ name, event, definition }) => ({
    kind: "rule",
    table,
    name,
    does: `on ${event}: the rule's own statement`,
    definition,
  }));
}

function publications(table: string, { publications: all }: TargetCatalogTable): SideEffect[] {
  return all
    .filter(({ writes }) => writes.length > 0)
    .map(({ name, writes, all: everything }) => ({
      kind: "publication",
      table,
      name,
      does:
        `${name === "supabase_realtime" ? "Realtime sends" : "subscribers get"} every ${writes.join(", ")}` +
        (everything ? " (the publication covers all tables)" : ""),
      definition: `${writes.join(",")}${everything ? " all" : ""}`,
    }));
}
