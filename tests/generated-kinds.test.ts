import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generateKinds, kindsIn } from "../scripts/generate-kinds.ts";
import { generatedFiles, ROOT } from "../scripts/installations.ts";
import { columnsRead } from "../shared/entity/columns-read.ts";
import { orders } from "../clinic/entities/orders.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { profiles } from "../clinic/entities/profiles.ts";
import { besideColumns, targetKinds } from "../clinic/schema/column-kinds.gen.ts";
import { compiledKind } from "../shared/entity/kinds.ts";

const CLINIC = `${ROOT}/clinic`;
const TYPES = `export interface SourceTables {
  dispatch_instruction: { id: { type: "integer"; ids: "dispatch_instruction" }; price: { type: "numeric" } };
}`;

describe("what the check of the live catalogs knows of the columns that entity files were compiled against", () => {
  it("is generated from the types: run npm run generate after a change of entities or types", async () => {
    expect(readFileSync(generatedFiles(CLINIC).kinds, "utf8")).toBe(await generateKinds(CLINIC, registry));
  });

  it("holds the columns that entities name, and no other", async () => {
    const text = await generateKinds(CLINIC, [orders], TYPES, "export interface TargetTables {}");
    expect(text).toContain(`dispatch_instruction: { integer: "id", numeric: "price" }`);
    expect(text).not.toContain("dispatch_office");
  });

  it("holds every column of the tables that drive no entity, and of these alone", () => {
    expect(Object.keys(besideColumns)).toEqual(expect.arrayContaining(["auth_permission", "dispatch_doctorsetting"]));
    expect(Object.keys(besideColumns).filter((table) => registry.some(({ source }) => source.table === table))).toEqual([]);
    expect(besideColumns["auth_permission"]).toBe("codename content_type_id id name");
    const read = new Set(registry.flatMap((entity) => [...columnsRead(entity).keys()]));
    const driving = registry.map(({ source }) => source.table);
    expect(Object.keys(besideColumns).length).toBe([...read].filter((table) => !driving.includes(table)).length);
  });

  it("reads every kind of the generated types", () => {
    expect(kindsIn(TYPES).get("dispatch_instruction")?.get("price")).toBe("numeric");
    expect(compiledKind({ t: { integer: "a b", text: "c" } }, "t", "b")).toBe("integer");
    expect(compiledKind({ t: { integer: "a b", text: "c" } }, "t", "d")).toBeUndefined();
    expect(compiledKind({}, "t", "b")).toBeUndefined();
  });

  it("knows the columns of driving, joined and watched tables, each with xmin, by which changes are found", () => {
    const read = columnsRead(profiles);
    expect(read.get("auth_user")).toContain("is_superuser");
    expect([...(read.get("dispatch_patient") ?? [])]).toEqual(expect.arrayContaining(["xmin", "user_id", "sex", "doctor_id"]));
    expect([...(read.get("dispatch_usersetting") ?? [])].sort()).toEqual(["id", "user_id", "xmin"]);
    expect(read.get("auth_group")).toContain("name");
  });

  it("finds every value that a field can yield beside it where the column is an enum", () => {
    const unknown = registry.flatMap(({ name, target, fields }) =>
      Object.entries(fields)
        .filter(([column, field]) => compiledKind(targetKinds, target.table, column) === "enum" && field.members === undefined)
        .map(([column]) => `${name}.${column}`),
    );
    expect(unknown).toEqual([]);
    expect(profiles.fields["gender"]?.members).toEqual(["other", "male", "female", "unknown"]);
  });

  it("takes no word of prose for a column", () => {
    const predicate = {
      name: "old",
      version: 1,
      where: "i.deleted",
      reason: "of no use, i.e. never read",
      onLeave: "keep",
    } as const;
    const read = columnsRead({ ...orders, source: { ...orders.source, predicate } });
    expect(read.get("dispatch_instruction")).not.toContain("e");
  });
});
