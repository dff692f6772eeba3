// What the compiler knows of an installation: the catalogs of both sides, and which entity leads from one to the
// other.

/** Types only: entity files are checked against them, and nothing of them is left when the code runs. */
export interface Catalog {
  /** Generated from the source: table → column → `{ type, ids? }`. */
  readonly source: object;
  /** Generated from the target: table → column → `{ type, required, references?, members? }`. */
  readonly target: object;
  /** Entity name → its driving table in the source and its table in the target. Every entity file adds its own line. */
  readonly entities: object;
  /** Names of the columns that stay in the source. */
  readonly denied: string;
}

/** Any installation: names are texts, and nothing is known of columns. */
export interface AnyCatalog extends Catalog {
  readonly source: Readonly<Record<string, Readonly<Record<string, { readonly type: string; readonly ids?: string }>>>>;
  readonly target: Readonly<Record<string, object>>;
  readonly entities: Readonly<Record<string, { readonly source: string; readonly target: string }>>;
}

export type EntityName<I extends Catalog> = keyof I["entities"] & string;
/** The driving table of an entity, and the target table. */
export type SourceOf<I extends Catalog, N> = I["entities"][N & keyof I["entities"]] extends {
  source: infer Table extends keyof I["source"] & string;
}
  ? Table
  : never;
export type TargetOf<I extends Catalog, N> = I["entities"][N & keyof I["entities"]] extends {
  target: infer Table extends keyof I["target"] & string;
}
  ? Table
  : never;
