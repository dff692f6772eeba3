import type { DeclaredFile } from "./declared.ts";

export interface SqlFunction {
  readonly name: string;
  /** The statement that makes it, or its body. */
  readonly text: string;
}

/** A call of a function by another one, with the files that they stand in. */
export interface Call {
  readonly from: string;
  readonly to: string;
  readonly fromFile: string;
  readonly toFile: string;
}

/** A whole statement: to the first semicolon outside of texts. */
const MADE = /^create function sync\.(\w+)\((?:\$(\w*)\$[\s\S]*?\$\2\$|'[^']*'|[^;'$])*;/gm;
const CALLED = /\b(?:sync|public)\.(\w+)\s*\(/g;

/** The functions that a file makes. */
export function functionsOf(file: DeclaredFile): readonly SqlFunction[] {
  return [...file.sql.matchAll(MADE)].map(([text, name = ""]) => ({ name, text: text.slice(text.indexOf("(")) }));
}

/** Who calls whom, by the text of the functions: from a file (functionsOf), or as a database has them. SQL that a function builds counts, too. */
export function callsOf(functions: readonly SqlFunction[], files: readonly DeclaredFile[]): readonly Call[] {
  const fileOf = new Map(files.flatMap((file) => functionsOf(file).map(({ name }) => [name, file.path] as const)));
  return functions.flatMap(({ name, text }) => {
    const called = new Set([...text.replace(/--.*$/gm, "").matchAll(CALLED)].map(([, callee = ""]) => callee));
    return [...called]
      .filter((callee) => callee !== name && fileOf.has(callee))
      .map((to) => ({ from: name, to, fromFile: fileOf.get(name) ?? "no file", toFile: fileOf.get(to) ?? "" }));
  });
}

/** Calls into a later file. Where there is none, files call each other in no circle. */
export function callsAhead(calls: readonly Call[], files: readonly DeclaredFile[]): readonly Call[] {
  const at = new Map(files.map(({ path }, index) => [path, index]));
  return calls.filter(({ fromFile, toFile }) => (at.get(toFile) ?? -1) > (at.get(fromFile) ?? -1));
}

/** The files that each file calls. */
export function fileCalls(calls: readonly Call[], files: readonly DeclaredFile[]): ReadonlyMap<string, readonly string[]> {
  const order = files.map(({ path }) => path);
  return new Map(
    order.map((path) => {
      const called = new Set(
        calls.filter(({ fromFile, toFile }) => fromFile === path && toFile !== path).map(({ toFile }) => toFile),
      );
      return [path, order.filter((other) => called.has(other))];
    }),
  );
}

/** Without what follows from the rest: a file that is called by way of another one has no line of its own. */
export function reduced(graph: ReadonlyMap<string, readonly string[]>): ReadonlyMap<string, readonly string[]> {
  const reach = (from: string): Set<string> => new Set((graph.get(from) ?? []).flatMap((next) => [next, ...reach(next)]));
  return new Map(
    [...graph].map(([path, called]) => [
      path,
      called.filter((one) => !called.some((other) => other !== one && reach(other).has(one))),
    ]),
  );
}
