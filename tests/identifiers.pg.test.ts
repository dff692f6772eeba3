import { expect, it } from "vitest";
import { connect } from "../shared/db/connect.ts";
import { ident } from "../shared/db/ident.ts";
import { checkContract } from "../shared/contract/check-contract.ts";
import { sourceRoleSql } from "../shared/operate/source-setup.ts";
import { beginSource } from "../shared/target/plan.ts";
import { HOSTILE_NAMES as NAMES } from "./support/hostile-schemas/names.ts";
import { runScript } from "./support/run-script.ts";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";

const KIND = 'public."Kind of Thing"';
const MEMBERS = ["New, or so", "it's", 'in "quotes"', "Straße", "back\\slash", "{brace}", " "];

const STRANGER: Stranger = {
  source: "Somebody's Old Things\\ (v2)",
  target: 'Anybody\'s Things\\ "new"',
  columns: { ...Object.fromEntries(NAMES.map((name) => [name, { type: "text" }])), "The Kind": { type: KIND, sourceType: KIND } },
  computed: true,
};

it("tables, columns and members of enums may be called whatever PostgreSQL allows, on either side", async () => {
  await using test = await createStranger(
    STRANGER,
    { conflicts: { strategy: "manual_review" } },
    {},
    async ({ source, target }) => {
      for (const db of [source, target])
        await db.admin.unsafe(`create type ${KIND} as enum (${MEMBERS.map((member) => `$v$${member}$v$`).join(", ")})`);
    },
  );
  const [old, fresh] = [`public.${ident(STRANGER.source)}`, `public.${ident(STRANGER.target)}`];
  await test.target.admin.unsafe(
    `create unique index ${ident("Only one, per $2")} on ${fresh} (${ident("cash$2")}, lower(${ident("First Name")}));
     alter table ${fresh} add constraint ${ident('no "thing"')} check (${ident("a.b")} <> 'refused')`,
  );
  // The role that setup-source makes reads what entities name, and nothing else.
  const role = `reader ${test.source.name.slice(-12)}`;
  const entities = [...test.context.entities.values()];
  await runScript(test.source.superuserUrl, sourceRoleSql(entities, role));
  const source = connect({
    side: "source",
    url: test.source.url(encodeURIComponent(role), "local-reader"),
    tls: "disable",
    poolSize: 2,
    idleTimeoutSeconds: 5,
    connectTimeoutSeconds: 5,
    applicationName: "test",
  });
  try {
    Object.assign(test.context, { source });
    const { findings } = await checkContract(test.context, await beginSource(test.context.target, "legacy"), { fresh: true });
    expect(findings).toEqual([]);

    const columns = [...NAMES, "The Kind"];
    for (const [at, member] of MEMBERS.entries())
      await test.source.admin.unsafe(
        `insert into ${old} (id, ${columns.map(ident).join(", ")})
         values (${at + 1}, ${NAMES.map((_, n) => `'value ${n} of ${at + 1}'`).join(", ")}, $v$${member}$v$)`,
      );
    const both = async () => {
      const list = columns.map((name, n) => `${ident(name)}::text as c${n}`).join(", ");
      return [
        [...(await test.source.admin.unsafe(`select ${list} from ${old} order by id`))],
        [...(await test.target.admin.unsafe(`select ${list} from ${fresh} order by legacy_id`))],
      ];
    };
    const expectEqual = async () => {
      const [there, here] = await both();
      expect(here).toEqual(there);
    };
    await test.sync({ dryRun: true });
    await test.sync();
    expect(await test.live(ENTITY)).toEqual([]);
    await expectEqual();

    // One column changes on both sides, another at the source: a person decides on the first alone.
    await test.source.admin.unsafe(`update ${old} set "City, Zip" = 'source', "_key" = 'source' where id = 1`);
    await test.target.admin.unsafe(`update ${fresh} set "City, Zip" = 'person' where legacy_id = 1`);
    await test.sync();
    expect(await test.live(ENTITY)).toMatchObject([{ id: 1, rule: "both_changed", field: '"City, Zip"' }]);
    await test.target.admin`
      update public.sync_conflicts set resolution_strategy = 'merge', resolution_data = '{"City, Zip": "source"}' where state = 'open'`;
    await expectEqual();

    // Unique values change places, and what a constraint refuses is named.
    await test.source.admin.unsafe(
      `update ${old} w set "cash$2" = (select o."cash$2" from ${old} o where o.id = 5 - w.id), "First Name" = 'same' where w.id in (2, 3)`,
    );
    await test.sync();
    await test.source.admin.unsafe(`update ${old} set "a.b" = 'refused' where id = 4`);
    await test.sync();
    expect(await test.live(ENTITY)).toMatchObject([{ id: 4, rule: 'no "thing"' }]);
    await test.source.admin.unsafe(`update ${old} set "a.b" = 'fine' where id = 4`);
    await test.sync({ capture: "digest" });
    await expectEqual();
    expect(await test.live(ENTITY)).toEqual([]);
  } finally {
    await source.end({ timeout: 1 });
    await test.source.admin.unsafe(`drop owned by ${ident(role)}; drop role ${ident(role)}`).simple();
  }
});
