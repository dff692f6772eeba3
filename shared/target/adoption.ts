import type { Queryable } from "../db/connect.ts";
import { ident } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Claim } from "./claims.ts";
import type { PageMessage } from "./sending.ts";
import { IF_FITTING } from "../sql/fitting.ts";

export interface AdoptedPage {
  /** Legacy ids of the page. */
  readonly read: number;
  readonly adopted: number;
  readonly ambiguous: number;
  readonly dispatch: readonly PageMessage[];
}

/** Takes over the ids of the next page of target rows, in one commit. */
export async function adoptPage(target: Queryable, claim: Claim, leaseSeconds: number): Promise<AdoptedPage> {
  const row = await queryOne<{ page: AdoptedPage }>(
    target,
    "target",
    `select sync.adopt_page($1, $2, $3) as page ${IF_FITTING}`,
    [claim.chain.id, claim.chain.lease, leaseSeconds],
  );
  return row.page;
}

/** What an adoption would find in a table. */
export interface AdoptionPreview {
  readonly entity: string;
  readonly table: string;
  /** Legacy ids that exactly one row has. */
  readonly adoptable: number;
  /** Legacy ids that several rows have, and how many rows these are. */
  readonly ambiguous: number;
  readonly ambiguousRows: number;
  /** Rows without a legacy id: born in the application. */
  readonly withoutLegacyId: number;
  /** Whether an index leads with the legacy id; without one every page reads the whole table. */
  readonly indexed: boolean;
  /** Whether the entity may mint already. */
  readonly open: boolean;
}

export async function previewAdoption(target: Queryable, sourceId: number, entity: Entity): Promise<AdoptionPreview> {
  const key = ident(entity.target.legacyKey);
  const table = `public.${ident(entity.target.table)}`;
  const row = await queryOne<Omit<AdoptionPreview, "entity" | "table">>(
    target,
    "target",
    `select count(*) filter (where k is not null and n = 1)::integer as adoptable,
            count(*) filter (where k is not null and n > 1)::integer as ambiguous,
            coalesce(sum(n) filter (where k is not null and n > 1), 0)::integer as "ambiguousRows",
            coalesce(sum(n) filter (where k is null), 0)::integer as "withoutLegacyId",
            exists (select from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                     where i.indrelid = $1::text::regclass and i.indisvalid and i.indpred is null and a.attname = $2) as indexed,
            (select adoption_epoch > 0 from public.sync_entities where source_id = $3 and entity_type = $4) as open
       from (select t.${key} as k, count(*) as n from ${table} t group by 1) x`,
    [table, entity.target.legacyKey, sourceId, entity.name],
  );
  return { entity: entity.name, table: entity.target.table, ...row };
}

/** A person's decision on rows that share a legacy id. @throws IsthmusError DECISION_REFUSED. */
export async function adoptAs(target: Queryable, conflict: string, id: string): Promise<void> {
  await query(target, "target", "select sync.adopt_as($1::text::uuid, $2::text::uuid)", [conflict, id]);
}
