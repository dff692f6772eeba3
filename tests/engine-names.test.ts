import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { kindsIn } from "../scripts/generate-kinds.ts";
import { generatedFiles, ROOT } from "../scripts/installations.ts";
import { registry } from "../clinic/entities/registry.gen.ts";

/** Words of the language, of SQL, of the platform or of the sync itself, which the clinic's catalogs happen to have too. */
const ORDINARY = new Set(
  `action address alerts amount attempts body checked comments completed_at conditions content count created_at data date
   deleted description duration email exports extension extensions filename files finish free function id messages name notes number
   offers on order original parameters parent_id percent price projects public read read_only reason roles send sender sent
   setting size start state status status_code text total type uid updated_at used username valid valid_from version`.split(
    /\s+/,
  ),
);

/** The names of all tables and columns of both sides of the clinic, and of its entities. */
function clinicNames(): ReadonlySet<string> {
  const { sourceTypes, targetTypes } = generatedFiles(join(ROOT, "clinic"));
  const tables = [sourceTypes, targetTypes].flatMap((file) => [...kindsIn(readFileSync(file, "utf8"))]);
  return new Set([...registry.map(({ name }) => name), ...tables.flatMap(([table, columns]) => [table, ...columns.keys()])]);
}

const NAMES = clinicNames();

function namesIn(text: string, ordinary: ReadonlySet<string> = ORDINARY): string[] {
  const words = new Set(text.match(/[A-Za-z_]\w*/g));
  return [...words].filter((word) => NAMES.has(word) && !ordinary.has(word));
}

const FILES = ["shared", "functions", "cli", "local", "scripts", "supabase/schemas", "migrations"].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => /\.(ts|mjs|sql)$/.test(file))
    .map((file) => join(folder, file)),
);

describe("the engine names no table, column or entity of the clinic", () => {
  it("in any of its files, comments included", () => {
    expect(FILES.length).toBeGreaterThan(200);
    const found = FILES.flatMap((file) => namesIn(readFileSync(join(ROOT, file), "utf8")).map((name) => `${file}: ${name}`));
    expect(found).toEqual([]);
  });

  it("but for ordinary words, each of which is needed", () => {
    const used = new Set(namesIn(FILES.map((file) => readFileSync(join(ROOT, file), "utf8")).join("\n"), new Set()));
    expect([...ORDINARY].filter((word) => !used.has(word))).toEqual([]);
  });

  it.each([
    ["select id from public.dispatch_patient", ["dispatch_patient"]],
    ["const table = `auth_user`;", ["auth_user"]],
    ["// as patients do", ["patients"]],
    ["row['legacy_office_id']", ["legacy_office_id"]],
    ["patients_of_a_test", []],
  ])("%s", (text, names) => expect(namesIn(text)).toEqual(names));
});
