import postgres from "postgres";

/** Driving tables of the demo's entities, to give the progress bars their length. Doctors are a part of the users: unknown beforehand. */
const TABLES: Readonly<Record<string, string>> = {
  offices: "dispatch_office",
  profiles: "auth_user",
  patients: "dispatch_patient",
  orders: "dispatch_instruction",
  payments: "dispatch_payment",
  operations: "dispatch_operation",
};

/** Rows of each entity's driving table on the source. */
export async function countRecords(sourceUrl: string, entities: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const sql = postgres(sourceUrl, { max: 1 });
  try {
    const counts = new Map<string, number>();
    for (const entity of entities) {
      const table = TABLES[entity];
      if (table === undefined) continue;
      const [row] = await sql<{ n: number }[]>`select count(*)::integer as n from ${sql(table)}`;
      counts.set(entity, row?.n ?? 0);
    }
    return counts;
  } finally {
    await sql.end();
  }
}
