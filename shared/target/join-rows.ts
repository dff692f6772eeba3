import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { queryOne } from "../db/query.ts";
import type { ConsumedJoin, JoinRow } from "../entity/consumed-joins.ts";
import type { Claim } from "./claims.ts";
import type { PageMessage } from "./sending.ts";
import { IF_FITTING } from "../sql/fitting.ts";

/** The links, new and old, of rows that differ from what was consumed last, and how many records are listed for it already. */
export async function differingLinks(
  target: Queryable,
  { chain, execution }: Claim,
  join: ConsumedJoin,
  rows: readonly JoinRow[],
): Promise<{ links: string[]; listed: number }> {
  const row = await queryOne<{ found: { links: string[]; listed: number } }>(
    target,
    "target",
    `select sync.compare_join_rows($1::integer::smallint, $2, $3::text::bigint[], $4::text::bigint[], $5::text::bigint[], $6) as found`,
    [chain.entity_id, join.id, ...arraysOf(rows), execution.dry_run ? execution.id : null],
  );
  return row.found;
}

/** What a page of joined rows reports of itself. */
export interface JoinPageFacts {
  readonly range: { readonly lowest: string; readonly highest: string } | null;
  readonly cursor: string | null;
  readonly table_file: string | null;
  readonly done: boolean;
  readonly heap_bytes: number | null;
  readonly wall_ms: number;
  readonly next_page_size: number;
  readonly lease_seconds: number;
  readonly definition_hash: string;
}

/** What was consumed and the records to read again, in one commit; a dry run notes only these, and for itself. */
export async function commitJoinPage(
  target: Queryable,
  claim: Claim,
  rows: readonly JoinRow[],
  keys: readonly string[],
  facts: JoinPageFacts,
): Promise<PageMessage[]> {
  const page = [integerArray(keys), JSON.stringify(facts)];
  const [call, parameters] = claim.execution.dry_run
    ? ["plan_join_page($1, $2, $3::text::bigint[], $4::text::jsonb)", page]
    : [
        `commit_join_page($1, $2, $3::text::bigint[], $4::text::bigint[], $5::text::bigint[], $6::text::bigint[], $7::text::jsonb)`,
        [...arraysOf(rows), ...page],
      ];
  const row = await queryOne<{ dispatch: PageMessage[] }>(target, "target", `select sync.${call} as dispatch ${IF_FITTING}`, [
    claim.chain.id,
    claim.chain.lease,
    ...parameters,
  ]);
  return row.dispatch;
}

function arraysOf(rows: readonly JoinRow[]): [string, string, string] {
  return [
    integerArray(rows.map((row) => row.id)),
    integerArray(rows.map((row) => row.link)),
    integerArray(rows.map((row) => row.digest)),
  ];
}
