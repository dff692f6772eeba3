import { resolve } from "node:path";
import ts from "typescript";

const SHARED = resolve(import.meta.dirname, "../../shared");

const CLINIC = resolve(import.meta.dirname, "../../clinic");

/** Files by their path below the installation's folder, as somebody might write them. */
export type Files = Readonly<Record<string, string>>;

/**
 * What the compiler says about each file as if it lay in the folder of an installation, one line per error; nothing
 * is written to disk. `beside`: files that are there anyway and have to be part of the program.
 */
export function compile(files: Files, beside: readonly string[] = [], folder = CLINIC): Readonly<Record<string, string[]>> {
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
  const virtual = new Map(Object.entries(files).map(([path, text]) => [resolve(folder, path), text]));
  const host = ts.createCompilerHost(config.options);
  host.readFile = (path) => virtual.get(path) ?? ts.sys.readFile(path);
  host.fileExists = (path) => virtual.has(path) || ts.sys.fileExists(path);
  const roots = [...beside.map((path) => resolve(folder, path)), ...virtual.keys()];
  const program = ts.createProgram(roots, config.options, host);
  return Object.fromEntries(
    Object.keys(files).map((path) => {
      const source = program.getSourceFile(resolve(folder, path));
      const errors = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
      return [path, errors.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))];
    }),
  );
}
