import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Sql } from "postgres";

/** The same records by other means, into tables of the same shape on the same servers. */
export interface Peer {
  readonly name: string;
  readonly records: number;
  readonly seconds: number;
}

const NAMESPACE = "6f1f7e1c-2f0b-4c0d-9d52-0a1b2c3d4e5f";

/** Tables like the sync's own, with its indexes and foreign keys, empty. `source`: where the target finds the source. */
export async function preparePeers(target: Sql, source: { readonly port: number; readonly database: string }): Promise<void> {
  await target.unsafe(`
    create extension if not exists postgres_fdw;
    drop schema if exists peer cascade;
    create schema peer;
    create table peer.user_actions (like public.user_actions including all);
    alter table peer.user_actions add foreign key (user_id) references public.profiles (id);
    create table peer.mappings (like public.uuid_mappings_enhanced including all);
    create table peer.copied (like public.user_actions);
    alter table peer.copied add primary key (id);
    drop server if exists legacy cascade;
    create server legacy foreign data wrapper postgres_fdw options (host '127.0.0.1', port '${source.port}', dbname '${source.database}', fetch_size '10000');
    create user mapping for current_user server legacy options (user 'isthmus_reader', password 'local-reader');
    create foreign table peer.dispatch_action (id bigint, user_id bigint, action text, date timestamptz, item_type_id bigint, item_id bigint, owner_type_id bigint, owner_id bigint, data text)
      server legacy options (schema_name 'public', table_name 'dispatch_action');
    create foreign table peer.content_types (id bigint, app_label text, model text) server legacy options (schema_name 'public', table_name 'django_content_type')`);
}

const COLUMNS =
  "id, legacy_action_id, user_id, action, acted_at, item_type, legacy_item_id, owner_type, legacy_owner_id, action_data";

async function timed(name: string, records: number, work: () => Promise<unknown>): Promise<Peer> {
  const began = performance.now();
  await work();
  return { name, records, seconds: (performance.now() - began) / 1_000 };
}

/** COPY of rows that are ready, into a table with a primary key alone: what no sync can be quicker than. */
export async function copy(target: Sql): Promise<Peer> {
  const chunks: Buffer[] = [];
  for await (const chunk of await target.unsafe(`copy (select ${COLUMNS} from peer.user_actions) to stdout`).readable())
    chunks.push(chunk as Buffer);
  const records = chunks.reduce((sum, chunk) => sum + chunk.filter((byte) => byte === 10).length, 0);
  return timed("COPY, ready rows, primary key alone", records, async () =>
    pipeline(Readable.from(chunks), await target.unsafe(`copy peer.copied (${COLUMNS}) from stdin`).writable()),
  );
}

/** Two statements over postgres_fdw: mint and insert, note the mappings. What somebody would write by hand, once, without asking anything. */
export async function setBased(target: Sql, records: number): Promise<Peer> {
  return timed("set-based SQL over postgres_fdw", records, () =>
    target.begin(async (tx) => {
      await tx.unsafe(`
        insert into peer.user_actions (${COLUMNS})
        select md5('${NAMESPACE}' || a.id)::uuid, a.id, p.entity_uuid, a.action, a.date, i.app_label || '.' || i.model, a.item_id, o.app_label || '.' || o.model, a.owner_id, a.data
          from peer.dispatch_action a
          left join peer.content_types i on i.id = a.item_type_id
          left join peer.content_types o on o.id = a.owner_type_id
          left join public.uuid_mappings_enhanced p on p.entity_type = 'profiles' and p.legacy_id = a.user_id`);
      await tx.unsafe(`
        insert into peer.mappings (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
        select 1, 'user_actions', legacy_action_id, id, 'dispatch_action', 'user_actions' from peer.user_actions`);
    }),
  );
}

/** Record by record, as one-off migrations are written: ask for its mapping and its parent's, write the row, write the mapping; four at a time. */
export async function perRecord(source: Sql, target: Sql, records: number): Promise<Peer> {
  await target`truncate peer.user_actions, peer.mappings`;
  const rows = await source<Record<string, string | null>[]>`
    select a.id::text, a.user_id::text, a.action, a.date::text, a.item_id::text, a.owner_id::text, a.data::text from public.dispatch_action a order by a.id limit ${records}`;
  const waiting = [...rows];
  const worker = async () => {
    for (let row = waiting.pop(); row !== undefined; row = waiting.pop()) {
      const [known] =
        await target`select entity_uuid from peer.mappings where source_id = 1 and entity_type = 'user_actions' and legacy_id = ${row["id"] ?? ""}::bigint`;
      const [parent] = await target<{ entity_uuid: string }[]>`
        select entity_uuid from public.uuid_mappings_enhanced where source_id = 1 and entity_type = 'profiles' and legacy_id = ${row["user_id"] ?? null}::bigint`;
      const [written] = await target<{ id: string }[]>`
        insert into peer.user_actions (id, legacy_action_id, user_id, action, acted_at, legacy_item_id, legacy_owner_id, action_data)
        values (coalesce(${(known?.["entity_uuid"] as string | undefined) ?? null}::uuid, gen_random_uuid()), ${row["id"] ?? ""}::bigint, ${parent?.entity_uuid ?? null}::uuid,
                ${row["action"] ?? null}, ${row["date"] ?? null}::timestamptz, ${row["item_id"] ?? null}::bigint, ${row["owner_id"] ?? null}::bigint, ${row["data"] ?? null})
        returning id`;
      await target`
        insert into peer.mappings (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
        values (1, 'user_actions', ${row["id"] ?? ""}::bigint, ${written?.id ?? ""}::uuid, 'dispatch_action', 'user_actions')`;
    }
  };
  return timed("record by record", rows.length, () => Promise.all(Array.from({ length: 4 }, worker)));
}
