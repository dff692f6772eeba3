import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { denied } from "../clinic/denied.ts";
import { sourceTypes, targetTypes } from "../scripts/schema-types.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { validateRegistry } from "../shared/entity/validate-registry.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { compile } from "./support/compile.ts";
import { ownerUrl } from "./support/databases.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

const ROOT = resolve(import.meta.dirname, "..");
const ENTITIES = resolve(ROOT, "clinic/entities");

/** The code blocks of the guide's last section, by what stands behind their language. */
function guide(): Readonly<Record<string, string>> {
  const text = readFileSync(resolve(ROOT, "docs/entities.md"), "utf8");
  const section = text.slice(text.indexOf("## Another database"));
  return Object.fromEntries(
    [...section.matchAll(/^```(?:sql|ts) (\S+)\n(.*?)^```$/gms)].map((match) => [match[1] ?? "", match[2] ?? ""]),
  );
}

describe("the example at the end of docs/entities.md", () => {
  const blocks = guide();
  const files = Object.entries(blocks).filter(([name]) => name.endsWith(".ts"));
  const folder = mkdtempSync(resolve(ROOT, ".local/guide-"));
  let test: InProcess;
  let entities: Entity[];

  beforeAll(async () => {
    entities = await Promise.all(
      files.map(async ([name, text]) => {
        const file = resolve(folder, name);
        writeFileSync(file, text.replaceAll('"./define-entity.ts"', JSON.stringify(resolve(ENTITIES, "define-entity.ts"))));
        const module = (await import(pathToFileURL(file).href)) as Readonly<Record<string, Entity>>;
        const entity = module[name.replace(/\.ts$/, "")];
        if (!entity) throw new Error(`${name} exports no entity of its name`);
        return entity;
      }),
    );
    test = await createInProcess({ entities });
    await test.source.admin.unsafe(blocks["source"] ?? "");
    await test.source.admin.unsafe("grant select on all tables in schema public to isthmus_reader");
    const owner = postgres(ownerUrl(test.target), { max: 1 });
    await owner.unsafe(blocks["target"] ?? "");
    await owner.unsafe(workerGrants(entities));
    await owner.end();
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await test[Symbol.asyncDispose]();
  });

  const books = () =>
    test.target.admin`
      select b.legacy_book_id::integer as id, a.name, b.by_line, b.format, b.price::text
        from public.books b join public.authors a on a.id = b.author_id order by 1`;

  it("compiles against the types of its own schemas, and is a valid set of entities", async () => {
    const types = {
      "schema/source-tables.gen.ts": await sourceTypes(test.source.admin, denied),
      "schema/target-tables.gen.ts": await targetTypes(test.target.admin),
    };
    const errors = compile({ ...types, ...Object.fromEntries(files.map(([name, text]) => [`entities/${name}`, text])) });
    expect(Object.values(errors).flat()).toEqual([]);
    expect(Object.keys(errors)).toHaveLength(4);
    expect(validateRegistry(entities, denied)).toEqual([]);
  });

  it("lands every book or puts it into the queue, and follows a renamed author", async () => {
    await test.source.admin.unsafe(`
      insert into author (id, name) values (1, 'Ada'), (2, 'Brun');
      insert into book (id, author_id, title, format, price) values
        (1, 1, 'Engines', 1, 12.30), (2, 2, 'Bridges', 2, null), (3, 1, 'Tides', 3, 7), (4, 1, 'Debts', 1, -1)`);
    await test.sync();
    expect([...(await books())]).toEqual([
      { id: 1, name: "Ada", by_line: "Engines, by Ada", format: "paper", price: "12.30" },
      { id: 2, name: "Brun", by_line: "Bridges, by Brun", format: "audio", price: null },
    ]);
    const queue = await test.target.admin<{ id: number; state: string; rule: string }[]>`
      select source_record_id::integer as id, state, rule from public.sync_conflicts order by 1`;
    expect([...queue]).toEqual([
      { id: 3, state: "open", rule: "books.format.known_code@1" },
      { id: 4, state: "open", rule: "books.price.range@1" },
    ]);
    const warned = await test.target.admin<
      { id: number; rule: string }[]
    >`select legacy_id::integer as id, rule from public.sync_warnings`;
    expect([...warned]).toEqual([{ id: 2, rule: "books.audio_has_price@1" }]);

    await test.source.admin`update author set name = 'Ada L.' where id = 1`;
    await test.sync();
    expect((await books()).map((book) => (book as { by_line: string }).by_line)).toEqual([
      "Engines, by Ada L.",
      "Bridges, by Brun",
    ]);
  });
});
