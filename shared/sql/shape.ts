/**
 * Where values stand, by the numbers of the catalog: {column: {what: identity}}, and in which files. What changes
 * rows without writing them changes it.
 */
export interface Shape {
  readonly columns: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly files: Readonly<Record<string, string>>;
}

/** What of its tables' shapes concerns an entity. */
export interface SourceShape extends Shape {
  /** Of each field that reads one column: which parts of its value are padded, as sync.fits_sql takes it. Nothing is known of the others. */
  readonly padded: Readonly<Record<string, readonly string[]>>;
}
