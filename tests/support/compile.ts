import { resolve } from "node:path";
import ts from "typescript";

const SHARED = resolve(import.meta.dirname, "../../shared");

/** An entity file as somebody might write it, by name; compiled as if it lay in shared/entities/ beside the others. */
export type Files = Readonly<Record<string, string>>;

/** What the compiler says about each file, one line per error; nothing is written to disk. */
export function compileEntities(files: Files): Readonly<Record<string, string[]>> {
  const config = ts.getParsedCommandLineOfConfigFile(
    resolve(SHARED, "tsconfig.json"),
    {},
    {
      ...ts.sys,
      onUnRecoverableConfigFileDiagnostic: ({ messageText }) => {
        throw new Error(ts.flattenDiagnosticMessageText(messageText, "\n"));
      },
    },
  );
  if (!config) throw new Error("shared/tsconfig.json cannot be read");
  const virtual = new Map(Object.entries(files).map(([name, text]) => [resolve(SHARED, "entities", name), text]));
  const host = ts.createCompilerHost(config.options);
  host.readFile = (path) => virtual.get(path) ?? ts.sys.readFile(path);
  host.fileExists = (path) => virtual.has(path) || ts.sys.fileExists(path);
  const registry = resolve(SHARED, "entities/registry.gen.ts");
  const program = ts.createProgram([registry, ...virtual.keys()], config.options, host);
  return Object.fromEntries(
    Object.keys(files).map((name) => {
      const source = program.getSourceFile(resolve(SHARED, "entities", name));
      const errors = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
      return [name, errors.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))];
    }),
  );
}
