import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { ERRORS_FILE, generateErrors } from "../scripts/generate-errors.ts";
import { ENTITIES_DIR, generateRegistry, REGISTRY_FILE } from "../scripts/generate-registry.ts";
import { writeOrCheck } from "../scripts/write-or-check.ts";
import { ERRORS } from "../shared/errors.ts";
import { patients } from "../shared/entities/patients.ts";
import { codeHashes, registry } from "../shared/entities/registry.gen.ts";
import { definitionHash } from "../shared/entities/validate-registry.ts";

describe("generated files (after a change of their sources: npm run generate)", () => {
  it("the registry names exactly the entity files of its folder", async () => {
    expect(readFileSync(REGISTRY_FILE, "utf8")).toBe(await generateRegistry());
    expect(registry.length).toBeGreaterThan(0);
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
        "lab-orders.ts": "export const labOrders = defineEntity({});",
        "bills.ts": "export const bills = defineEntity({});",
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
      cpSync(ENTITIES_DIR, folder, { recursive: true });
      const hashes = async () => [...(await generateRegistry(folder)).matchAll(/\[(\w+)\.name\]:\s*"(\w{40})"/g)];
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
    ["a helper of its file", "patients.ts", "function isPlainDate(", "function isPlainDate(_: unknown, ", ["patients"]],
    ["a comment", "patients.ts", "import {", "// A remark.\nimport {", []],
    ["a type that all files share", "fields.ts", "interface FieldExtras", "interface More {}\ninterface FieldExtras", []],
  ])("changes with %s: %s", async (_, file, of, instead, entities) => {
    expect(await changedBy(file, of, instead)).toEqual(entities);
  });

  it("changes for every entity with a helper that all files run", async () => {
    expect(await changedBy("fields.ts", "JSON.parse(text)", "JSON.parse(text.trim())")).toHaveLength(registry.length);
    expect(await changedBy("rules.ts", "(-?)(\\d+)", "(-?)([0-9]+)")).toHaveLength(registry.length);
  });

  it("is part of the definition's hash, where the entity has a file", () => {
    expect(Object.keys(codeHashes).sort()).toEqual(registry.map(({ name }) => name).sort());
    const hashes = [{}, { patients: "a" }, { patients: "b" }].map((code) => definitionHash(patients, code));
    expect(new Set([...hashes, definitionHash(patients)]).size).toBe(4);
    expect(definitionHash({ ...patients, name: "of_a_test" })).toMatch(/^[0-9a-f]{40}$/);
  });

  it("is noticed by generate:check when it is not what the registry says", async () => {
    const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    const files = {
      "define-entity.ts": "export const help = 1;",
      "bills.ts": 'import "./define-entity.ts";\nexport const bills = defineEntity({});',
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
      writeFileSync(join(folder, "define-entity.ts"), "export const help = 2;");
      expect(await check()).toBe(1);
    });
    said.mockRestore();
  });
});

async function inFolder(files: Readonly<Record<string, string>>, work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-entities-"));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
