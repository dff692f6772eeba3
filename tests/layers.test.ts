import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

interface Import {
  readonly from: string;
  readonly to: string;
  /** Types vanish when the code runs: they may point anywhere. */
  readonly typeOnly: boolean;
}

/** A layer's folder or file → what it may import, itself included. The first entry that matches a file counts. */
const LAYERS: readonly { readonly layer: RegExp; readonly may: readonly RegExp[]; readonly rule: string }[] = [
  {
    layer: /^functions\/(sync-[a-z]+)\//,
    may: [/^functions\/deno-runtime\.ts$/, /^shared\//],
    rule: "functions import shared/ and never each other",
  },
  {
    layer: /^functions\/deno-runtime\.ts$/,
    may: [/^shared\/(log|runtime)\.ts$/],
    rule: "the runtime imports only log and runtime",
  },
  { layer: /^shared\/context\.ts$/, may: [/^shared\//], rule: "context wires everything" },
  {
    layer: /^shared\/http\//,
    may: [/^shared\/http\//, /^shared\/(errors|log|config|clock)\.ts$/],
    rule: "http imports only http and the base",
  },
  {
    layer: /^shared\/jobs\//,
    may: [/^shared\/(jobs|sql|db|entities)\//, /^shared\/(errors|log|config|clock)\.ts$/],
    rule: "jobs import sql, db and entities",
  },
  {
    layer: /^shared\/pipeline\/run-page\.ts$/,
    may: [/^shared\/(pipeline|sql|db|entities)\//, /^shared\/errors\.ts$/],
    rule: "run-page imports the stages",
  },
  {
    layer: /^shared\/pipeline\//,
    may: [
      /^shared\/pipeline\/(types|cache-script|mint-uuid)\.ts$/,
      /^shared\/(sql|db|entities)\//,
      /^shared\/(errors|log|config|clock)\.ts$/,
    ],
    rule: "stages never import each other",
  },
  {
    layer: /^shared\/sql\//,
    may: [/^shared\/(sql|db)\//, /^shared\/entities\/define-entity\.ts$/, /^shared\/errors\.ts$/],
    rule: "sql imports db",
  },
  {
    layer: /^shared\/db\//,
    may: [/^shared\/db\//, /^shared\/(errors|log|config)\.ts$/],
    rule: "db imports errors, log and config",
  },
  { layer: /^shared\/entities\/(registry\.gen)\.ts$/, may: [/^shared\/entities\//], rule: "the registry imports the entities" },
  { layer: /^shared\/entities\//, may: [/^shared\/entities\/define-entity\.ts$/], rule: "entities import only define-entity" },
  { layer: /^shared\//, may: [/^shared\/(errors|log|config|clock|runtime)\.ts$/], rule: "the base imports only the base" },
  { layer: /^local\/dataset\//, may: [/^local\/dataset\//], rule: "the dataset generator shares no code with the pipeline" },
  { layer: /^tests\/verifier\//, may: [/^tests\/verifier\//], rule: "the verifier shares no code with the pipeline" },
  { layer: /^local\//, may: [/^local\//, /^shared\//], rule: "local imports local and shared" },
];

/** One sentence per import that breaks a rule. */
function violations(imports: readonly Import[]): string[] {
  return imports.flatMap(({ from, to, typeOnly }) => {
    const layer = LAYERS.find((entry) => entry.layer.test(from));
    if (!layer) return [];
    // Not even types between functions, or from what must share nothing.
    const strict = /^(functions\/sync|local\/dataset|tests\/verifier)/.test(from);
    if (typeOnly && !strict) return [];
    const own = layer.layer.exec(from)?.[1];
    if (own !== undefined && /^functions\//.test(from) && to.startsWith(`functions/${own}/`)) return [];
    return layer.may.some((allowed) => allowed.test(to)) ? [] : [`${from} imports ${to}: ${layer.rule}.`];
  });
}

const ROOT = resolve(import.meta.dirname, "..");

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return sources(path);
    return path.endsWith(".ts") ? [path] : [];
  });
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), "utf8");
  return [...text.matchAll(/(?:import|export)\s+(type\s)?[^;"']*?from\s+"(\.[^"]+)"|import\("(\.[^"]+)"\)/g)].map((match) => ({
    from: file,
    to: relative(ROOT, resolve(ROOT, dirname(file), match[2] ?? match[3] ?? "")),
    typeOnly: match[1] !== undefined,
  }));
}

const FILES = ["functions", "shared", "local"].flatMap(sources);

describe("imports run one way", () => {
  it("in the whole tree", () => {
    const all = FILES.flatMap(importsOf);
    expect(all.length).toBeGreaterThan(100);
    expect(violations(all)).toEqual([]);
  });

  it.each([
    ["shared/db/query.ts", "shared/sql/pages.ts", "shared/errors.ts"],
    ["shared/pipeline/transform.ts", "shared/pipeline/map-ids.ts", "shared/pipeline/types.ts"],
    ["shared/entities/patients.ts", "shared/db/ident.ts", "shared/entities/define-entity.ts"],
    ["functions/sync-page/handler.ts", "functions/sync-tick/handler.ts", "functions/sync-page/other.ts"],
    ["local/dataset/load.ts", "shared/db/ident.ts", "local/dataset/copy.ts"],
    ["tests/verifier/recompute.ts", "shared/db/ident.ts", "tests/verifier/sql.ts"],
  ])("%s may not import %s, and may import %s", (from, forbidden, allowed) => {
    expect(violations([{ from, to: forbidden, typeOnly: false }])).toHaveLength(1);
    expect(violations([{ from, to: allowed, typeOnly: false }])).toEqual([]);
  });

  it("lets a type cross a layer, except into what must share nothing", () => {
    expect(violations([{ from: "shared/sql/pages.ts", to: "shared/pipeline/types.ts", typeOnly: true }])).toEqual([]);
    expect(violations([{ from: "local/dataset/load.ts", to: "shared/errors.ts", typeOnly: true }])).toHaveLength(1);
  });
});

describe("runtime neutrality", () => {
  it.each(sources("shared"))("%s names neither Deno nor a Node module", (file) => {
    const text = readFileSync(join(ROOT, file), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
    expect(text).not.toMatch(/\bDeno\.|"node:|\bprocess\.|\bBuffer\b/);
  });

  it.each(FILES.filter((file) => file.endsWith("/index.ts") && file.startsWith("functions/")))(
    "%s is an entrypoint of at most ten lines",
    (file) => {
      expect(readFileSync(join(ROOT, file), "utf8").trimEnd().split("\n").length).toBeLessThanOrEqual(10);
    },
  );
});

describe("versions", () => {
  it.each(["functions/sync-page", "functions/sync-tick", "functions/sync-trigger", "."])(
    "%s/deno.json pins what package.json pins",
    (folder) => {
      const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
        dependencies: Record<string, string>;
      };
      const { imports } = JSON.parse(readFileSync(join(ROOT, folder, "deno.json"), "utf8")) as {
        imports: Record<string, string>;
      };
      expect(
        Object.keys(imports)
          .map((name) => name.replace(/\/$/, ""))
          .sort(),
      ).toEqual(Object.keys(dependencies).sort());
      for (const [name, version] of Object.entries(dependencies)) {
        expect(imports[name] ?? imports[`${name}/`]).toMatch(new RegExp(`^npm:/?${name}@${version.replaceAll(".", "\\.")}/?$`));
      }
    },
  );
});
