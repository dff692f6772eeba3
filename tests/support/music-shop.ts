import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import postgres, { type Sql } from "postgres";
import type { Entity } from "../../shared/entities/define-entity.ts";
import { acknowledge } from "../../shared/jobs/check.ts";
import { workerGrants } from "../../shared/jobs/grants.ts";
import { shapesOf, type Shapes } from "../verifier/catalog.ts";
import { say } from "../verifier/finding.ts";
import { musicShop } from "../verifier/music-shop.ts";
import { pinnedSession } from "../verifier/session.ts";
import { verify } from "../verifier/verify.ts";
import { ownerUrl } from "./databases.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const SHOP = resolve(ROOT, "tests/fixtures/music-shop");
const DEFINE = resolve(ROOT, "shared/entities/define-entity.ts");

/** The entity files by name, as they would lie in shared/entities. */
export function shopFiles(): Readonly<Record<string, string>> {
  const folder = resolve(SHOP, "entities");
  return Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(resolve(folder, name), "utf8")]));
}

/** What the entity files define. */
async function shopEntities(): Promise<Entity[]> {
  mkdirSync(resolve(ROOT, ".local"), { recursive: true });
  const folder = mkdtempSync(resolve(ROOT, ".local/shop-"));
  try {
    const entities: Entity[] = [];
    for (const [name, text] of Object.entries(shopFiles())) {
      const file = resolve(folder, name);
      writeFileSync(file, text.replaceAll('"./define-entity.ts"', JSON.stringify(DEFINE)));
      entities.push(...Object.values((await import(pathToFileURL(file).href)) as Readonly<Record<string, Entity>>));
    }
    return entities;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface Shop extends Pipeline {
  /** The verifier's sessions. */
  readonly sides: { readonly source: Sql; readonly target: Sql };
  /** The shapes of the target's tables that the verifier goes by: as they were when it looked last. */
  readonly shapes: () => Shapes;
  readonly look: () => Promise<void>;
  /** Everything that the verifier finds, as `entity: kind id column (who answers)`. */
  readonly found: () => Promise<string[]>;
}

/** Both databases with their schemas, and the rows of the source; nothing has been synced. */
export async function createShop(): Promise<Shop> {
  const entities = await shopEntities();
  const test = await createPipeline({ entities });
  const sql = (name: string) => readFileSync(resolve(SHOP, name), "utf8");
  await test.source.admin.unsafe(sql("source.sql"));
  await test.source.admin.unsafe(sql("rows.sql"));
  const owner = postgres(ownerUrl(test.target), { max: 1, onnotice: () => undefined });
  await owner.unsafe(sql("target.sql"));
  await owner.unsafe(workerGrants(entities));
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
