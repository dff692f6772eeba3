import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { INSTALLATION_FOLDER } from "../../functions/installation.gen.ts";

/** What an installation shows of itself: its demo.ts exports one as `demo`. */
export interface Demo {
  /** Fills the source. At scale 1 it is as large as the real one. */
  load(
    url: string,
    size: { readonly seed: number; readonly scale: number },
  ): Promise<{ readonly rows: number; readonly tables: number }>;
  /** Works in the old application. @returns table → rows written. */
  edit(url: string, seed: number): Promise<Readonly<Record<string, { readonly inserted: number; readonly updated: number }>>>;
  /** What people change on both sides, and then decide on. */
  readonly bothSides: readonly BothSides[];
  /** Whose amounts the two sides must agree on. */
  readonly money: readonly Money[];
  /** One more query to look around with: a comment and its lines. */
  readonly query: { readonly says: string; readonly lines: readonly string[] };
}

export interface BothSides {
  readonly entity: string;
  /** Target column of the legacy id, and which rows can be edited. */
  readonly legacyKey: string;
  readonly where: string;
  /** The two edits, of the record with the legacy id $1. */
  readonly source: string;
  readonly target: string;
  readonly said: string;
  /** How the conflict may be decided, and what that means. */
  readonly decide: (conflict: string) => readonly string[];
  readonly meaning: string;
}

export interface Money {
  readonly entity: string;
  readonly column: string;
  readonly table: string;
  readonly price: string;
  readonly key: string;
}

/** The demo of the configured installation. @throws Error when it has none. */
export async function loadDemo(root: string): Promise<Demo> {
  const file = join(root, INSTALLATION_FOLDER, "demo.ts");
  try {
    return ((await import(pathToFileURL(file).href)) as { readonly demo: Demo }).demo;
  } catch (error) {
    if ((error as { code?: string }).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new Error(`${INSTALLATION_FOLDER}/ has no demo.ts: name the clinic in isthmus.json and run npm run generate.`, {
      cause: error,
    });
  }
}
