import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";

interface Import {
  readonly from: string;
  /** A file of the repository, or the name of a package. */
  readonly to: string;
  readonly typeOnly: boolean;
}

interface Layer {
  readonly files: RegExp;
  readonly may: readonly RegExp[];
  /** What it may import besides, as types only. */
  readonly mayAsTypes?: readonly RegExp[];
  /** Packages this layer may import; without it: any. */
  readonly packages?: RegExp;
  readonly rule: string;
}

const BASE = /^shared\/(errors|recovery|error-words|log|config|clock|net-reason)\.ts$/;

/** Rooms of shared/, and the rooms that each may import beside itself and the base: none of them leads back. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  db: [],
  http: [],
  entity: [],
  sql: ["db", "entity"],
  source: ["sql", "db", "entity"],
  target: ["sql", "db", "entity"],
  queue: ["target", "db"],
  cache: ["target"],
  metrics: ["target", "db"],
  operate: ["queue", "cache", "source", "target", "db", "entity"],
  contract: ["operate", "queue", "source", "target", "sql", "db", "entity"],
  plan: ["contract", "queue", "source", "target", "sql", "db", "entity"],
  tick: ["plan", "contract", "queue", "source", "target", "sql", "db", "entity"],
};
const room = (...names: readonly string[]) => new RegExp(`^shared/(${names.join("|")})/`);

/** What stages and rooms are given: they name its type, and do not make it. */
const CONTEXT = /^shared\/context\.ts$/;
const TAKES_CONTEXT = ["operate", "contract", "plan", "tick"];

