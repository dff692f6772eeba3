import { join, relative } from "node:path";
import postgres from "postgres";
import { fileOf } from "./init/names.ts";
import type { Chosen } from "./init/pair-tables.ts";
import { writeInstallation, type Written } from "./init/write.ts";
import { ROOT } from "./installations.ts";

// What `npm run sync -- init FOLDER [TABLES]` runs. Exit code 2: it was not given what it needs.
const [name = "", tables] = process.argv.slice(2);
// Below another folder, as examples/ has them, too.
if (!/^(\.?[a-z][a-z0-9-]*\/)?[a-z][a-z0-9-]*$/.test(name))
  refuse(`${name} can be no name of an installation: lower-case letters, digits and dashes.`);
const { SOURCE_DB_URL: source, TARGET_DB_URL: target } = process.env;
if (source === undefined || target === undefined) refuse("SOURCE_DB_URL and TARGET_DB_URL are not set.");

const folder = join(ROOT, name);
const clients = [source, target].map((url) => postgres(url, { max: 1, onnotice: () => undefined }));
try {
  const [there, here] = clients;
  if (there && here) say(await writeInstallation(folder, there, here, chosen(tables)));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  await Promise.all(clients.map((client) => client.end()));
}

/** `books,old_authors=authors`: source table → target table, or null where its name is to tell. */
function chosen(list: string | undefined): Chosen | undefined {
  if (list === undefined) return undefined;
  return new Map(
    list.split(",").map((one) => {
      const [from = "", to] = one.split("=");
      return [from.trim(), to?.trim() ?? null];
    }),
  );
}

function say({ entities, left, denied, open }: Written): void {
  const lines = [
    `${relative(ROOT, folder)}/ was written: ${entities.length} entities.`,
    ...entities.map(
      (pair) =>
        `  entities/${fileOf(pair.name)}.ts: ${pair.source} → ${pair.target}, ${pair.key.column} → ${pair.legacyKey.column} (the legacy key)`,
    ),
    ...(left.length > 0 ? ["", "No entity was made of:", ...left.map(({ table, reason }) => `  ${table}: ${reason}`)] : []),
    "",
    `Stay in the source (denied.ts): ${denied.length > 0 ? denied.join(", ") : "no column has a name that says it is secret"}.`,
    "",
    ...(open.length > 0 ? [`To be decided (${open.length}); nothing starts before:`, ...open.map((line) => `  ${line}`)] : []),
    "",
    "Then:",
    `  1. Write { "installation": "${name}" } into isthmus.json, and run npm run generate && npm run typecheck.`,
    "  2. npm run sync -- setup --env-file ../isthmus.env",
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

function refuse(text: string): never {
  process.stderr.write(`${text}\n`);
  process.exit(2);
}
