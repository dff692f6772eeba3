import { defineEntity, inZone, type Conflicts, type Entity, type SourceRow } from "../../shared/entity/define-entity.ts";
import type { ZoneRules } from "../../shared/entity/zones.ts";
import { workerGrants } from "../../shared/operate/grants.ts";
import { ident } from "../../shared/db/ident.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";

/** One table of either side that nobody here designed: what it is called, and a copied column per entry. */
export interface Stranger {
  /** Default: things. */
  readonly name?: string;
  readonly source: string;
  readonly target: string;
  /** How the entity's SQL calls the source table. */
  readonly alias?: string;
  /** Target column → its type, what the source's column is called, the source's type, the zone that its times are meant in, and what its clocks skip and repeat. */
  readonly columns: Readonly<
    Record<
      string,
      {
        readonly type: string;
        readonly from?: string;
        readonly sourceType?: string;
        readonly zone?: string;
        readonly zoneRules?: ZoneRules;
      }
    >
  >;
  /** A column of the source alone that says when a row was changed. */
  readonly modified?: string;
  /** Fields are computed, so that a column of any type takes what the source has. */
  readonly computed?: boolean;
  /** Fields are amounts, whose sums both sides compare after each execution. */
  readonly money?: boolean;
}

interface Builders {
  readonly copy: (column: string) => unknown;
  readonly money: (column: string) => unknown;
  readonly calculate: (columns: readonly string[], compute: (row: SourceRow) => string | null) => unknown;
}

export const ENTITY = "things";

/** The entity of a stranger's tables: every column copied as it is. */
export function entityOf(
  { name: called = ENTITY, source, target, alias = "s", columns, modified, computed = false, money = false }: Stranger,
  more: NonNullable<Rest[0]> = {},
): Entity {
  const define = defineEntity as unknown as (spec: object) => Entity;
  const copies = Object.entries(columns).map(([name, { from = name, zone, zoneRules }], n) => {
    const column = `${alias}.${from}`;
    return [name, `c${n}`, zone === undefined ? column : inZone(column, zone, "a test", zoneRules)] as const;
  });
  const entity = define({
    name: called,
    target: { table: target, legacyKey: "legacy_id" },
    source: {
      table: source,
      key: "id",
      alias,
      columns: Object.fromEntries(copies.map(([, name, column]) => [name, column])),
      ignored: modified === undefined ? {} : { [modified]: "says when a row was changed" },
      ...(modified === undefined ? {} : { modified }),
    },
    fields: ({ copy, money: amount, calculate }: Builders) =>
      Object.fromEntries(
        copies.map(([field, name]) => [
          field,
          computed ? calculate([name], (row) => row[name] ?? null) : money ? amount(name) : copy(name),
        ]),
      ),
  });
  return { ...entity, ...more, conflicts: { ...entity.conflicts, ...more.conflicts } };
}

/** What of the entity is otherwise; the environment; what both databases need before their tables. */
type Rest = [
  more?: Omit<Partial<Entity>, "conflicts"> & { readonly conflicts?: Conflicts },
  env?: Record<string, string>,
  prepare?: (test: Pipeline) => Promise<void>,
];

/** The pipeline over a stranger's tables, empty. */
export function createStranger(stranger: Stranger, ...more: Rest): Promise<Pipeline> {
  return createStrangers([stranger], ...more);
}

/** The same of several. */
export async function createStrangers(
  strangers: readonly Stranger[],
  ...[more = {}, env = {}, prepare]: Rest
): Promise<Pipeline> {
  const entities = strangers.map((stranger) => entityOf(stranger, more));
  const test = await createPipeline({ entities, env });
  await prepare?.(test);
  for (const stranger of strangers) await createTables(test, stranger);
  await test.target.admin.unsafe(workerGrants(entities));
  return test;
}

async function createTables(test: Pipeline, stranger: Stranger): Promise<void> {
  const there = Object.entries(stranger.columns).map(
    ([name, { type, from = name, sourceType = type }]) => `, ${ident(from)} ${sourceType}`,
  );
  if (stranger.modified !== undefined) there.push(`, ${ident(stranger.modified)} timestamptz not null default clock_timestamp()`);
  const here = Object.entries(stranger.columns).map(([name, { type }]) => `, ${ident(name)} ${type}`);
  await test.source.admin.unsafe(`
    create table public.${ident(stranger.source)} (id bigint primary key${there.join("")});
    grant select on public.${ident(stranger.source)} to isthmus_reader`);
  await test.target.admin.unsafe(`
    create table public.${ident(stranger.target)} (id uuid primary key, legacy_id bigint not null unique${here.join("")});
    alter table public.${ident(stranger.target)} owner to postgres`);
}
