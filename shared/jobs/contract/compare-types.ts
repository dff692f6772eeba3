import type { Entity, Field } from "../../entities/define-entity.ts";
import { KEY } from "../../entities/define-entity.ts";
import { compiledKind, kindOf, TAKES, type ColumnKinds, type MoneyOf } from "../../schema/kinds.ts";
import type { SourceCatalog } from "../../sql/source-catalog.ts";
import type { TargetCatalog, TargetCatalogColumn } from "../../sql/target-catalog.ts";
import { findingsOn, type Finding } from "./finding.ts";

/** Which target columns cannot take what their fields yield. `compiled`: kinds of the target's columns at compile time. */
export function compareTypes(
  entities: readonly Entity[],
  source: SourceCatalog,
  target: TargetCatalog,
  compiled: ColumnKinds,
): Finding[] {
  return entities.flatMap((entity) => {
    const { table } = entity.target;
    const find = findingsOn(entity.name, table);
    return Object.entries(entity.fields).flatMap(([column, field]) => {
      const found = target.tables[table]?.columns[column];
      if (!found) return [];
      const yields = yieldsOf(entity, field, source);
      if (!takes(found, field, yields, compiledKind(compiled, table, column))) {
        return [
          find("target_column_type", {
            column,
            message: `${table}.${column} is ${found.type}: it cannot take ${yields ?? "what the field computes"}.`,
            remedy:
              "Correct the column's type, or the field in the entity file (npm run schema:types shows what no longer compiles).",
          }),
        ];
      }
      const lacking = missingMembers(found, field);
      if (lacking.length === 0) return [];
      return [
        find("target_enum_member_missing", {
          column,
          message: `${table}.${column}: the type ${found.type} has no ${lacking.join(", ")}.`,
          remedy: lacking.map((member) => `alter type ${found.type} add value '${member.replaceAll("'", "''")}';`).join(" "),
        }),
      ];
    });
  });
}

/** The kind of value that a field yields; undefined when it is computed. */
function yieldsOf(entity: Entity, field: Field, source: SourceCatalog): string | undefined {
  switch (field.kind) {
    case "uuid_lookup":
      return "uuid";
    case "json_extraction":
      return "json";
    case "direct_copy": {
      const kind = kindRead(entity, field.columns[0] ?? "", source);
      return field.money && kind !== undefined ? moneyOf(kind) : kind;
    }
    case "enum_mapping":
    case "calculated_field":
    case "business_logic":
      return undefined;
  }
}

function moneyOf<Kind extends string>(kind: Kind): MoneyOf<Kind> {
  return `money of ${kind}`;
}

function kindRead(entity: Entity, name: string, source: SourceCatalog): string | undefined {
  if (name === KEY) return "integer";
  const column = entity.source.columns[name];
  if (column === undefined) return undefined;
  if (typeof column !== "string") return column.type;
  const [alias = "", sourceColumn = ""] = column.split(".");
  const table = alias === entity.source.alias ? entity.source.table : entity.source.joins[alias]?.table;
  const found = table === undefined ? undefined : source.tables[table]?.columns[sourceColumn];
  return found && kindOf(found.type, found.enum);
}

function takes(column: TargetCatalogColumn, field: Field, yields: string | undefined, compiled: string | undefined): boolean {
  const kind = kindOf(column.type, column.members !== null);
  // An id as text would refer to nothing.
  if (field.kind === "uuid_lookup") return kind === "uuid";
  if (yields !== undefined) return accepts(kind, yields);
  // What is computed fits the column that it was compiled against, any text, and an enum that has all its members.
  return kind === "text" || kind === compiled || compiled === undefined || (kind === "enum" && field.members !== undefined);
}

function accepts(kind: string, yields: string): boolean {
  const kinds: Readonly<Record<string, readonly string[]>> = TAKES;
  return kinds[kind]?.includes(yields) ?? false;
}

function missingMembers({ members }: TargetCatalogColumn, field: Field): string[] {
  return members === null ? [] : (field.members ?? []).filter((member) => !members.includes(member));
}
