import { ident } from "../../shared/db/ident.ts";
import { deletesRows, type Entity } from "../../shared/entity/define-entity.ts";
import { workerGrants } from "../../shared/operate/grants.ts";
import type { Setup } from "./context.ts";
import { appliedMigrations } from "./schema-history.ts";
import type { Step } from "./step.ts";

/** The worker and decisions may read and write the columns of the chosen entities, and nothing else. */
export const grantRights: Step<Setup> = {
  title: "rights",
  async look(setup) {
    const { present, missing, ofJob } = await withTables(setup);
    const open = ofJob === undefined ? present : await ungranted(setup, present);
    if (open.length === 0 && setup.chosen && ofJob !== undefined && !isSame(ofJob, present))
      return { state: "due", text: `have the job daily read ${present.length} entities` };
    if (open.length > 0)
      return {
        state: "due",
        text: `grant the columns of ${open.length} of ${present.length} entities; nobody but the owner keeps TRIGGER on their tables`,
      };
    if (missing.length === 0) return { state: "done", text: `${present.length} entities are granted and released` };
    const tables = missing.map(({ target }) => target.table).join(", ");
    return {
      state: "person",
      text: `${present.length} entities are granted; ${missing.length} have no table: ${tables}`,
      actions: [
        `Create the application's tables (${tables}), or name the entities to install without them; then run setup again.`,
      ],
    };
  },
  async act(setup) {
    const { present } = await withTables(setup);
    await setup.owner.begin(async (tx) => {
      await tx.unsafe(workerGrants(present)).simple();
      if (setup.chosen)
        await tx`update public.sync_jobs set configuration = configuration || ${tx.json({ entities: present.map(({ name }) => name) })} where name = 'daily'`;
    });
  },
};

/** `ofJob`: the entities that the job daily reads, none for all of them; undefined while nothing is installed. */
async function withTables({ owner, entities, chosen }: Setup): Promise<{
  present: readonly Entity[];
  missing: readonly Entity[];
  ofJob: readonly string[] | undefined;
}> {
  const rows = await owner<{ name: string }[]>`
    select relname::text as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')`;
  const tables = new Set(rows.map(({ name }) => name));
  const ofJob = (await appliedMigrations(owner)) === undefined ? undefined : await entitiesOfJob(owner);
  // Whoever named entities once need not name them again: rights on others are not given in passing.
  const wanted =
    chosen || ofJob === undefined || ofJob.length === 0 ? entities : entities.filter(({ name }) => ofJob.includes(name));
  return {
    present: wanted.filter(({ target }) => tables.has(target.table)),
    missing: wanted.filter(({ target }) => !tables.has(target.table)),
    ofJob,
  };
}

async function entitiesOfJob(owner: Setup["owner"]): Promise<readonly string[]> {
  const rows = await owner<{ name: string }[]>`
    select jsonb_array_elements_text(configuration -> 'entities') as name from public.sync_jobs where name = 'daily' and configuration ? 'entities'`;
  return rows.map(({ name }) => name);
}

function isSame(names: readonly string[], entities: readonly Entity[]): boolean {
  return names.length === entities.length && entities.every(({ name }) => names.includes(name));
}

/** Entities that are not released as their files say, or of whose columns the worker may not write one. */
async function ungranted({ owner }: Setup, entities: readonly Entity[]): Promise<readonly Entity[]> {
  const wanted = entities.map((entity) => ({
    name: entity.name,
    relation: `public.${ident(entity.target.table)}`,
    table: entity.target.table,
    columns: Object.keys(entity.fields),
    deletes: deletesRows(entity) || entity.onDelete === "review",
  }));
  const rows = await owner<{ name: string }[]>`
    select w.name from jsonb_to_recordset(${owner.json(wanted)}) as w (name text, relation text, "table" text, columns text[], deletes boolean)
     where not exists (select from public.sync_released_entities r
                        where r.entity_type = w.name and r.target_table = w."table" and r.columns @> w.columns and r.columns <@ w.columns and r.deletes = w.deletes)
        or exists (select from pg_catalog.unnest(w.columns) c join pg_attribute a on a.attrelid = w.relation::regclass and a.attname = c
                    where not (has_column_privilege('isthmus_worker', a.attrelid, a.attnum, 'select')
                           and has_column_privilege('isthmus_worker', a.attrelid, a.attnum, 'insert')
                           and has_column_privilege('isthmus_worker', a.attrelid, a.attnum, 'update')))`;
  const open = new Set(rows.map(({ name }) => name));
  return entities.filter(({ name }) => open.has(name));
}
