import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { ERRORS_FILE, generateErrors } from "../scripts/generate-errors.ts";
import { FUNCTIONS, installedFiles, sourceFiles } from "../cli/setup/deploy-functions.ts";
import { generateInstallation, INSTALLATION_FILE } from "../scripts/generate-installation.ts";
import { generateKinds } from "../scripts/generate-kinds.ts";
import { generateRegistry } from "../scripts/generate-registry.ts";
import { configuredFolder, generatedFiles, installationFolders, loadInstallation, ROOT } from "../scripts/installations.ts";
import { writeOrCheck } from "../scripts/write-or-check.ts";
import { ERRORS } from "../shared/errors.ts";
import { patients } from "../clinic/entities/patients.ts";
import { codeHashes, registry } from "../clinic/entities/registry.gen.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { importGraph } from "./support/import-graph.ts";

const CLINIC = join(ROOT, "clinic");

describe("generated files (after a change of their sources: npm run generate)", { timeout: 60_000 }, () => {
  it.each(installationFolders().map((folder) => relative(ROOT, folder)))(
    "%s has the registry and the kinds of its files",
    async (name) => {
      const folder = join(ROOT, name);
      const [{ entities }, files] = [await loadInstallation(folder), generatedFiles(folder)];
      expect(readFileSync(files.registry, "utf8")).toBe(await generateRegistry(join(folder, "entities")));
      expect(readFileSync(files.kinds, "utf8")).toBe(await generateKinds(folder, entities));
      expect(entities.length).toBeGreaterThan(0);
    },
  );

  it("these are all installations that there are", () => {
    const names = installationFolders().map((folder) => relative(ROOT, folder));
    expect(names).toEqual(expect.arrayContaining(["clinic", "examples/music-shop"]));
  });

  it("the functions have the installation that isthmus.json names", async () => {
    expect(readFileSync(INSTALLATION_FILE, "utf8")).toBe(await generateInstallation());
    expect(configuredFolder()).toBe(CLINIC);
    await inFolder({ "isthmus.json": '{ "installation": "docs" }' }, (folder) => {
      expect(() => configuredFolder(join(folder, "isthmus.json"))).toThrow(/must name a folder that holds an installation\.ts/);
      return Promise.resolve();
    });
    expect(await generateInstallation(join(ROOT, "examples/shop"))).toContain('from "../examples/shop/installation.ts"');
  });

  it("a function is deployed anew when any file of it has changed, and nothing else of the installation", () => {
    const counted = sourceFiles();
    for (const name of FUNCTIONS)
      expect(counted).toEqual(expect.arrayContaining([...importGraph(ROOT, `functions/${name}/index.ts`).files]));
    expect(counted.filter((file) => /^clinic\/(dataset|source|target|demo)/.test(file))).toEqual([]);
  });

  it("so does a change of any code of the installation that an entity may import, wherever it lies", async () => {
    const files = [
      "codes.ts",
      "demo.ts",
      "domain.md",
      "installation.ts",
      "lists/countries.json",
      "source/a.sql",
      "dataset/rows.ts",
    ];
    await inFolder(Object.fromEntries(files.map((file) => [`my-company/${file}`, ""])), (folder) => {
      const counted = ["codes.ts", "installation.ts", "lists/countries.json"].map((file) => `my-company/${file}`);
      expect(installedFiles("my-company", folder).sort()).toEqual(counted);
      return Promise.resolve();
    });
  });

  it("docs/errors.md says what shared/errors.ts says, a row for each code", async () => {
    const text = readFileSync(ERRORS_FILE, "utf8");
    expect(text).toBe(await generateErrors());
    for (const code of Object.keys(ERRORS)) expect(text).toContain(`| \`${code}\``);
  });

  it("a new entity file enters the registry; helpers and the registry itself do not", async () => {
    await inFolder(
      {
        "define-entity.ts": "export function defineEntity() {}",
        "lab-orders.ts": "import { defineEntity } from './define-entity.ts';\nexport const labOrders = defineEntity({});",
        "bills.ts": "import { defineEntity } from './define-entity.ts';\nexport const bills = defineEntity({});",
        "validate-registry.ts": "// checks what defineEntity made",
        "registry.gen.ts": "export const registry = defineEntity({});",
      },
      async (folder) => {
        const text = await generateRegistry(folder);
        expect(text).toContain(
          `import { bills } from "./bills.ts";\nimport { labOrders } from "./lab-orders.ts";\n\nexport const registry`,
        );
        expect(text).toContain("[bills, labOrders];");
      },
    );
  });

  it("an entity file whose export is not named after it is refused", async () => {
    await inFolder({ "bills.ts": "export const invoices = defineEntity({});" }, async (folder) => {
      await expect(generateRegistry(folder)).rejects.toThrow(
        "bills.ts must `export const bills = defineEntity(...)`; found invoices.",
      );
    });
  });
});

