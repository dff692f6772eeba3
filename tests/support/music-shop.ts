import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { installation } from "../../examples/music-shop/installation.ts";
import { sqlOf } from "../../local/target/supabase.ts";
import { acknowledge } from "../../shared/contract/check.ts";
import { workerGrants } from "../../shared/operate/grants.ts";
import { shapesOf, type Shapes } from "../verifier/catalog.ts";
import { say } from "../verifier/finding.ts";
import { musicShop } from "../verifier/music-shop.ts";
import { pinnedSession } from "../verifier/session.ts";
import { verify } from "../verifier/verify.ts";
import { ownerUrl } from "./databases.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";

export const SHOP = resolve(import.meta.dirname, "../../examples/music-shop");

export interface Shop extends Pipeline {
  /** The verifier's sessions. */
  readonly sides: { readonly source: Sql; readonly target: Sql };
  /** The shapes of the target's tables that the verifier goes by: as they were when it looked last. */
  readonly shapes: () => Shapes;
  readonly look: () => Promise<void>;
  /** Everything that the verifier finds, as `entity: kind id column (who answers)`. */
  readonly found: () => Promise<string[]>;
}

/** The tables of the application that tests have otherwise; the sync's own stay. */
export const WITHOUT_CLINIC = `do $$ declare it record; begin
  for it in select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
             and c.relname !~ '^(sync_|uuid_mappings)' loop
    execute format('drop table public.%I cascade', it.relname);
  end loop;
end $$`;

/** Both databases with their schemas, and the rows of the source; nothing has been synced. */
export async function createShop(): Promise<Shop> {
  const test = await createPipeline({ installation });
  for (const { admin } of [test.source, test.target]) await admin.unsafe(WITHOUT_CLINIC);
  await test.source.admin.unsafe(sqlOf(resolve(SHOP, "source")));
  await test.source.admin.unsafe(readFileSync(resolve(SHOP, "dataset/rows.sql"), "utf8"));
  const owner = postgres(ownerUrl(test.target), { max: 1, onnotice: () => undefined });
  await owner.unsafe(sqlOf(resolve(SHOP, "target")));
  await owner.unsafe(workerGrants(installation.entities));
  await owner.end();
  // Lines keep a total of their invoice.
  await acknowledge(test.context, undefined, "a test");
  const sides = { source: pinnedSession(test.source.superuserUrl), target: pinnedSession(test.target.superuserUrl) };
  let shapes = await shapesOf(sides.target, musicShop);
  return {
    ...test,
    sides,
    shapes: () => shapes,
    look: async () => {
      shapes = await shapesOf(sides.target, musicShop);
    },
    found: async () => {
      const lines: string[] = [];
      for (const definition of musicShop) {
        const { findings } = await verify(sides.source, sides.target, definition, shapes);
        lines.push(...findings.map((one) => `${definition.entity}: ${say(one)}`));
      }
      return lines.sort();
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([sides.source.end(), sides.target.end()]);
      await test[Symbol.asyncDispose]();
    },
  };
}
