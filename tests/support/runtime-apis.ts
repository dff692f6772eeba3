import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { runInNewContext } from "node:vm";
import { build } from "esbuild";
import { parser } from "typescript-eslint";

const ROOT = resolve(import.meta.dirname, "../..");
/** Objects whose members the runtime may have or not, one by one. */
const MEMBERS = new Set(["AbortSignal", "Deno", "EdgeRuntime", "crypto", "process", "globalThis", "performance", "console"]);
/** What V8 brings by itself, without a runtime around it. The hosted runtime takes SharedArrayBuffer away. */
const LANGUAGE = new Set(runInNewContext("Object.getOwnPropertyNames(globalThis)") as string[]);
for (const name of ["console", "WebAssembly", "SharedArrayBuffer"]) LANGUAGE.delete(name);

/** What ESLint reads TypeScript with; its declared type leaves the options out. */
const eslintParser = parser as unknown as {
  readonly parseForESLint: (text: string, options: object) => { readonly ast: unknown; readonly scopeManager: unknown };
};

interface SyntaxNode {
  readonly type: string;
  readonly name?: string;
  readonly declare?: boolean;
  readonly computed?: boolean;
  readonly object?: SyntaxNode;
  readonly property?: SyntaxNode;
  parent?: SyntaxNode;
}

interface Scope {
  readonly references: readonly {
    readonly identifier: SyntaxNode;
    readonly isValueReference: boolean;
    readonly resolved: { readonly defs: readonly { readonly parent?: SyntaxNode | null }[] } | null;
  }[];
}

/** All source files below functions/ and shared/, and those of an installation that the functions carry. */
export function functionSources(): string[] {
  return ["functions", "shared", "clinic/entities", "clinic/schema"].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => join(folder, file)),
  );
}

/** What a source text takes from the runtime and not from the language: `fetch`, `Deno.env`, … */
export function runtimeGlobals(text: string): string[] {
  const { ast, scopeManager } = eslintParser.parseForESLint(text, { range: true, sourceType: "module", lib: ["es2023"] });
  tellParents(ast as SyntaxNode);
  const { scopes } = scopeManager as { scopes: readonly Scope[] };
  const used = scopes
    .flatMap((scope) => scope.references)
    .filter(
      ({ isValueReference, resolved }) => isValueReference && (resolved?.defs ?? []).every((def) => def.parent?.declare === true),
    )
    .map(({ identifier }) => pathOf(identifier))
    .filter((path) => !LANGUAGE.has(path));
  return [...new Set(used)].sort();
}

/** node: modules that the functions load, those that their packages import included. */
export async function nodeModules(): Promise<string[]> {
  const { metafile } = await build({
    entryPoints: ["sync-page", "sync-tick", "sync-trigger"].map((name) => join(ROOT, "functions", name, "index.ts")),
    bundle: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "node",
    conditions: ["deno", "node", "import"],
    outdir: ROOT,
    logLevel: "silent",
  });
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
  return [...new Set(imports.map(({ path }) => `node:${path.replace(/^node:/, "")}`))].sort();
}

function pathOf(identifier: SyntaxNode): string {
  const { name = "", parent } = identifier;
  const member = parent?.type === "MemberExpression" && parent.object === identifier && parent.computed !== true;
  return MEMBERS.has(name) && member ? `${name}.${parent.property?.name ?? ""}` : name;
}

function tellParents(node: SyntaxNode): void {
  for (const [key, value] of Object.entries(node)) {
    if (key === "parent") continue;
    for (const child of (Array.isArray(value) ? value : [value]) as unknown[]) {
      if (child === null || typeof child !== "object" || !("type" in child)) continue;
      (child as SyntaxNode).parent = node;
      tellParents(child as SyntaxNode);
    }
  }
}
