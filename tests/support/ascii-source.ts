import { randomBytes } from "node:crypto";
import postgres, { type Sql } from "postgres";
import { createLegacySchema } from "../../clinic/dataset/schema.ts";
import { testServer } from "./servers.ts";

/** A legacy source whose database has no encoding: it takes and gives any bytes as text. */
export interface AsciiSource extends AsyncDisposable {
  readonly admin: Sql;
  readonly readerUrl: string;
}

export async function createAsciiSource(): Promise<AsciiSource> {
  const { port } = await testServer();
  const name = `source_${randomBytes(6).toString("hex")}`;
  const url = (role: string, database: string) => `postgres://${role}@127.0.0.1:${port}/${database}`;
  const server = postgres(url("supabase_admin", "postgres"), { max: 1, onnotice: () => undefined });
  await server.unsafe(`create database "${name}" template template0 encoding 'SQL_ASCII' locale 'C'`);
  await createLegacySchema(url("supabase_admin", name));
  const admin = postgres(url("supabase_admin", name), { max: 1, fetch_types: false, onnotice: () => undefined });
  await admin`grant usage on schema public to isthmus_reader`;
  await admin`grant select on all tables in schema public to isthmus_reader`;
  return {
    admin,
    readerUrl: url("isthmus_reader:local-reader", name),
    [Symbol.asyncDispose]: async () => {
      await admin.end({ timeout: 1 });
      await server.unsafe(`drop database "${name}" with (force)`);
      await server.end({ timeout: 1 });
    },
  };
}