/** The first layer that matches a file counts; a file of functions/, shared/ or an installation without one breaks the rules. */
const LAYERS: readonly Layer[] = [
  ...["sync-trigger", "sync-page", "sync-tick"].map((name) => ({
    files: new RegExp(`^functions/${name}/`),
    may: [
      new RegExp(`^functions/${name}/`),
      /^functions\/(deno-runtime|installation\.gen)\.ts$/,
      /^shared\/entity\/installation\.ts$/,
      room("http", "tick", "plan", "contract", "page", "metrics"),
      /^shared\/(context|runtime|errors|log|config)\.ts$/,
      // The state of an execution, and its end, is one query and one answer: a file around either would only pass it
      // through.
      /^shared\/target\/(execution-state|ends)\.ts$/,
    ],
    packages: /^zod$/,
    rule: "functions import http, tick, plan, contract, page and metrics, and never each other",
  })),
  {
    files: /^functions\/installation\.gen\.ts$/,
    may: [/^(clinic|examples\/[\w-]+)\/installation\.ts$/],
    rule: "here alone the engine meets an installation, as a whole",
  },
  {
    files: /^functions\/(deno-runtime|database-socket)\.ts$/,
    may: [/^shared\/(log|error-words|runtime|db\/connect)\.ts$/, /^functions\/database-socket\.ts$/],
    packages: /^node:/,
    rule: "the runtime imports only log, the words of errors, runtime and what a connection wants",
  },
  {
    files: CONTEXT,
    may: [room("cache", "queue", "db", "entity"), /^shared\/runtime\.ts$/, BASE],
    rule: "context wires configuration, databases, cache and queue, and nothing else",
  },
  {
    files: /^shared\/runtime\.ts$/,
    may: [/^shared\/db\/connect\.ts$/, BASE],
    rule: "runtime imports what a connection wants, and the base",
  },
  {
    files: /^shared\/page\/((run|load)-page|explain)\.ts$/,
    may: [/^shared\/page\/(?!validate\.ts$)/, room("cache", "queue", "source", "target", "sql", "db", "entity"), BASE],
    mayAsTypes: [CONTEXT],
    rule: "run-page and load-page import the stages, the queue, source and target, and so does explain",
  },
  {
    files: /^shared\/page\/detect\//,
    may: [/^shared\/page\/detect\//, room("source", "target", "sql", "db", "entity"), BASE],
    rule: "stages never import each other",
  },
  {
    files: /^shared\/page\//,
    may: [
      /^shared\/page\/(page-outcome|mint-uuid|page-size|report-plan)\.ts$/,
      room("source", "target", "sql", "db", "entity"),
      BASE,
    ],
    mayAsTypes: [CONTEXT, room("cache")],
    rule: "stages never import each other",
  },
  {
    files: /^shared\/tick\//,
    may: [room("tick", ...(ROOMS["tick"] ?? [])), /^shared\/page\/report-plan\.ts$/, BASE],
    mayAsTypes: [CONTEXT],
    rule: "tick imports what begins an execution",
  },
  ...Object.entries(ROOMS).map(([name, others]): Layer => ({
    files: room(name),
    may: [room(name, ...others), BASE],
    mayAsTypes: TAKES_CONTEXT.includes(name) ? [CONTEXT] : [],
    rule: `${name} imports only ${[name, ...others].join(", ")} and the base`,
  })),
  ...["clinic", "examples/[\\w-]+"].flatMap((folder): Layer[] => [
    {
      files: new RegExp(`^${folder}/entities/define-entity\\.ts$`),
      may: [/^shared\/entity\/define-entity\.ts$/, new RegExp(`^${folder}/(denied|schema/(source|target)-tables\\.gen)\\.ts$`)],
      packages: /^$/,
      rule: "define-entity binds the engine's to the catalogs of its installation",
    },
    {
      files: new RegExp(`^${folder}/entities/registry\\.gen\\.ts$`),
      may: [new RegExp(`^${folder}/entities/`)],
      packages: /^$/,
      rule: "the registry imports the entities of its folder",
    },
    {
      files: new RegExp(`^${folder}/entities/`),
      may: [new RegExp(`^${folder}/entities/define-entity\\.ts$`)],
      packages: /^$/,
      rule: "entities import only define-entity",
    },
    {
      files: new RegExp(`^${folder}/(denied|schema/[\\w-]+\\.gen)\\.ts$`),
      may: [/^shared\/entity\/kinds\.ts$/],
      packages: /^$/,
      rule: "what is known of the columns imports nothing",
    },
    {
      files: new RegExp(`^${folder}/installation\\.ts$`),
      may: [
        new RegExp(`^${folder}/(denied|entities/registry\\.gen|schema/column-kinds\\.gen)\\.ts$`),
        /^shared\/entity\/installation\.ts$/,
      ],
      packages: /^$/,
      rule: "an installation is its entities and what is known of their columns",
    },
    {
      files: new RegExp(`^${folder}/demo\\.ts$`),
      may: [new RegExp(`^${folder}/dataset/`), /^local\/demo\/demo\.ts$/],
      rule: "a demo shows the dataset",
    },
  ]),
  { files: /^shared\/[^/]+\.ts$/, may: [BASE], rule: "the base imports only the base" },
  {
    files: /^clinic\/dataset\//,
    may: [/^clinic\/dataset\//],
    rule: "the dataset generator shares no code with the pipeline",
  },
  {
    files: /^tests\/verifier\//,
    may: [/^tests\/verifier\//],
    rule: "the verifier shares no code with the pipeline",
  },
  {
    files: /^(cli|local)\//,
    may: [/^(cli|local)\//, /^shared\//, /^functions\/installation\.gen\.ts$/],
    rule: "the command line and the platform import themselves, shared and the installation",
  },
];

/** One sentence per import that breaks a rule. */
function violations(imports: readonly Import[]): string[] {
  return imports.flatMap(({ from, to, typeOnly }) => {
    const layer = LAYERS.find(({ files }) => files.test(from));
    if (!layer)
      return /^(functions|shared|clinic|examples)\//.test(from) ? [`${from} belongs to no layer: give it one in this test.`] : [];
    const may = [...layer.may, ...(typeOnly ? (layer.mayAsTypes ?? []) : [])];
    const allowed = to.endsWith(".ts") ? may.some((files) => files.test(to)) : (layer.packages?.test(to) ?? true);
    return allowed ? [] : [`${from} imports ${to}: ${layer.rule}.`];
  });
}

/** The files that lead back to themselves, each circle once. */
function circles(imports: readonly Import[]): string[][] {
  const next = new Map<string, string[]>();
  for (const { from, to } of imports) next.set(from, [...(next.get(from) ?? []), to]);
  const reached = (from: string): Set<string> => {
    const found = new Set<string>();
    for (let open = [from]; open.length > 0;) {
      open = open.flatMap((file) => next.get(file) ?? []).filter((file) => !found.has(file));
      open.forEach((file) => found.add(file));
    }
    return found;
  };
  const reach = new Map([...next.keys()].map((file) => [file, reached(file)]));
  const inCircles = [...reach.keys()].filter((file) => reach.get(file)?.has(file)).sort();
  const named = inCircles.map((file) => inCircles.filter((other) => reach.get(file)?.has(other) && reach.get(other)?.has(file)));
  return [...new Map(named.map((circle) => [circle.join(" "), circle])).values()];
}

/** What a source imports or re-exports, dynamic imports included. */
function importsIn(file: string, text: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, typeOnly: boolean) => {
    if (!specifier || !ts.isStringLiteral(specifier)) return;
    const name = specifier.text;
    found.push({ from: file, to: name.startsWith(".") ? relative(".", join(dirname(file), name)) : name, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0], false);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.ESNext));
  return found;
}

/** Names of one runtime only, outside comments and strings. */
function runtimeNames(text: string): string[] {
  const names = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node) && /^(Deno|process|Buffer|EdgeRuntime|require|__dirname)$/.test(node.text)) names.add(node.text);
    if (ts.isStringLiteral(node) && node.text.startsWith("node:")) names.add(node.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile("x.ts", text, ts.ScriptTarget.ESNext));
  return [...names];
}

