import { expect, it } from "vitest";
import { createPipeline } from "./support/pipeline.ts";

it("the raw text beside a mapped value follows the source even when the mapped value stays the same", async () => {
  await using test = await createPipeline();
  await test.seed.group(3, "Technician");
  await test.seed.user(1);
  await test.seed.membership(1, 1, 3);
  const raw = async () =>
    (
      await test.target.admin<{ name: string | null }[]>`
        select s.raw ->> 'first_name' as name from public.sync_row_states s join public.sync_entities e on e.id = s.entity_id
         where e.entity_type = 'profiles' and s.legacy_id = 1`
    )[0]?.name;
  await test.sync();
  expect(await raw()).toBe("");
  // '' and 'null' both mean none.
  await test.source.admin`update public.auth_user set first_name = 'null' where id = 1`;
  await test.sync();
  expect(await raw()).toBe("null");
});
