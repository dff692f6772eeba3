import { ident } from "../db/ident.ts";
import { deletesRows, type Entity } from "../entity/define-entity.ts";
import type { TargetCatalog, TargetCatalogTable } from "../target/catalog.ts";
import { workerGrants } from "../operate/grants.ts";
import { findingsOn, missingTable, type Finding } from "./finding.ts";

type Find = ReturnType<typeof findingsOn>;

/** In what the target does not fit the entities, besides the types of its columns. */
export function compareTarget(entities: readonly Entity[], catalog: TargetCatalog): Finding[] {
  const byName = new Map(entities.map((entity) => [entity.name, entity]));
  const fed = new Set(entities.map((entity) => `public.${entity.target.table}`));
  return entities.flatMap((entity) => {
    const name = entity.target.table;
    const find = findingsOn(entity.name, name);
    const table = catalog.tables[name];
    if (!table || (table.relkind !== "r" && table.relkind !== "p")) {
      return [
        find("target_table_missing", {
          ...missingTable("target", name, catalog.elsewhere?.[name]),
          ...(table ? { message: `public.${name} of the target is no table.` } : {}),
        }),
      ];
    }
    return [
      ...checkKeys(find, entity, table),
      ...checkColumns(find, entity, table),
      ...checkParents(find, entity, table, byName),
      ...checkUnfed(find, entity, table, fed),
      ...checkRights(find, entity, table, catalog.role),
    ];
  });
}

function checkKeys(find: Find, entity: Entity, table: TargetCatalogTable): Finding[] {
  const { table: name, legacyKey } = entity.target;
  const findings: Finding[] = [];
  if (table.primaryKey.join() !== "id" || table.columns["id"]?.type !== "uuid") {
    findings.push(
      find("target_primary_key", {
        column: "id",
        message: `public.${name} needs a primary key id of type uuid.`,
        remedy: "The record's UUID is its primary key: add it.",
      }),
    );
  }
  if (table.columns[legacyKey] && !table.unique.includes(legacyKey)) {
    findings.push(
      find("target_legacy_key_not_unique", {
        // The mappings keep our own records apart, so that rows which are there already need not hold the sync up.
        severity: table.empty ? "fatal" : "warn",
        column: legacyKey,
        message: `Nothing keeps ${name}.${legacyKey} unique: an application could add a second row for a record.`,
        remedy: `${table.empty ? "" : "Merge the rows that share a value, then: "}alter table public.${ident(name)} add unique (${ident(legacyKey)});`,
      }),
    );
  }
  if (table.columns[legacyKey] && !table.indexed.includes(legacyKey)) {
    findings.push(
      find("target_legacy_key_not_indexed", {
        column: legacyKey,
        message: `${name}.${legacyKey} has no index: comparing both sides reads the whole table again and again.`,
        remedy: `create index concurrently on public.${ident(name)} (${ident(legacyKey)});`,
      }),
    );
  }
  return findings;
}

function checkColumns(find: Find, entity: Entity, table: TargetCatalogTable): Finding[] {
  const filled = Object.keys(entity.fields).map((column) => {
    const found = table.columns[column];
    if (!found) {
      return find("target_column_missing", {
        column,
        message: `public.${entity.target.table} has no column ${column}.`,
        remedy: "Add the column, or remove the field from the entity file.",
      });
    }
    if (!found.generated) return undefined;
    return find("target_column_generated", {
      column,
      message: `${entity.target.table}.${column} is set by the database itself.`,
      remedy: "Make it an ordinary column, or remove the field from the entity file.",
    });
  });
  const unfilled = Object.entries(table.columns)
    .filter(([column, { required }]) => required && column !== "id" && !Object.hasOwn(entity.fields, column))
    .map(([column]) =>
      find("target_column_required", {
        column,
        message: `${entity.target.table}.${column} needs a value, and no field fills it: every insert would be rejected.`,
        remedy: `Give it a field in the entity file, or: alter table public.${ident(entity.target.table)} alter ${ident(column)} drop not null;`,
      }),
    );
  return [...filled.filter((finding) => finding !== undefined), ...unfilled];
}

