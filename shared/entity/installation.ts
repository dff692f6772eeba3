import type { ColumnKinds, KnownColumns } from "./kinds.ts";
import type { Entity } from "./define-entity.ts";
import type { Denied } from "./denied.ts";

/** What the compiler knew of the columns that entity files name. */
export interface CompiledColumns {
  readonly source: ColumnKinds;
  readonly target: ColumnKinds;
  /** All columns of tables that entities read beside their own. */
  readonly beside: KnownColumns;
}

/** What is synced, and how: all that the engine knows of two databases before it has seen them. */
export interface Installation {
  readonly entities: readonly Entity[];
  /** Entity → hash of the code behind its file. */
  readonly codeHashes: Readonly<Record<string, string>>;
  readonly columns: CompiledColumns;
  readonly denied: Denied;
}
