/** A catalog, and its fingerprint; no catalog when it has the fingerprint that is known already. */
export interface CatalogReading<Catalog> {
  readonly fingerprint: string;
  readonly catalog: Catalog | null;
}