const ROOT = resolve(import.meta.dirname, "..");
const read = (file: string) => readFileSync(join(ROOT, file), "utf8");

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return sources(path);
    return path.endsWith(".ts") ? [path] : [];
  });
}

const FILES = ["functions", "shared", "clinic", "examples", "cli", "local", "tests"].flatMap(sources);
const value = (from: string, to: string): Import => ({ from, to, typeOnly: false });

describe("imports run one way", () => {
  it("in the whole tree", () => {
    const all = FILES.flatMap((file) => importsIn(file, read(file)));
    expect(all.length).toBeGreaterThan(300);
    expect(violations(all)).toEqual([]);
  }, 30_000);

  it.each([
    ["functions/sync-page/handler.ts", "functions/sync-tick/handler.ts", "functions/sync-page/other.ts", "never each other"],
    ["functions/sync-page/handler.ts", "shared/target/pages.ts", "shared/page/run-page.ts", "functions import"],
    ["functions/sync-page/handler.ts", "postgres", "zod", "functions import"],
    ["shared/http/respond.ts", "shared/tick/tick.ts", "shared/errors.ts", "http imports"],
    ["shared/tick/tick.ts", "shared/page/read.ts", "shared/target/jobs.ts", "tick imports"],
    ["shared/page/run-page.ts", "shared/page/validate.ts", "shared/page/read.ts", "run-page and load-page import"],
    ["shared/page/transform.ts", "shared/page/map-ids.ts", "shared/page/page-outcome.ts", "never import each other"],
    ["shared/page/detect/detect.ts", "shared/page/read.ts", "shared/page/detect/walk-keys.ts", "never import each other"],
    ["shared/target/pages.ts", "shared/page/read.ts", "shared/db/ident.ts", "target imports"],
    ["shared/target/pages.ts", "shared/source/keys.ts", "shared/sql/catalog-types.ts", "target imports"],
    ["shared/source/keys.ts", "shared/target/pages.ts", "shared/sql/catalog-types.ts", "source imports"],
    ["shared/plan/plan.ts", "shared/tick/tick.ts", "shared/contract/leave-out-unfit.ts", "plan imports"],
    ["shared/db/query.ts", "shared/target/pages.ts", "shared/errors.ts", "db imports"],
    ["clinic/entities/patients.ts", "shared/entity/define-entity.ts", "clinic/entities/define-entity.ts", "only define-entity"],
    ["clinic/entities/patients.ts", "zod", "clinic/entities/define-entity.ts", "only define-entity"],
    ["shared/entity/define-entity.ts", "clinic/entities/patients.ts", "zod", "entity imports"],
    ["shared/context.ts", "clinic/installation.ts", "shared/entity/installation.ts", "context wires"],
    ["functions/installation.gen.ts", "clinic/denied.ts", "clinic/installation.ts", "an installation, as a whole"],
    ["functions/sync-page/index.ts", "clinic/installation.ts", "functions/installation.gen.ts", "functions import"],
    ["cli/program.ts", "clinic/entities/patients.ts", "functions/installation.gen.ts", "the command line"],
    ["clinic/installation.ts", "clinic/dataset/load.ts", "clinic/denied.ts", "an installation is"],
    ["clinic/entities/define-entity.ts", "shared/db/ident.ts", "clinic/denied.ts", "binds the engine's"],
    [
      "examples/shop/entities/books.ts",
      "clinic/entities/define-entity.ts",
      "examples/shop/entities/define-entity.ts",
      "only define",
    ],
    ["shared/errors.ts", "shared/db/query.ts", "shared/log.ts", "the base"],
    ["clinic/dataset/load.ts", "shared/db/ident.ts", "clinic/dataset/copy.ts", "dataset generator"],
    ["clinic/dataset/load.ts", "local/platform.ts", "postgres", "dataset generator"],
    ["tests/verifier/recompute.ts", "shared/db/ident.ts", "tests/verifier/sql.ts", "verifier"],
    ["local/demo.ts", "tests/support/platform.ts", "shared/errors.ts", "the command line"],
  ])("%s may not import %s, and may import %s", (from, forbidden, allowed, rule) => {
    expect(violations([value(from, forbidden)])).toEqual([expect.stringContaining(rule)]);
    expect(violations([value(from, allowed)])).toEqual([]);
  });

  const type = (from: string, to: string): Import => ({ from, to, typeOnly: true });

  it.each([
    ["shared/target/pages.ts", "shared/page/page-outcome.ts"],
    ["shared/queue/send-pages.ts", "shared/context.ts"],
    ["shared/context.ts", "shared/page/map-ids.ts"],
    ["clinic/dataset/load.ts", "shared/errors.ts"],
    ["functions/sync-page/handler.ts", "functions/sync-tick/handler.ts"],
  ])("%s may not import a type of %s either", (from, to) => {
    expect(violations([type(from, to)])).toHaveLength(1);
  });

  it.each(["shared/page/validate.ts", "shared/page/run-page.ts", "shared/tick/tick.ts", "shared/contract/inspect.ts"])(
    "%s takes the context, and does not make it",
    (file) => {
      expect(violations([type(file, "shared/context.ts")])).toEqual([]);
      expect(violations([value(file, "shared/context.ts")])).toHaveLength(1);
    },
  );

  it("never comes back to where it began, types included", () => {
    const engine = FILES.filter((file) => /^(functions|shared|cli|local)\//.test(file));
    expect(circles(engine.flatMap((file) => importsIn(file, read(file))))).toEqual([]);
  }, 30_000);

  it.each([
    [["a.ts b.ts", "b.ts c.ts", "c.ts a.ts", "c.ts d.ts"], [["a.ts", "b.ts", "c.ts"]]],
    [["a.ts b.ts", "b.ts c.ts", "a.ts c.ts"], []],
    [["a.ts a.ts"], [["a.ts"]]],
  ])("in %j finds the circles %j", (edges, found) => {
    const imports = edges.map((edge) => edge.split(" ")).map(([from = "", to = ""]) => type(from, to));
    expect(circles(imports)).toEqual(found);
  });

  it("writes in one place how an execution begins", () => {
    const begins = FILES.filter((file) => file.startsWith("shared/") && read(file).includes("beginExecution("));
    expect(begins).toEqual(["shared/plan/begin.ts", "shared/target/plan.ts"]);
  });

  it("asks for a layer when a file below functions/ or shared/ has none, and not elsewhere", () => {
    expect(violations([value("shared/utils/things.ts", "shared/errors.ts")])).toEqual([expect.stringContaining("no layer")]);
    expect(violations([value("functions/sync-other/handler.ts", "shared/errors.ts")])).toHaveLength(1);
    expect(violations([value("tests/some.test.ts", "shared/errors.ts")])).toEqual([]);
  });

  it.each([
    ['import { a } from "../b.ts"', "shared/b.ts", false],
    ['import "../b.ts"', "shared/b.ts", false],
    ['export * from "./b.ts"', "shared/x/b.ts", false],
    ['export const a = () => import("./b.ts")', "shared/x/b.ts", false],
    ['import {\n  type a,\n  b,\n} from "./b.ts"', "shared/x/b.ts", false],
    ['import type { a } from "./b.ts"', "shared/x/b.ts", true],
    ['export type { a } from "./b.ts"', "shared/x/b.ts", true],
    ['let a: import("./b.ts").B', "shared/x/b.ts", true],
    ['import { z } from "zod"', "zod", false],
  ])("sees %s", (text, to, typeOnly) => {
    expect(importsIn("shared/x/a.ts", text)).toEqual([{ from: "shared/x/a.ts", to, typeOnly }]);
  });

  it("sees no import in a comment or a string", () => {
    expect(importsIn("shared/a.ts", `// import "./b.ts"\nconst a = 'import { b } from "./b.ts"';`)).toEqual([]);
  });
});

describe("runtime neutrality", () => {
  it.each(
    FILES.filter(
      (file) => /^(shared|(clinic|examples\/[\w-]+)\/(entities|schema|[\w-]+\.ts$))/.test(file) && !file.endsWith("/demo.ts"),
    ),
  )("%s names neither Deno nor Node", (file) => {
    expect(runtimeNames(read(file))).toEqual([]);
  });

  it.each([
    ["Deno.env.get('X')", ["Deno"]],
    ["globalThis.process.env", ["process"]],
    ["Buffer.from('x')", ["Buffer"]],
    ['import { connect } from "node:net"', ["node:net"]],
    ["// Deno has no process\nconst note = 'Buffer';", []],
    ["processed(DenoLike)", []],
  ])("in %s finds %j", (text, names) => {
    expect(runtimeNames(text)).toEqual(names);
  });
});

describe("entrypoints", () => {
  it.each(FILES.filter((file) => file.endsWith("/index.ts") && file.startsWith("functions/")))(
    "%s is an entrypoint of at most ten lines",
    (file) => {
      expect(read(file).trimEnd().split("\n").length).toBeLessThanOrEqual(10);
    },
  );
});

describe("versions", () => {
  it.each(["functions/sync-page", "functions/sync-tick", "functions/sync-trigger", "."])(
    "%s/deno.json pins what package.json pins",
    (folder) => {
      const { dependencies } = JSON.parse(read("package.json")) as {
        dependencies: Record<string, string>;
      };
      const { imports } = JSON.parse(read(`${folder}/deno.json`)) as {
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

  it("package.json names exact versions, and docs/dependencies.md says why each package is there", () => {
    const all = JSON.parse(read("package.json")) as Record<"dependencies" | "devDependencies", Record<string, string>>;
    const named = new Set(read("docs/dependencies.md").match(/[@\w][\w/.-]*/g));
    for (const [name, version] of Object.entries({ ...all.dependencies, ...all.devDependencies })) {
      expect(version, name).toMatch(/^(npm:[\w-]+@)?\d+\.\d+\.\d+(-[\w.]+)?$/);
      expect(named, "docs/dependencies.md").toContain(name);
    }
  });
});
