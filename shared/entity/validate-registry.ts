import { sha1 } from "@noble/hashes/legacy.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { ColumnSource } from "./columns.ts";
import { columnsOf, sqlOf, textOf } from "./consumed-joins.ts";
import { definitionOf, type Entity } from "./define-entity.ts";
import { deniedColumns, mentions, onRequest, type Denied } from "./denied.ts";
import { SIMPLE_NAME, sqlProblems } from "./entity-sql.ts";
import { exposedColumns } from "./sensitive.ts";
import { questionsWithin } from "./undecided.ts";

/** Of a name of PostgreSQL, in bytes: longer ones are cut. */
const LONGEST_NAME = 63;

/**
 * Everything the compiler cannot check about a set of entities, of a source with these denied columns; empty when all
 * is well.
 * @returns one sentence per problem, each naming its entity.
 */
export function validateRegistry(entities: readonly Entity[], denied: Denied): string[] {
  const byName = new Map(entities.map((entity) => [entity.name, entity]));
  const problems: string[] = [];
  for (const list of [entities.map((e) => e.name), entities.map((e) => e.target.table)]) {
    const twice = list.filter((name, index) => list.indexOf(name) !== index);
    if (twice.length > 0) problems.push(`${twice.join(", ")}: defined twice.`);
  }
  for (const entity of entities) {
    const say = (text: string) => problems.push(`${entity.name}: ${text}`);
    const { columns, ignored } = entity.source;
    for (const question of entity.undecided ?? []) say(`something in it is undecided: ${question}`);
    for (const [name, source] of Object.entries(columns)) {
      const sql = sqlOf(source);
      if (typeof source !== "string" && source.undecided !== undefined) say(`column ${name} is undecided: ${source.undecided}`);
      if (!SIMPLE_NAME.test(name) || name.startsWith("_"))
        say(`column ${name} must be a plain lower-case name, without a _ before it.`);
      for (const secret of deniedColumns(denied)) {
        if (mentions(sql, secret)) say(`column ${name} reads ${secret}, which never leaves the source.`);
      }
    }
    for (const [name, reason] of Object.entries(ignored)) {
      for (const { question } of questionsWithin(reason)) say(`ignored column ${name} is undecided: ${question}`);
      if (reason?.trim() === "") say(`ignored column ${name} needs a reason.`);
      if (sourceColumnsRead(entity).has(name)) say(`column ${name} is both read and ignored.`);
    }
    for (const [name, field] of Object.entries(entity.fields)) {
      if (field.undecided !== undefined) say(`field ${name} is undecided: ${field.undecided}`);
      if (name === "" || name.includes("\u0000") || new TextEncoder().encode(name).length > LONGEST_NAME)
        say(`field ${name} can be no column of PostgreSQL: it has 1 to ${LONGEST_NAME} bytes.`);
      for (const column of field.columns) {
        if (column !== "_key" && !Object.hasOwn(columns, column))
          say(`field ${name} uses column ${column}, which is not declared.`);
        for (const opened of field.sensitive ? [] : onRequest(denied, readOf(columns[column])))
          say(`field ${name} reads ${opened}: mark it sensitive.`);
      }
      if (field.parent !== undefined && !byName.has(field.parent)) {
        say(`field ${name} refers to ${field.parent}, which is not an entity.`);
      }
      for (const other of field.landedAs ?? []) {
        const { table, key } = byName.get(other)?.source ?? {};
        if (table !== entity.source.table || key !== entity.source.key)
          say(`field ${name} asks whether a record has landed as ${other}, which is not an entity of ${entity.source.table}.`);
      }
    }
    for (const { id, version, fields, remedy } of entity.rules) {
      if (!SIMPLE_NAME.test(id) || !Number.isInteger(version) || version < 1)
        say(`rule ${id}@${version} needs a plain name and a version.`);
      if (entity.rules.filter((other) => other.id === id).length > 1) say(`rule ${id} is defined twice.`);
      if (remedy.trim() === "") say(`rule ${id} needs a remedy.`);
      for (const name of fields) if (!Object.hasOwn(entity.fields, name)) say(`rule ${id} looks at ${name}, which is no field.`);
    }
    for (const name of Object.keys(typeof entity.onDelete === "string" ? {} : entity.onDelete.soft))
      if (!Object.hasOwn(entity.fields, name)) say(`onDelete marks ${name}, which is no field.`);
    problems.push(...predicateProblems(entity, entities).map((text) => `${entity.name}: ${text}`));
    const used = new Set(Object.values(entity.fields).flatMap((field) => field.columns));
    const open = Object.values(entity.fields).some((field) => field.undecided !== undefined);
    for (const name of open ? [] : Object.keys(columns)) if (!used.has(name)) say(`column ${name} is read but no field uses it.`);
    for (const problem of sqlProblems(entity, denied)) say(problem);
  }
  problems.push(...exposedColumns(entities), ...circlesOf(entities));
  return problems;
}