function checkParents(find: Find, entity: Entity, table: TargetCatalogTable, byName: ReadonlyMap<string, Entity>): Finding[] {
  return Object.entries(entity.fields).flatMap(([column, { parent }]) => {
    const parentTable = parent === undefined ? undefined : byName.get(parent)?.target.table;
    if (parentTable === undefined || !table.columns[column]) return [];
    const keys = table.foreignKeys.filter((key) => key.column === column);
    const elsewhere = keys.find((key) => key.table !== `public.${parentTable}` || key.references !== "id");
    const own = `${entity.target.table}.${column}`;
    if (elsewhere) {
      return [
        find("target_foreign_key_elsewhere", {
          column,
          message: `${own} gets ids of ${parentTable}, but its foreign key refers to ${elsewhere.table} (${elsewhere.references}).`,
          remedy: `Look the id up in the entity of ${elsewhere.table}, or correct the foreign key.`,
        }),
      ];
    }
    if (keys.length > 0) return [];
    return [
      find("target_foreign_key_missing", {
        column,
        message: `${own} has no foreign key: a deleted row of ${parentTable} would leave its id behind.`,
        remedy: `alter table public.${ident(entity.target.table)} add foreign key (${ident(column)}) references public.${ident(parentTable)} (id);`,
      }),
    ];
  });
}

/** Nothing lands that refers to a row which nobody brings: a field without a parent, or the id that the sync itself gives. */
function checkUnfed(find: Find, entity: Entity, table: TargetCatalogTable, fed: ReadonlySet<string>): Finding[] {
  return table.referred
    .filter(({ columns, table: to }) => !fed.has(to) && columns.some((column) => filledWithoutParent(entity, column)))
    .map(({ name, columns, table: to, empty }) => {
      const own = `${entity.target.table}.${columns.join(", ")}`;
      const always = columns.every((column) => column === "id" || table.columns[column]?.required === true);
      return find("target_reference_unfed", {
        severity: empty && always ? "fatal" : "warn",
        column: columns[0] ?? null,
        message: `${own} refers to ${to}, which no entity feeds${
          empty
            ? " and which is empty: every record with a value there would be rejected"
            : ": a record lands only where the row is there already"
        }.`,
        remedy: `Write an entity that feeds ${to}, have the application fill it before, or: alter table public.${ident(entity.target.table)} drop constraint ${ident(name)};`,
      });
    });
}

/** What a parent's field refers to is looked at as such. */
function filledWithoutParent({ fields }: Entity, column: string): boolean {
  return column === "id" || (Object.hasOwn(fields, column) && fields[column]?.parent === undefined);
}

function checkRights(find: Find, entity: Entity, table: TargetCatalogTable, role: string): Finding[] {
  const owned = Object.keys(entity.fields).filter((column) => table.columns[column]);
  const lacks = (right: "select" | "insert" | "update", columns: readonly string[]) =>
    columns.some((column) => table.columns[column]?.[right] === false) ? [right] : [];
  const withId = table.columns["id"] ? ["id", ...owned] : owned;
  const deletes = deletesRows(entity) && !table.delete ? ["delete"] : [];
  const reads = table.xmin ? lacks("select", withId) : ["select"];
  const missing = [...reads, ...lacks("insert", withId), ...lacks("update", owned), ...deletes];
  const findings: Finding[] = [];
  if (missing.length > 0) {
    findings.push(
      find("target_grant_missing", {
        message: `${role} lacks the right to ${missing.join(", ")} what the entity fills of public.${entity.target.table}.`,
        remedy: workerGrants([entity], role).replaceAll("\n", " "),
      }),
    );
  }
  const schemas = [...new Set(owned.flatMap((column) => table.columns[column]?.typeSchema ?? []))];
  if (schemas.length > 0) {
    findings.push(
      find("target_grant_missing", {
        message: `${role} or isthmus_decisions may not use types of public.${entity.target.table} that stand in the schema ${schemas.join(", ")}.`,
        remedy: `grant usage on schema ${schemas.map(ident).join(", ")} to ${ident(role)}, isthmus_decisions;`,
      }),
    );
  }
  const released = table.released[entity.name] ?? [];
  if (owned.some((column) => !released.includes(column))) {
    findings.push(
      find("target_not_released", {
        message: `The entity is not released as it is defined now: decisions on its conflicts are refused.`,
        remedy: workerGrants([entity], role).replaceAll("\n", " "),
      }),
    );
  }
  if (table.hidden) {
    findings.push(
      find("target_rows_hidden", {
        message: `Row level security of public.${entity.target.table} applies to ${role}.`,
        remedy: `alter role ${ident(role)} bypassrls;`,
      }),
    );
  }
  return findings;
}
