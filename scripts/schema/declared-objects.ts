import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Sql } from "postgres";
import { format, resolveConfig } from "prettier";
import { foundObjects, type FoundObject } from "../../shared/target/objects.ts";
import { namesOfOurs } from "./catalog.ts";
import { declaredFiles, ROOT, type DeclaredFile } from "./declared.ts";
import { freshName, inFreshDatabase, type Server } from "./fresh-database.ts";

/** What `npm run sync -- check` compares a target with. */
export const OBJECTS_FILE = "shared/contract/declared-objects.gen.ts";

/** Writes what a database made by supabase/schemas/ has, beside the version that these files say. */
export async function writeObjects(server: Server, root: string): Promise<void> {
  const path = join(root, OBJECTS_FILE);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, await objectsText(server, declaredFiles(root)));
}

/** The file, for a database made by these files. */
export async function objectsText(server: Server, files: readonly DeclaredFile[]): Promise<string> {
  const sql = files.map((file) => file.sql);
  const objects = await inFreshDatabase(server, freshName(), sql, readObjects);
  const stands = placesOf(files);
  const rows = objects.map(({ object, digest, rights }) => {
    const file = stands.get(object.replace(/\(.*$/, ""));
    return `  { object: ${JSON.stringify(object)}, digest: "${digest}", rights: ${JSON.stringify(rights)}, file: ${JSON.stringify(file ?? null)} },`;
  });
  const text = [
    "// Written by `npm run migration` from a database that supabase/schemas/ makes. Do not edit.",
    'import type { DeclaredObject } from "../target/objects.ts";',
    "",
    "export const DECLARED_OBJECTS: readonly DeclaredObject[] = [",
    ...rows,
    "];",
  ].join("\n");
  return format(text, { ...(await resolveConfig(join(ROOT, OBJECTS_FILE))), parser: "typescript" });
}

/** What of ours a database has, as the check of an installation reads it. */
export async function readObjects(sql: Sql): Promise<readonly FoundObject[]> {
  const { tables, types } = await namesOfOurs(sql);
  return (await foundObjects(sql, tables, types)).objects;
}

const NAME = String.raw`((?:public|sync)\.\w+)`;
const MADE: readonly (readonly [statement: RegExp, object: (name: string, table: string) => string])[] = [
  [new RegExp(String.raw`^create function ${NAME}\(`, "gm"), (name) => `function ${name}`],
  [new RegExp(String.raw`^create table ${NAME} `, "gm"), (name) => `table ${name}`],
  [new RegExp(String.raw`^create sequence ${NAME} `, "gm"), (name) => `sequence ${name}`],
  [new RegExp(String.raw`^create type ${NAME} `, "gm"), (name) => `type ${name}`],
  [new RegExp(String.raw`^alter table ${NAME} enable row level security`, "gm"), (name) => `row level security of ${name}`],
  [new RegExp(String.raw`^create policy (\w+) on ${NAME} `, "gm"), (name, table) => `policy ${name} on ${table}`],
  [
    new RegExp(String.raw`^create (?:constraint )?trigger (\w+)\s[^;]*?\son ${NAME}\s`, "gm"),
    (name, table) => `trigger ${name} on ${table}`,
  ],
];

/** In which file each thing is made. Things that PostgreSQL makes by itself, or a loop, stand in none. */
function placesOf(files: readonly DeclaredFile[]): ReadonlyMap<string, string> {
  return new Map(
    files.flatMap(({ path, sql }) =>
      MADE.flatMap(([statement, object]) =>
        [...sql.matchAll(statement)].map(([, name = "", table = ""]) => [object(name, table), path] as const),
      ),
    ),
  );
}
