import { beforeAll, describe, expect, it } from "vitest";
import { validateRegistry } from "../shared/entity/validate-registry.ts";
import { checkContract } from "../shared/contract/check-contract.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import type { SelectionRequest } from "../shared/plan/plan-selection.ts";
import { beginSource } from "../shared/target/plan.ts";
import { createTestTarget } from "./support/databases.ts";
import {
  ASKED,
  DRIVING,
  JOINED,
  joinedStranger,
  NAMES_OF_ONE,
  THROUGH_ANOTHER,
  WATCHED,
  type JoinedStranger,
} from "./support/joined-stranger.ts";
import { readAsMadeRole } from "./support/made-reader.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { sqlNames } from "./support/sql-names.ts";

/** The names, sixteen at a time. */
let groups: readonly (readonly string[])[];
/** What no new table of the target can be called. */
let taken: readonly string[];
beforeAll(async () => {
  await using target = await createTestTarget();
  const { relations } = await sqlNames(target.admin);
  const [there] = await target.admin<{ names: string[] }[]>`
    select to_json(array_agg(relname::text)) as names from pg_class where relnamespace = 'public'::regnamespace`;
  taken = there?.names ?? [];
  const count = Math.ceil(relations.length / NAMES_OF_ONE);
  groups = Array.from({ length: count }, (_, at) =>
    // Neighbours in the alphabet are often one word, and stand far apart here.
    Array.from({ length: NAMES_OF_ONE }, (_, place) => relations[at + place * count] ?? `one_more_${at}_${place}`),
  );
  expect(groups.flat()).toEqual(expect.arrayContaining([...relations]));
});

async function created(strangers: readonly JoinedStranger[]): Promise<Pipeline> {
  const entities = strangers.map(({ entity }) => entity);
  const test = await createPipeline({ entities, env: { ISTHMUS_CHAINS_PER_ENTITY: "1" } });
  for (const stranger of strangers) await stranger.create(test);
  await test.target.admin.unsafe(workerGrants(entities));
  return test;
}

describe("joined and watched tables, their aliases and columns may be called like anything in our SQL", () => {
  it.each([0, 1, 2, 3])("part %i", { timeout: 240_000 }, async (part) => {
    const strangers = groups
      .filter((_, at) => at % 4 === part)
      .map((names) =>
        joinedStranger(names, taken.includes(names[0] ?? "") ? `${names[0]} of the application` : (names[0] ?? "")),
      );
    expect(
      validateRegistry(
        strangers.map(({ entity }) => entity),
        { secrets: [], onRequest: [], optedIn: {} },
      ),
    ).toEqual([]);
    await using test = await created(strangers);
    await using _reader = await readAsMadeRole(test);
    const each = async (work: (stranger: JoinedStranger) => Promise<unknown>) => {
      for (const stranger of strangers) await work(stranger);
    };
    const expectEqual = () =>
      each(async (stranger) => {
        const [there, here] = await stranger.both(test);
        expect(here, stranger.entity.name).toEqual(there);
      });
    /** Runs it as a plan, and then itself. What each counts, per entity. */
    const counted = async (
      request: Partial<SelectionRequest>,
      counts: Readonly<Record<string, number>>,
      runs = [true, false],
    ) => {
      for (const dryRun of runs) {
        const { execution } = await test.sync({ ...request, dryRun });
        const [sums] = await test.target.admin`
          select sum(inserted)::integer as inserted, sum(updated)::integer as updated, sum(deleted)::integer as deleted, sum(waived)::integer as waived
            from public.sync_page_log where execution_id = ${execution}`;
        const all = Object.entries({ inserted: 0, updated: 0, deleted: 0, waived: 0, ...counts });
        expect(sums, `${JSON.stringify(request)}, dry run: ${dryRun}`).toEqual(
          Object.fromEntries(all.map(([what, n]) => [what, n * strangers.length])),
        );
      }
      await expectEqual();
    };

    // Nothing keeps the keys of these tables unique: their rows are asked.
    await each((stranger) => stranger.fill(test));
    const { findings } = await checkContract(test.context, await beginSource(test.context.target, "legacy"), { fresh: true });
    expect(findings).toEqual([]);
    await counted({ capture: "full" }, { inserted: 2, waived: 1 });

    // A row of a joined table, of one joined through another, and of one that an expression asks about, each of
    // another record; what the predicate asks about lets one record in, and another out.
    await each(async (stranger) => {
      await stranger.say(test, THROUGH_ANOTHER, 1, "joined");
      await stranger.say(test, WATCHED, 3, "watched");
      await stranger.say(test, ASKED, 2, "waived");
      await stranger.say(test, ASKED, 3, "heard");
    });
    await counted({}, { inserted: 1, updated: 1, deleted: 1 });

    // Found by a stamp, by a value, and by both sides.
    await each((stranger) => stranger.say(test, DRIVING, 1, "stamped"));
    await counted({ capture: "modified" }, { updated: 1 }, [false]);
    await each((stranger) => stranger.say(test, JOINED[4], 1, "selected"));
    await counted(
      { filters: Object.fromEntries(strangers.map(({ entity, filter }) => [entity.name, { [filter]: ["stamped"] }])) },
      { updated: 1 },
    );
    await each((stranger) => stranger.say(test, JOINED[2], 3, "compared"));
    await counted({ capture: "digest" }, { updated: 1 }, [false]);
  });
});
