import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ERRORS_FILE, generateErrors } from "../scripts/generate-errors.ts";
import { generateRegistry, REGISTRY_FILE } from "../scripts/generate-registry.ts";
import { ERRORS } from "../shared/errors.ts";
import { registry } from "../shared/entities/registry.gen.ts";

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

async function inFolder(files: Readonly<Record<string, string>>, work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-entities-"));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
