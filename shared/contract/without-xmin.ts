import { ident } from "../db/ident.ts";
import type { SourceCatalogTable } from "../source/catalog.ts";

/** Captures that do not ask which rows were written: what they miss is not for xmin to tell. */
const WITHOUT_XMIN: ReadonlySet<string> = new Set(["full", "digest", "keys"]);

const KINDS: Readonly<Record<string, string>> = {
  v: "a view",
  m: "a materialised view",
  f: "a foreign table, or has a foreign partition",
};

/** Whether an execution of this capture would miss changes of a table in which written rows cannot be told. */
export function needsXmin(capture: string): boolean {
  return !WITHOUT_XMIN.has(capture);
}

/** Why the written rows of a table cannot be told by xmin, and what to do; undefined: they can. */
export function withoutXmin(
  name: string,
  table: SourceCatalogTable,
  role: string,
): { readonly why: string; readonly remedy: string } | undefined {
  const kind = KINDS[table.relkind];
  if (kind !== undefined) {
    return {
      why: `it is ${kind}`,
      remedy: "Name the table behind it in the entity file, or read the entity with the capture full or digest alone.",
    };
  }
  if (table.columns["xmin"]?.readable === false) {
    return {
      why: `${role} may not read its system column xmin, which rights on single columns do not include`,
      remedy: `On the source: grant select (xmin, ctid) on public.${ident(name)} to ${ident(role)};`,
    };
  }
  return undefined;
}