describe("the code behind an entity", { timeout: 60_000 }, () => {
  /** The entities whose hash is another after an edit of a file. */
  const changedBy = async (file: string, of: string, instead: string) => {
    let changed: (string | undefined)[] = [];
    await inFolder({}, async (folder) => {
      for (const part of ["clinic", "shared"]) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
      const hashes = async () => [
        ...(await generateRegistry(join(folder, "clinic/entities"))).matchAll(/\[(\w+)\.name\]:\s*"(\w{40})"/g),
      ];
      const before = await hashes();
      expect(before.length).toBe(registry.length);
      const text = readFileSync(join(folder, file), "utf8");
      expect(text).toContain(of);
      writeFileSync(join(folder, file), text.replace(of, instead));
      const after = await hashes();
      changed = after.filter(([, , hash], index) => hash !== before[index]?.[2]).map(([, name]) => name);
    });
    return changed;
  };

  it.each([
    [
      "a helper of its file",
      "clinic/entities/patients.ts",
      "function isPlainDate(",
      "function isPlainDate(_: unknown, ",
      ["patients"],
    ],
    ["a comment", "clinic/entities/patients.ts", "import {", "// A remark.\nimport {", []],
    [
      "a type that all files share",
      "shared/entity/fields.ts",
      "interface FieldExtras",
      "interface More {}\ninterface FieldExtras",
      [],
    ],
  ])("changes with %s: %s", async (_, file, of, instead, entities) => {
    expect(await changedBy(file, of, instead)).toEqual(entities);
  });

  it.each([
    [
      "the JSON that a text may be",
      "shared/entity/fields.ts",
      "JSON.parse(text);",
      "JSON.parse(text.replaceAll(\"'\", '\"'));\n    if (text === '{}') return null;",
    ],
    ["what counts as none", "shared/entity/fields.ts", "(null)?\\s*$/i", "(null|none|a)?\\s*$/i"],
    ["the SQL that reads a record", "shared/source/projection.ts", "order by r.place`", "order by r.place desc`"],
  ])("changes for whom the engine makes something else of %s", async (_, file, of, instead) => {
    const changed = await changedBy(file, of, instead);
    expect(changed.length).toBeGreaterThan(0);
    if (file.endsWith("projection.ts")) expect(changed).toHaveLength(registry.length);
    else expect(changed.length).toBeLessThan(registry.length);
  });

  it.each([
    ["shared/entity/fields.ts", "JSON.parse(text)", "JSON.parse(text.trim())"],
    ["shared/entity/rules.ts", "(-?)(\\d+)", "(-?)([0-9]+)"],
    ["shared/entity/fields.ts", "correct it in the source, or add it", "mend it in the source, or add it"],
    ["shared/entity/validate-registry.ts", "defined twice.", "defined two times."],
    ["shared/source/projection.ts", "order by r.place`", "  order by r.place`"],
  ])("stays where the engine is written otherwise and makes the same: %s, %s", async (file, of, instead) => {
    expect(await changedBy(file, of, instead)).toEqual([]);
  });

  it("is refused with the installation where a file does not run", async () => {
    await inFolder({ "bills.ts": "export const bills = defineEntity({});" }, async (folder) => {
      await expect(generateRegistry(folder)).rejects.toThrow(/entity files of .* do not run: ReferenceError/);
    });
  });

  it("is part of the definition's hash, where the entity has a file", () => {
    expect(Object.keys(codeHashes).sort()).toEqual(registry.map(({ name }) => name).sort());
    const hashes = [{}, { patients: "a" }, { patients: "b" }, codeHashes].map((code) => definitionHash(patients, code));
    expect(new Set(hashes).size).toBe(4);
    expect(definitionHash({ ...patients, name: "of_a_test" }, codeHashes)).toMatch(/^[0-9a-f]{40}$/);
  });

  it("is noticed by generate:check when it is not what the registry says", async () => {
    const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    const files = {
      "define-entity.ts": "export const help = 1; export const defineEntity = () => help;",
      "bills.ts": 'import { defineEntity } from "./define-entity.ts";\nexport const bills = defineEntity({});',
    };
    await inFolder(files, async (folder) => {
      const generated = join(folder, "registry.gen.ts");
      const check = async () => {
        writeOrCheck(generated, await generateRegistry(folder), ["--check"]);
        const code = process.exitCode;
        process.exitCode = undefined;
        return code;
      };
      writeOrCheck(generated, await generateRegistry(folder), []);
      expect(await check()).toBeUndefined();
      writeFileSync(join(folder, "define-entity.ts"), "export const help = 2; export const defineEntity = () => help;");
      expect(await check()).toBe(1);
    });
    said.mockRestore();
  });
});

async function inFolder(files: Readonly<Record<string, string>>, work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-entities-"));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
