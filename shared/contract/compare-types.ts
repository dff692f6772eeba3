import type { Entity, Field } from "../entity/define-entity.ts";
import { placeOf } from "../entity/columns-read.ts";
import { KEY } from "../entity/define-entity.ts";
import { compiledKind, kindOf, TAKES, type ColumnKinds, type MoneyOf } from "../entity/kinds.ts";
import type { SourceCatalog, SourceCatalogColumn } from "../source/catalog.ts";
import type { TargetCatalog, TargetCatalogColumn } from "../target/catalog.ts";
import { findingsOn, type Finding } from "./finding.ts";

/** Which target columns cannot take what their fields yield. `compiled`: kinds of the target's columns at compile time. */
export function compareTypes(
  entities: readonly Entity[],
  source: SourceCatalog,
  target: TargetCatalog,
  compiled: ColumnKinds,
): Finding[] {
  return entities.flatMap((entity) =>
    Object.entries(entity.fields).flatMap(([column, field]) => {
      const found = target.tables[entity.target.table]?.columns[column];
      const details = found && misfit(entity, field, column, found, source, compiled);
      return details ? [findingsOn(entity.name, entity.target.table)(details.code, { column, ...details })] : [];
    }),
  );
}

interface Misfit {
  readonly code: "target_column_type" | "zone_undeclared" | "target_enum_member_missing";
  readonly message: string;
  readonly remedy: string;
}

/** The first reason why a column cannot take what its field yields. */
function misfit(
  entity: Entity,
  field: Field,
  column: string,
  found: TargetCatalogColumn,
  source: SourceCatalog,
  compiled: ColumnKinds,
): Misfit | undefined {
  const { table } = entity.target;
  const own = `${table}.${column} is ${found.type}`;
  const yields = yieldsOf(entity, field, source);
  if (!takes(found, field, yields, compiledKind(compiled, table, column))) {
    return {
      code: "target_column_type",
      message: `${own}: it cannot take ${yields ?? "what the field computes"}.`,
      remedy: "Correct the column's type, or the field in the entity file (npm run schema:types shows what no longer compiles).",
    };
  }
  const read = typeRead(entity, field, source);
  const copied = read && yields === "other" && kindOf(found.type, found.members !== null) === "other" ? read : undefined;
  if (copied && !sameType(copied.type, found.type)) {
    return {
      code: "target_column_type",
      message: `${own}, and what the field copies is ${copied.type}: whether the one holds the other exactly nobody knows.`,
      remedy: "Give both columns one type, or compute the value in the entity file.",
    };
  }
  // Values travel as texts, in which an attribute has a place and no name.
  const [there, here] = [copied?.parts ?? [], found.parts ?? []];
  if (copied && JSON.stringify(there) !== JSON.stringify(here)) {
    const apart = there.findIndex((part, at) => part !== here[at]);
    const [one, other] = [there, here].map((parts) => parts[apart < 0 ? there.length : apart] ?? "nothing more");
    return {
      code: "target_column_type",
      message: `${own}, which is made of other parts than in the source: there ${one}, here ${other} at the same place.`,
      remedy:
        "Give both types the same attributes in the same order, and ranges the same bounds; or compute the value in the entity file.",
    };
  }
  if (read && otherwiseZoned(read.type, found.type)) {
    return {
      code: "zone_undeclared",
      message: `${own}, and what the field reads is ${read.type}: nothing says in which zone it was meant.`,
      remedy:
        read.type === "date"
          ? `A date is no moment: read it as expression("timestamp", "${read.column}::timestamp at time zone '<zone>'"), or give both columns one type.`
          : `Read it in the entity file as inZone("${read.column}", "<zone>", "<why in that one>"), or give both columns one type.`,
    };
  }
  const open = openTimes(entity, field);
  if (open !== undefined && kindOf(found.type, found.members !== null) !== "timestamp") {
    return {
      code: "zone_undeclared",
      message: `${own}, which takes any text, and the field copies times in a zone whose clocks skip and repeat some: nothing says what these become.`,
      remedy: `Say so: inZone("${open}", "<zone>", "<why in that one>", { skipped: "forward", repeated: "first" }); or give the column a type of times.`,
    };
  }
  const lacking = missingMembers(found, field);
  if (lacking.length === 0) return undefined;
  return {
    code: "target_enum_member_missing",
    message: `${table}.${column}: the type ${found.type} has no ${lacking.join(", ")}.`,
    remedy: lacking.map((member) => `alter type ${found.type} add value '${member.replaceAll("'", "''")}';`).join(" "),
  };
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

const MOMENT = "timestamp with time zone";
const WALL_TIME = "timestamp without time zone";

/** Whether two types of no kind that is known are one, or arrays of one kind. An extension may stand in another schema on the other side. */
function sameType(one: string, other: string): boolean {
  const name = (type: string) => type.replace(/^(?:"(?:[^"]|"")*"|[^".]+)\./, "");
  if (name(one) === name(other)) return true;
  if (!one.endsWith("[]") || !other.endsWith("[]")) return false;
  const [of, ofOther] = [one.slice(0, -2), other.slice(0, -2)];
  return kindOf(of, false) !== "other" && kindOf(of, false) === kindOf(ofOther, false) && !otherwiseZoned(of, ofOther);
}

/** Whether one of two types of times is a moment, and the other is not. */
function otherwiseZoned(from: string, to: string): boolean {
  return (to === MOMENT && (from === WALL_TIME || from === "date")) || (to === WALL_TIME && from === MOMENT);
}

/** The type of the values that a field copies, as they arrive; undefined: it computes, or nobody knows. */
function typeRead(
  entity: Entity,
  field: Field,
  source: SourceCatalog,
): { column: string; type: string; parts: readonly string[] | null } | undefined {
  const column = field.kind === "direct_copy" ? entity.source.columns[field.columns[0] ?? ""] : undefined;
  const read = typeof column === "string" ? column : column?.inZone;
  const known = read === undefined ? undefined : columnRead(entity, read, source);
  if (read === undefined || known === undefined) return undefined;
  const { type, parts } = known;
  if (typeof column === "string" || type === "date") return { column: read, type, parts };
  return { column: read, type: type === WALL_TIME ? MOMENT : WALL_TIME, parts };
}

/** The column of times in a zone that a field copies, of which it is not said what skipped and repeated times become. */
function openTimes(entity: Entity, field: Field): string | undefined {
  const column = field.kind === "direct_copy" ? entity.source.columns[field.columns[0] ?? ""] : undefined;
  if (column === undefined || typeof column === "string") return undefined;
  const { skipped, repeated } = column.zoneRules ?? {};
  return skipped !== undefined && repeated !== undefined ? undefined : column.inZone;
}

function kindRead(entity: Entity, name: string, source: SourceCatalog): string | undefined {
  if (name === KEY) return "integer";
  const column = entity.source.columns[name];
  if (column === undefined) return undefined;
  if (typeof column !== "string") return column.type;
  const found = columnRead(entity, column, source);
  return found && kindOf(found.type, found.enum);
}

function columnRead(entity: Entity, reference: string, source: SourceCatalog): SourceCatalogColumn | undefined {
  const [table = "", column = ""] = placeOf(entity, reference) ?? [];
  return source.tables[table]?.columns[column];
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
