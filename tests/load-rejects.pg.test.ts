import { describe, expect, it } from "vitest";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** A trigger of the application's, which refuses the office that is called "guilty" in its own way. */
const trigger = (statement: string) => async (test: Pipeline) => {
  await test.target.admin.unsafe(`
    create function public.refuse() returns trigger language plpgsql as $$
    declare v_one text;
    begin
      if new.name = 'guilty' then ${statement} end if;
      return new;
    end $$;
    create trigger refuse before insert or update on public.offices for each row execute function public.refuse()`);
};

describe("one record that the target refuses", () => {
  it.each([
    ["with a plain exception of a trigger", trigger("raise exception 'no';"), "P0001", "business_rule_violation"],
    ["with a trigger's own error code", trigger("raise exception sqlstate 'PT409';"), "PT409", "business_rule_violation"],
    ["with a trigger's code in digits", trigger("raise exception sqlstate '90001';"), "90001", "business_rule_violation"],
    ["with a failed assertion of a trigger", trigger("assert false;"), "P0004", "business_rule_violation"],
    [
      "with a trigger that finds nothing",
      trigger("select name into strict v_one from public.offices where false;"),
      "P0002",
      "business_rule_violation",
    ],
    [
      "with a trigger that finds too much",
      trigger("v_one := (select relname from pg_catalog.pg_class);"),
      "21000",
      "business_rule_violation",
    ],
    [
      "because a value is too long for an index",
      async (test: Pipeline) => {
        // Nothing that could be compressed.
        await test.target.admin.unsafe(`
          create function public.wide(p_text text) returns text immutable language sql as $$
            select case p_text when 'guilty' then (select string_agg(md5(n::text), '') from generate_series(1, 400) n) else p_text end $$;
          create index on public.offices (public.wide(name))`);
      },
      "54000",
      "schema_mismatch",
    ],
  ])("%s goes to the queue alone, and the others land", async (_, prepare, rule, type) => {
    await using test = await createPipeline();
    // Nobody has to acknowledge a trigger that comes after the first load.
    await test.sync({ entities: ["offices"] });
    for (const id of [1, 2, 3]) await test.seed.office(id);
    await test.source.admin`update public.dispatch_office set name = 'guilty' where id = 2`;
    await prepare(test);
    const { execution } = await test.sync({ entities: ["offices"] });
    expect((await test.status(execution)).status).toBe("succeeded");
    expect(await test.live("offices")).toMatchObject([{ id: 2, state: "open", rule, type }]);
    const landed = await test.target.admin<
      { id: number }[]
    >`select legacy_office_id::integer as id from public.offices order by 1`;
    expect(landed.map((row) => row.id)).toEqual([1, 3]);
  });

  it("is not blamed for a trigger that needs what is gone: the chain ends and nothing is queued", async () => {
    await using test = await createPipeline();
    for (const id of [1, 2, 3]) await test.seed.office(id);
    const { execution } = await test.start({ entities: ["offices"] });
    await test.target.admin.unsafe(`
      create function public.needs_a_table() returns trigger language plpgsql as $f$ begin insert into public.gone values (new.id); return new; end $f$;
      create trigger needs_a_table before insert or update on public.offices for each row execute function public.needs_a_table()`);
    await test.drain();
    expect(await test.status(execution)).toMatchObject({
      status: "failed",
      errors: [{ code: "TARGET_REFUSED", sqlstate: "42P01" }],
    });
    expect(await test.live("offices")).toEqual([]);
  });

  it("is not blamed for what concerns every record: a missing right ends the chain and nothing is queued", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    const { execution } = await test.start({ entities: ["offices"] });
    await test.target.admin`revoke update on public.sync_row_states from isthmus_worker`;
    await test.drain();
    expect(await test.status(execution)).toMatchObject({
      status: "failed",
      errors: [{ code: "TARGET_REFUSED", sqlstate: "42501" }],
    });
    expect(await test.live("offices")).toEqual([]);
  });
});