function readOf(column: ColumnSource | undefined): string {
  return column === undefined ? "" : sqlOf(column);
}

/** Columns of the driving table that the projection reads. */
export function sourceColumnsRead(entity: Entity): Set<string> {
  return new Set([entity.source.key, ...columnsOf(entity.source.alias, textOf(entity))]);
}

/**
 * Fingerprint of what an entity does to its records; when it changes, everything is projected again. A definition has
 * its own functions as text, but not what they call: that is in `code`, the hashes of the code behind entities that
 * have a file, and of what the engine makes of them.
 */
export function definitionHash(entity: Entity, code: Readonly<Record<string, string>> = {}): string {
  const behind = code[entity.name];
  return bytesToHex(sha1(utf8ToBytes(JSON.stringify([definitionOf(entity, behind === undefined), behind ?? null]))));
}

function predicateProblems({ name, source }: Entity, entities: readonly Entity[]): string[] {
  const { predicate, where } = source;
  if (!predicate) return [];
  const called = `predicate ${predicate.name}@${predicate.version}`;
  const problems: string[] = [];
  if (!SIMPLE_NAME.test(predicate.name) || !Number.isInteger(predicate.version) || predicate.version < 1)
    problems.push(`${called} needs a plain name and a version.`);
  if (predicate.where.trim() === "") problems.push(`${called} needs a condition.`);
  if (predicate.reason.trim() === "") problems.push(`${called} needs a reason.`);
  if (where !== undefined) problems.push(`${called} stands instead of where: write both conditions into one of them.`);
  const children = entities.filter((entity) => Object.values(entity.fields).some((field) => field.parent === name));
  if (children.length > 0)
    problems.push(`${called} would waive records that ${children.map((child) => child.name).join(", ")} may refer to.`);
  return problems;
}

/** Entities that need each other: no order of theirs has parents before children. Each circle is told with the fields that close it. */
function circlesOf(entities: readonly Entity[]): string[] {
  const problems: string[] = [];
  let left = new Map(entities.map((entity) => [entity.name, entity]));
  const parentOf = (entity: Entity) => left.get(entity.dependsOn.find((name) => name !== entity.name && left.has(name)) ?? "");
  while (left.size > 0) {
    const bound = [...left].filter(([, entity]) => parentOf(entity) !== undefined);
    if (bound.length === left.size) {
      const path: Entity[] = [];
      // Each of those left needs another one of them: whoever is followed leads into a circle.
      let at: Entity | undefined = bound[0]?.[1];
      while (at !== undefined && !path.includes(at)) {
        path.push(at);
        at = parentOf(at);
      }
      problems.push(circleProblem(path.slice(at === undefined ? 0 : path.indexOf(at))));
      for (const { name } of path) left.delete(name);
    } else {
      left = new Map(bound);
    }
  }
  return problems;
}

function circleProblem(circle: readonly Entity[]): string {
  const steps = circle.map((entity, index) => {
    const next = circle[(index + 1) % circle.length]?.name ?? "";
    const field = Object.entries(entity.fields).find(([, { parent }]) => parent === next)?.[0];
    return `${entity.name}${field === undefined ? "" : `.${field}`} → `;
  });
  return `${steps.join("")}${circle[0]?.name ?? ""}: depend on each other in a circle, so that none of their records could land first. Leave one of these fields out of its entity, and have the application fill it.`;
}
