import type { Pipeline } from "./pipeline.ts";

/** How many records an execution's digests found to differ, in whatever way. */
export async function differencesFound(test: Pipeline, execution: string): Promise<number> {
  const [row] = await test.target.admin<{ n: number }[]>`
    select coalesce(sum((f.value ->> 'count')::integer), 0)::integer as n
      from public.sync_reports r cross join lateral jsonb_each(r.body) f
     where r.execution_id = ${execution} and r.kind like 'digest:%' and f.key <> 'records'`;
  return row?.n ?? -1;
}
