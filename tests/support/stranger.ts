import { defineEntity, type Entity, type SourceRow } from "../../shared/entities/define-entity.ts";
import { workerGrants } from "../../shared/jobs/grants.ts";
import { ident } from "../../shared/db/ident.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";

/** One table of either side that nobody here designed: what it is called, and a copied column per entry. */
export interface Stranger {
  readonly source: string;
  readonly target: string;
  /** How the entity's SQL calls the source table. */
  readonly alias?: string;
  /** Target column → its type, what the source's column is called, and the source's type. */
  readonly columns: Readonly<Record<string, { readonly type: string; readonly from?: string; readonly sourceType?: string }>>;
  /** Fields are computed, so that a column of any type takes what the source has. */
  readonly computed?: boolean;
}

interface Builders {
  readonly copy: (column: string) => unknown;
  readonly calculate: (columns: readonly string[], compute: (row: SourceRow) => string | null) => unknown;
}

export const ENTITY = "things";

/** The entity of a stranger's tables: every column copied as it is. */
export function entityOf(
  { source, target, alias = "s", columns, computed = false }: Stranger,
  more: Partial<Entity> = {},
): Entity {
  const define = defineEntity as unknown as (spec: object) => Entity;
  const copies = Object.entries(columns).map(([name, { from = name }], n) => [name, `c${n}`, `${alias}.${from}`] as const);
  const entity = define({
    name: ENTITY,
    target: { table: target, legacyKey: "legacy_id" },
    source: {
      table: source,
      key: "id",
      alias,
      columns: Object.fromEntries(copies.map(([, name, column]) => [name, column])),
      ignored: {},
    },
    fields: ({ copy, calculate }: Builders) =>
      Object.fromEntries(
        copies.map(([field, name]) => [field, computed ? calculate([name], (row) => row[name] ?? null) : copy(name)]),
      ),
  });
  return { ...entity, ...more };
}

/** The pipeline over a stranger's tables, empty. */
export async function createStranger(
  stranger: Stranger,
  more: Partial<Entity> = {},
  env: Record<string, string> = {},
): Promise<Pipeline> {
  const entity = entityOf(stranger, more);
  const test = await createPipeline({ entities: [entity], env });
  const there = Object.entries(stranger.columns).map(
    ([name, { type, from = name, sourceType = type }]) => `, ${ident(from)} ${sourceType}`,
  );
  const here = Object.entries(stranger.columns).map(([name, { type }]) => `, ${ident(name)} ${type}`);
  await test.source.admin.unsafe(`
    create table public.${ident(stranger.source)} (id bigint primary key${there.join("")});
    grant select on public.${ident(stranger.source)} to isthmus_reader`);
  await test.target.admin.unsafe(`
    create table public.${ident(stranger.target)} (id uuid primary key, legacy_id bigint not null unique${here.join("")});
    alter table public.${ident(stranger.target)} owner to postgres;
    ${workerGrants([entity])}`);
  return test;
}
