import { connect } from "../../shared/db/connect.ts";
import { query } from "../../shared/db/query.ts";
import type { Entity } from "../../shared/entity/define-entity.ts";
import { sideEffects } from "../../shared/contract/side-effects.ts";
import { readContractState } from "../../shared/target/contract.ts";

/** Acknowledges what the fixture's own triggers do, as an operator would who has read the list. */
export async function acceptSideEffects(workerUrl: string, entities: readonly Entity[]): Promise<void> {
  const target = connect({
    side: "target",
    url: workerUrl,
    tls: "disable",
    poolSize: 1,
    idleTimeoutSeconds: 5,
    connectTimeoutSeconds: 15,
    applicationName: "isthmus-local",
  });
  try {
    const tables = entities.map((entity) => entity.target.table);
    const { catalog } = (await readContractState(target, { sourceId: 0, tables, definitions: "", fresh: true })).target;
    const effects = catalog === null ? [] : sideEffects(entities, catalog);
    await query(
      target,
      "target",
      `insert into public.sync_side_effects (kind, table_name, name, does, definition, acknowledged_at, acknowledged_by)
       select kind, "table", name, does, definition, now(), 'the local platform'
         from jsonb_to_recordset($1::text::jsonb) as e (kind text, "table" text, name text, does text, definition text)
       on conflict (table_name, kind, name) do nothing`,
      [JSON.stringify(effects)],
    );
  } finally {
    await target.end({ timeout: 5 });
  }
}
