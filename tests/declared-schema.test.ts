import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { baseline } from "../scripts/schema/baseline.ts";
import { declaredFiles, ROOT } from "../scripts/schema/declared.ts";
import { versionsOf } from "../scripts/schema/version.ts";
import { migrationFiles, problemsOf, releasedMigrations, sha256, unreleased } from "../scripts/schema/migration-files.ts";

describe("supabase/schemas/ says what the database is", () => {
  it("each of its files stands in schema_paths of supabase/config.toml once; another one is named", () => {
    expect(declaredFiles().length).toBeGreaterThan(70);
    const folder = mkdtempSync(join(tmpdir(), "isthmus-declared-"));
    try {
      cpSync(join(ROOT, "supabase/schemas"), join(folder, "supabase/schemas"), { recursive: true });
      const config = readFileSync(join(ROOT, "supabase/config.toml"), "utf8");
      const write = (text: string) => writeFileSync(join(folder, "supabase/config.toml"), text);
      write(config);
      expect(declaredFiles(folder)).toEqual(declaredFiles());
      writeFileSync(join(folder, "supabase/schemas/functions/more.sql"), "select 1;\n");
      expect(() => declaredFiles(folder)).toThrow("schemas/functions/more.sql is not in the list");
      write(
        config.replace('"./schemas/functions/alerts.sql",', '"./schemas/functions/more.sql", "./schemas/functions/more.sql",'),
      );
      expect(() => declaredFiles(folder)).toThrow(/alerts.sql is not in the list.*more.sql is in the list twice/);
      rmSync(join(folder, "supabase/schemas/functions/more.sql"));
      expect(() => declaredFiles(folder)).toThrow("schemas/functions/more.sql does not exist");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("is made of files that can be read at a sitting, each beginning with its purpose", () => {
    for (const { path, sql } of declaredFiles()) {
      expect(sql.split("\n").length, path).toBeLessThanOrEqual(321);
      expect(sql, path).toMatch(/^-- Purpose: \S/);
    }
  });
});

describe("migrations/", () => {
  it("has the released ones as they were released, and what is not released follows them (npm run migration)", () => {
    expect(problemsOf(migrationFiles(), releasedMigrations())).toEqual([]);
  });

  it("begins with what supabase/schemas/ says, as long as nothing is released (npm run migration)", () => {
    if (releasedMigrations().length > 0) return;
    const declaredAs = baseline(declaredFiles(), "0.1.0");
    const behind = unreleased(migrationFiles(), []).filter(
      ({ file, sql }, at) => file !== declaredAs[at]?.file || sql !== declaredAs[at].sql,
    );
    expect(behind.map(({ file }) => file)).toEqual([]);
    expect(migrationFiles().length).toBe(declaredAs.length);
  });

  it("gives its last version to the database and to the functions (npm run migration)", () => {
    const last = migrationFiles().at(-1)?.file.slice(0, 14);
    expect(versionsOf(ROOT)).toEqual([last, last]);
  });

  const files = [
    { file: "20270101000000_first.sql", sql: "select 1;" },
    { file: "20270201000000_second.sql", sql: "select 2;" },
    { file: "20270301000000_third.sql", sql: "select 3;" },
  ] as const;
  const released = files.slice(0, 2).map(({ file, sql }) => ({ release: "0.1.0", file, sha256: sha256(sql) }));

  it.each([
    ["released and unreleased in order", files, []],
    [
      "a released one edited by a space",
      [{ ...files[0], sql: "select 1; " }, files[1]],
      [/20270101000000_first.sql was edited after release 0.1.0/],
    ],
    ["a released one missing", [files[1]], [/20270101000000_first.sql is missing: release 0.1.0 has it/]],
    [
      "a released one renamed",
      [{ ...files[0], file: "20270101000001_first.sql" }, files[1]],
      [/first.sql is missing/, /000001_first.sql comes before/],
    ],
    [
      "a new one before a released one",
      [...files, { file: "20270115000000_late.sql", sql: "" }],
      [/20270115000000_late.sql comes before 20270201000000_second.sql/],
    ],
    ["a name that no tool applies", [...files, { file: "later.sql", sql: "" }], [/later.sql is not named/]],
    ["an unreleased one edited", [files[0], files[1], { ...files[2], sql: "select 4;" }], []],
  ])("%s: is told", (_, present, expected) => {
    const problems = problemsOf(present, released);
    expect(problems).toHaveLength(expected.length);
    expected.forEach((pattern, at) => expect(problems[at]).toMatch(pattern));
  });
});
