import { openConnection } from "./connect.ts";
import { withoutForeignKeys } from "./bulk.ts";
import { copyTable } from "./copy.ts";
import { generateLegacy, type GenerateOptions } from "./generate.ts";
import type { Manifest } from "./manifest.ts";
import { createLegacySchema } from "./schema.ts";

export interface LoadOptions extends GenerateOptions {
  /** The legacy database, as its owner. */
  readonly url: string;
  readonly onProgress?: (table: string, rows: number) => void;
}

/** From this scale of the large tables on, making foreign keys anew is cheaper than checking them row by row. */
const BULK_SCALE = 0.05;

/** Creates the legacy schema where it is absent and fills it by COPY, in one transaction: a failure leaves no rows. */
export async function loadLegacy({ url, onProgress, ...options }: LoadOptions): Promise<Manifest> {
  const { seed, scale, logScale, tables, entities } = generateLegacy(options);
  await createLegacySchema(url);
  const sql = openConnection(url);
  const counts: Record<string, number> = {};
  try {
    await sql.begin(async (tx) => {
      const copyAll = async () => {
        for (const rows of tables) {
          counts[rows.table] = await copyTable(tx, rows);
          onProgress?.(rows.table, counts[rows.table] ?? 0);
        }
      };
      await (logScale >= BULK_SCALE ? withoutForeignKeys(tx, copyAll) : copyAll());
      await tx.unsafe("set constraints all immediate");
    });
    await sql.unsafe("analyze");
  } finally {
    await sql.end();
  }
  return { seed, scale, logScale, tables: counts, entities: entities() };
}
