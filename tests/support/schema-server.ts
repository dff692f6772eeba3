import type { Server } from "../../scripts/schema/fresh-database.ts";
import { testServer } from "./servers.ts";

/** This file's server, for new databases of the declared schema or of migrations. Their names are no test's. */
export async function schemaServer(): Promise<Server> {
  const { port } = await testServer();
  const url = (role: string, database: string) => `postgres://${role}@127.0.0.1:${port}/${database}`;
  return {
    superuserUrl: (database = "postgres") => url("supabase_admin", database),
    ownerUrl: (database) => url("postgres", database),
  };
}
