import { expect, it } from "vitest";
import { operations } from "../clinic/entities/operations.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { workerCpuMs } from "./support/cpu.ts";
import { createInProcess } from "./support/in-process.ts";

const ROWS = 5_000;
const ROUNDS = 7;
it(
  "looking for edits costs less than a quarter of the load of a page whose targets are untouched",
  { timeout: 300_000 },
  async () => {
    await using test = await createInProcess({
      entities: [operations],
      env: { ISTHMUS_PAGE_SIZE: String(ROWS), ISTHMUS_PAGE_SIZE_MAX: String(ROWS), ISTHMUS_BRAKE_OVERWRITE_SHARE: "1" },
    });
    await test.target.admin.unsafe(workerGrants([operations]));
    await test.source.admin`
    insert into public.dispatch_operation (id, type, price, card_brand) select id, 1, id, 'VISA' from generate_series(1, ${ROWS}::integer) id`;
    await test.sync({ capture: "full" });

    const definitionOf = async (name: string) => {
      const [row] = await test.target.admin<{ text: string }[]>`select pg_get_functiondef(${name}::regproc) as text`;
      return row?.text ?? "";
    };
    const threeWay = [
      await definitionOf("sync.classify_statement"),
      await definitionOf("sync.decision_sql"),
      await definitionOf("sync.write_statements"),
    ];
    // What the source says is written, without a look at what the target holds or what was left there.
    const blind = [
      (threeWay[0] ?? "")
        .replace(
          "cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %4$s) x offset 0) o",
          "cross join lateral (select '{}'::jsonb as now) o",
        )
        .replace(/\(select %9\$s from \([^]*? as now\) o\) as "left"/, 'null::jsonb as "left"'),
      (threeWay[1] ?? "").replace(/RETURN [^]*/i, "RETURN 'case when true then ''take'' end'::text"),
      // Nothing was looked at before: there is nothing to compare with after the write.
      (threeWay[2] ?? "")
        .replace("case when o.now::text is distinct from w.meant::text then", "case when false then")
        .replace("q.action = 'insert' or q.\"left\" = q.now then", "true then"),
    ];
    expect(blind[0]).toContain("(select '{}'::jsonb as now) o");
    expect(blind[0]).toContain('null::jsonb as "left"');
    expect(blind[1]).not.toBe(threeWay[1]);
    expect(blind[2]).toContain("case when false then");
    expect(blind[2]).toContain("case when true then");

    let price = ROWS;
    const load = async (functions: readonly string[]) => {
      for (const text of functions) await test.target.admin.unsafe(text);
      await test.source.admin`update public.dispatch_operation set price = ${price++} + id, card_brand = ${`brand ${price}`}`;
      const before = await workerCpuMs(test.target);
      await test.start({ capture: "full" });
      const page = test.queue.shift();
      if (!page) throw new Error("no page");
      expect(await test.run(page)).toMatchObject({ outcome: "committed", counts: { updated: ROWS } });
      const used = (await workerCpuMs(test.target)) - before;
      await test.drain();
      return used;
    };
    const [full, without]: [number[], number[]] = [[], []];
    await load(threeWay);
    for (let round = 0; round < ROUNDS; round++) {
      without.push(await load(blind));
      full.push(await load(threeWay));
    }
    // Beside other work on the machine CPU varies by a tenth, always upwards: the least of several loads is the
    // load's own.
    const [most, least] = [Math.min(...full), Math.min(...without)];
    const ratio = most / least;
    process.stdout.write(`three-way ${most} ms, blind ${least} ms of CPU per ${ROWS} records: ${ratio.toFixed(2)}\n`);
    expect(ratio).toBeLessThan(1.25);
  },
);
