import { readFileSync } from "node:fs";
import postgres, { type TransactionSql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { asRole, outcomeOf, type Role } from "./support/data-api.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { testServer } from "./support/servers.ts";

/** Who sees and decides what is in the queue, and what a decision can write. */

type Work<T> = (tx: TransactionSql) => Promise<T>;
type Data = Readonly<Record<string, unknown>>;
interface Conflict {
  readonly id: string;
  readonly key: number;
  readonly row: string;
}

const ORDERS = 40;
/** What each conflict is about: a number, a reference, JSON, text that is sensitive and text that is not. */
const FIELDS = ["amount", "doctor_id", "metadata", "notes", "suffix"];
const REVIEWER = { sub: "5b1a4c1e-0000-4000-8000-000000000001", email: "reviewer@clinic.example" };
const SECRET = "by hand, and nobody's business";
const LONG = "long ".repeat(200);

let test: Pipeline;
let open: Conflict[];
let serverLog: string;
let logFrom: number;

beforeAll(async () => {
  test = await createPipeline();
  serverLog = (await testServer()).log;
  await test.seed.office(1);
  for (const id of [50, 51, 52]) await test.seed.doctor(id);
  await test.seed.patient(1, { userId: 20, doctorId: 50, officeId: 1 });
  for (let id = 1; id <= ORDERS; id++) await test.seed.instruction(id, 1, { notes: "agreed", price: "10.00" });
  await test.sync();
  await test.target.admin`
    update public.orders set notes = ${SECRET}, suffix = 'H', amount = 30, metadata = '{"model": 3}',
           doctor_id = (select id from public.doctors where legacy_user_id = 52)`;
  await test.source.admin`update public.dispatch_instruction set notes = ${LONG}, suffix = 'S', price = 20, model = 2`;
  await test.source.admin`update public.dispatch_patient set doctor_id = 51`;
  await test.sync({ conflictStrategy: "manual_review" });
  await test.target.admin`select sync.count_queue(id) from public.sync_sources`;
  open = [
    ...(await test.target.admin<Conflict[]>`
      select id, source_record_id::integer as key, target_record_id as row from public.sync_conflicts
       where state = 'open' and field = ${FIELDS.join(", ")} order by source_record_id`),
  ];
  expect(open).toHaveLength(ORDERS);
  logFrom = readFileSync(serverLog, "utf8").length;
});
afterAll(() => test[Symbol.asyncDispose]());

const as = <T>(role: Role, work: Work<T>, claims: object = {}) => asRole(test.target.admin, role, work, claims);
const asReviewer = <T>(work: Work<T>) => as("reviewer", work, REVIEWER);
/** A conflict that no other test has decided. */
function next(): Conflict {
  const conflict = open.shift();
  if (!conflict) throw new Error("no open conflict is left");
  return conflict;
}
const decide = (conflict: Conflict, strategy: string | null, data: unknown = null) =>
  asReviewer(
    async (tx) =>
      (
        await tx`
          update public.sync_conflicts set resolution_strategy = ${strategy}::public.conflict_resolution_strategy,
                 resolution_data = ${data === null ? null : tx.json(data as never)} where id = ${conflict.id} returning id`
      ).length,
  );
const stateOf = async ({ id }: Conflict) =>
  (
    await test.target
      .admin`select state, resolution_strategy as strategy, resolved_by as by from public.sync_conflicts where id = ${id}`
  )[0];
const orderOf = async ({ key }: Conflict) =>
  (
    await test.target.admin<
      Data[]
    >`select to_jsonb(o) - 'updated_at' as row from public.orders o where legacy_instruction_id = ${key}`
  )[0]?.["row"] as Data;
/** Every table of the target but the rows that tell of this record and its conflict: what a decision must leave as it is. */
async function everythingBut({ id, key, row }: Conflict): Promise<Record<string, string>> {
  const { admin } = test.target;
  const tables = await admin<{ name: string }[]>`
    select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1`;
  const digests: Record<string, string> = {};
  for (const { name } of tables) {
    const [digest] = await admin.unsafe<{ digest: string }[]>(
      `select count(*) || ' ' || coalesce(md5(string_agg(t::text, ' ' order by t::text collate "C")), '') as digest
         from public."${name}" t where not (t::text like $1 or t::text like $2)
          ${name === "sync_row_states" ? `and legacy_id <> ${key}` : ""}`,
      [`%${id}%`, `%${row}%`],
    );
    digests[name] = digest?.digest ?? "";
  }
  return digests;
}

/** A value for each field, as far as the given ones do not replace it. */
const merged = (values: Data = {}): Data => ({
  amount: 25.5,
  doctor_id: null,
  metadata: { model: 4 },
  notes: "agreed by both",
  suffix: "B",
  ...values,
});

describe("who sees and decides", () => {
  const CALLERS: readonly { title: string; role: Role; claims: object; sees: boolean }[] = [
    { title: "a reviewer", role: "reviewer", claims: REVIEWER, sees: true },
    { title: "an operator", role: "operator", claims: {}, sees: false },
    { title: "a signed-in user without a role", role: "authenticated", claims: {}, sees: false },
    {
      title: "one who wrote the role into their own metadata",
      role: "authenticated",
      claims: { user_metadata: { isthmus_role: "reviewer" } },
      sees: false,
    },
    { title: "one with the role beside app_metadata", role: "authenticated", claims: { isthmus_role: "reviewer" }, sees: false },
    {
      title: "one whose role is spelt otherwise",
      role: "authenticated",
      claims: { app_metadata: { isthmus_role: "Reviewer" } },
      sees: false,
    },
    {
      title: "one with a list of roles",
      role: "authenticated",
      claims: { app_metadata: { isthmus_role: ["reviewer"] } },
      sees: false,
    },
    { title: "one whose token has no claims", role: "authenticated", claims: { app_metadata: null }, sees: false },
  ];

  it.each(
    CALLERS.map((caller) => [caller.title, caller.sees ? "sees and decides" : "neither sees nor decides", caller] as const),
  )("%s %s what is open", async (_, __, { role, claims, sees }) => {
    const conflict = next();
    const before = await stateOf(conflict);
    // Without a condition nothing is read, so that the policy of reading does not help.
    const blindly: Work<number> = async (tx) =>
      (await tx`update public.sync_conflicts set resolution_strategy = 'target_wins'`).count;
    if (!sees) expect(await as(role, blindly, claims)).toBe(0);
    const counted = await as(
      role,
      async (tx) => {
        const seen = await tx`select from public.sync_conflicts where id = ${conflict.id}`;
        const decided = await tx`update public.sync_conflicts set resolution_strategy = 'target_wins' where id = ${conflict.id}`;
        return [seen.length, decided.count];
      },
      claims,
    );
    expect(counted).toEqual(sees ? [1, 1] : [0, 0]);
    expect(await stateOf(conflict)).toEqual(sees ? { state: "resolved", strategy: "target_wins", by: REVIEWER.email } : before);
  });

  it.each(["anon", "service_role"] as const)("%s has no right at all, whatever its claims say", async (role) => {
    const claims = { app_metadata: { isthmus_role: "reviewer" }, ...REVIEWER };
    for (const table of ["sync_conflicts", "sync_conflict_values", "sync_audit", "sync_queue_counts"])
      expect(await outcomeOf(as(role, (tx) => tx.unsafe(`select from public.${table}`), claims)), table).toBe("42501");
    const { id } = next();
    for (const statement of [
      `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${id}'`,
      `select sync.reveal('${id}')`,
    ])
      expect(await outcomeOf(as(role, (tx) => tx.unsafe(statement), claims)), statement).toBe("42501");
  });

  it("an operator sees how many records are in the queue and who decided what, and no record", async () => {
    await decide(next(), "target_wins");
    const seen = await as("operator", async (tx) => ({
      counts: [...(await tx`select entity_type, state, conflict_type, records::integer from public.sync_queue_counts`)],
      decisions: (await tx`select from public.sync_audit where action = 'decided'`).length > 0,
      conflicts: (await tx`select from public.sync_conflicts`).length,
    }));
    expect(seen).toEqual({
      counts: [{ entity_type: "orders", state: "open", conflict_type: "concurrent_modification", records: ORDERS }],
      decisions: true,
      conflicts: 0,
    });
    for (const table of ["sync_audit", "sync_queue_counts"])
      expect(await as("authenticated", async (tx) => (await tx.unsafe(`select from public.${table}`)).length)).toBe(0);
  });

  it.each(["anon", "authenticated", "operator", "reviewer", "service_role"] as const)(
    "%s reads no unmasked value from its table",
    async (role) => {
      for (const columns of ["*", "conflict_id", "target"])
        expect(await outcomeOf(as(role, (tx) => tx.unsafe(`select ${columns} from public.sync_conflict_values`)))).toBe("42501");
    },
  );
});

describe("what a reviewer may write", () => {
  it("is the decision and its values, and no other column of the queue", async () => {
    const conflict = next();
    const before = await everythingBut(conflict);
    const columns = await test.target.admin<{ name: string; generated: boolean }[]>`
      select attname as name, attgenerated <> '' as generated from pg_attribute
       where attrelid = 'public.sync_conflicts'::regclass and attnum > 0 and not attisdropped order by attnum`;
    expect(columns.length).toBeGreaterThan(30);
    const may: string[] = [];
    for (const { name, generated } of columns) {
      // To what it is already, so that nothing but the right decides.
      const value = generated ? "default" : `"${name}"`;
      const set = `update public.sync_conflicts set "${name}" = ${value} where id = '${conflict.id}'`;
      const outcome = await outcomeOf(asReviewer((tx) => tx.unsafe(set)));
      if (outcome === "allowed") may.push(name);
      else expect([name, outcome]).toEqual([name, "42501"]);
      // Nor in the same change as a decision.
      if (outcome !== "allowed")
        expect(
          await outcomeOf(asReviewer((tx) => tx.unsafe(set.replace(" where", ", resolution_strategy = 'target_wins' where")))),
          name,
        ).toBe("42501");
    }
    expect(may.sort()).toEqual(["resolution_data", "resolution_strategy"]);
    expect(await stateOf(conflict)).toEqual({ state: "open", strategy: null, by: null });
    expect(await everythingBut(conflict)).toEqual(before);
  });

  it("is no row: none is added, deleted, emptied or locked away, and none of another table changes", async () => {
    const { id } = next();
    for (const statement of [
      `insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, remedy, rule, source_table, target_table, entity_id)
       select state, entity_type, 999, conflict_type, remedy, rule, source_table, target_table, entity_id from public.sync_conflicts where id = '${id}'`,
      `insert into public.sync_conflicts (id, resolution_strategy) values ('${id}', 'target_wins')
       on conflict (id) do update set resolution_strategy = 'target_wins'`,
      `delete from public.sync_conflicts where id = '${id}'`,
      "truncate public.sync_conflicts",
      `merge into public.sync_conflicts c using (select 1) x on c.id = '${id}' when matched then delete`,
      `insert into public.sync_conflict_values (conflict_id) values ('${id}')`,
      "update public.sync_conflict_values set target = '{}'",
      "insert into public.sync_audit (actor, action) values ('somebody else', 'decided')",
      "update public.sync_audit set actor = 'somebody else'",
      "delete from public.sync_audit",
      "delete from public.sync_queue_counts",
      "update public.orders set notes = 'x'",
      "alter table public.sync_conflicts disable trigger all",
    ])
      expect(await outcomeOf(asReviewer((tx) => tx.unsafe(statement))), statement).toBe("42501");
    expect(
      await as("reviewer", async (tx) => (await tx`select from public.sync_conflicts where id = ${id} for share`).length),
    ).toBe(1);
  });

  it("calls no function behind a decision", async () => {
    const { id } = next();
    for (const call of [
      `sync.carry_out(e, array['${id}']::uuid[], '{}') from (select null::public.sync_entities as e) x`,
      `sync.decide_fields(null, array['${id}']::uuid[], '{}')`,
      `sync.decide_rows(null, array['${id}']::uuid[], '{}')`,
      "sync.replay()",
      `sync.adopt_as('${id}', '${id}')`,
      `sync.differences('[]', '{}', '{}', '{}', '{}', false)`,
    ])
      expect(await outcomeOf(asReviewer((tx) => tx.unsafe(`select ${call}`))), call).toBe("42501");
  });

  it("cannot be made to run as somebody else: it is refused where the caller has tables and types of its own", async () => {
    const conflict = next();
    // Their objects stay until the session ends.
    const session = postgres(test.target.superuserUrl, { max: 1, onnotice: () => undefined, fetch_types: false });
    const forged = async (tx: TransactionSql) => {
      await tx.unsafe(`
        create function pg_temp.run_as_another() returns boolean language plpgsql as
          $$ begin raise exception 'ran as %', current_user using errcode = 'AT000'; end $$;
        create function pg_temp.run_on_insert() returns trigger language plpgsql as
          $$ begin raise exception 'ran as %', current_user using errcode = 'AT000'; end $$`);
      for (const name of ["uuid", "text", "jsonb", "int8", "int4", "int2", "bool", "name", "timestamptz"])
        await tx.unsafe(`create domain pg_temp.${name} as pg_catalog.${name} check (pg_temp.run_as_another())`);
      for (const name of [
        "decided_rows",
        "decided",
        "before",
        "sync_conflicts",
        "sync_entities",
        "sync_row_states",
        "orders",
        "pg_class",
      ])
        await tx.unsafe(`
          create temp table "${name}" (id pg_catalog.uuid, row pg_catalog.uuid, key pg_catalog.int8, why pg_catalog.text, "left" pg_catalog.jsonb);
          create trigger run before insert on pg_temp."${name}" for each row execute function pg_temp.run_on_insert();
          grant all on pg_temp."${name}" to public`);
      await tx`update public.sync_conflicts set resolution_strategy = 'target_wins' where id = ${conflict.id}`;
    };
    const order = await orderOf(conflict);
    const refused = asRole(session, "reviewer", forged, REVIEWER).finally(() => session.end());
    await expect(refused).rejects.toMatchObject({ code: "IS022" });
    expect(await stateOf(conflict)).toEqual({ state: "open", strategy: null, by: null });
    expect(await orderOf(conflict)).toEqual(order);
  });
});

describe("whose decision it was", () => {
  it.each([
    { title: "the e-mail of the token", claims: REVIEWER, by: REVIEWER.email },
    { title: "else its subject", claims: { sub: REVIEWER.sub }, by: REVIEWER.sub },
  ])("is stamped with $title", async ({ claims, by }) => {
    const conflict = next();
    await as(
      "reviewer",
      (tx) => tx`update public.sync_conflicts set resolution_strategy = 'target_wins' where id = ${conflict.id}`,
      claims,
    );
    expect(await stateOf(conflict)).toMatchObject({ state: "resolved", by });
    const audit = await test.target.admin`
      select actor, action, legacy_id::integer as key, fields, strategy from public.sync_audit where conflict_id = ${conflict.id}`;
    expect([...audit]).toEqual([{ actor: by, action: "decided", key: conflict.key, fields: FIELDS, strategy: "target_wins" }]);
  });

  it("cannot be set by a reviewer, nor through resolution_data", async () => {
    const conflict = next();
    const forge = asReviewer(
      (tx) => tx`
        update public.sync_conflicts set resolution_strategy = 'target_wins', resolved_by = 'somebody else' where id = ${conflict.id}`,
    );
    expect(await outcomeOf(forge)).toBe("42501");
    expect(await decide(conflict, "target_wins", { resolved_by: "somebody else", resolved_at: "2000-01-01" })).toBe(1);
    expect(await stateOf(conflict)).toMatchObject({ by: REVIEWER.email });
  });

  it("is what the signed-in reviewer is called even where the database user could name somebody", async () => {
    const conflict = next();
    await test.target.admin.begin(async (tx) => {
      await tx`select set_config('request.jwt.claims', ${JSON.stringify(REVIEWER)}, true)`;
      await tx`update public.sync_conflicts set resolution_strategy = 'target_wins', resolved_by = 'somebody else' where id = ${conflict.id}`;
    });
    expect(await stateOf(conflict)).toMatchObject({ by: REVIEWER.email });
    // Without a token, as in the table editor, the name counts, and the audit tells whose session it was.
    const other = next();
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'target_wins', resolved_by = 'Ann' where id = ${other.id}`;
    expect(await stateOf(other)).toMatchObject({ by: "Ann" });
    expect([...(await test.target.admin`select actor from public.sync_audit where conflict_id = ${other.id}`)]).toEqual([
      { actor: "Ann (supabase_admin)" },
    ]);
  });
});

describe("unmasked values", () => {
  const reveal = (conflict: Conflict, role: Role, claims: object = REVIEWER) =>
    as(
      role,
      async (tx) => (await tx<{ values: Record<string, Data> }[]>`select sync.reveal(${conflict.id}) as values`)[0]?.values,
      claims,
    );
  const trace = async ({ id }: Conflict) => [
    ...(await test.target.admin`
      select actor, action, legacy_id::integer as key, fields from public.sync_audit where conflict_id = ${id}`),
  ];

  it("are masked in the queue, and shown whole to a reviewer who asks, which leaves their name", async () => {
    const conflict = next();
    const [masked] = await asReviewer(
      (tx) => tx<{ differences: Record<string, Data> }[]>`
      select differences from public.sync_conflicts where id = ${conflict.id}`,
    );
    const hidden = { seen: "•••", source: "•••", target: "•••" };
    expect(masked?.differences).toMatchObject({
      notes: hidden,
      metadata: hidden,
      suffix: { seen: "", source: "S", target: "H" },
    });
    expect(await trace(conflict)).toEqual([]);
    const shown = await reveal(conflict, "reviewer");
    expect(Object.keys(shown ?? {}).sort()).toEqual(FIELDS);
    expect(shown).toMatchObject({
      notes: { seen: "agreed", source: LONG, target: SECRET },
      metadata: { target: { model: 3 } },
      amount: { seen: 10, source: 20, target: 30 },
    });
    expect(await trace(conflict)).toEqual([{ actor: REVIEWER.email, action: "revealed", key: conflict.key, fields: FIELDS }]);
  });

  it.each([
    { title: "an operator", role: "operator", claims: REVIEWER },
    { title: "a signed-in user without a role", role: "authenticated", claims: REVIEWER },
    {
      title: "one who wrote the role into their own metadata",
      role: "authenticated",
      claims: { user_metadata: { isthmus_role: "reviewer" } },
    },
    { title: "one without a token", role: "authenticated", claims: { app_metadata: null } },
  ] as const)("are refused to $title, without a trace", async ({ role, claims }) => {
    const conflict = next();
    expect(await outcomeOf(reveal(conflict, role, claims))).toBe("42501");
    expect(await trace(conflict)).toEqual([]);
  });

  it("of a conflict that is not there are refused", async () => {
    expect(await outcomeOf(reveal({ id: REVIEWER.sub, key: 0, row: "" }, "reviewer"))).toBe("IS022");
  });
});

describe("what resolution_data can write", () => {
  const SQL = `'; update public.orders set notes = 'owned'; --`;
  const REFUSED: readonly { title: string; data: unknown }[] = [
    { title: "a field of the entity that the conflict is not about", data: merged({ complaint: "x" }) },
    { title: "a column that the sync does not own", data: merged({ created_at: "2000-01-01" }) },
    { title: "the id", data: merged({ id: REVIEWER.sub }) },
    { title: "the legacy key", data: merged({ legacy_instruction_id: 1 }) },
    { title: "a key that is no column", data: merged({ nothing: 1 }) },
    { title: "an empty key", data: merged({ "": 1 }) },
    { title: "a field in other letters", data: merged({ NOTES: "x" }) },
    { title: "SQL in a key", data: merged({ [`notes" = now() --`]: 1 }) },
    { title: "format directives in a key", data: merged({ "%s %I %L": 1 }) },
    { title: "all fields as one key", data: { [FIELDS.join(", ")]: "x" } },
    { title: "a field left out", data: { amount: 25.5, doctor_id: null, metadata: {}, notes: "agreed by both" } },
    { title: "nothing", data: {} },
    { title: "null", data: null },
    { title: "a list", data: [merged()] },
    { title: "text", data: JSON.stringify(merged()) },
    { title: "the mask of a text", data: merged({ notes: "•••" }) },
    { title: "the mask of an object", data: merged({ metadata: "•••" }) },
    { title: "a number in quotes", data: merged({ amount: "25.5" }) },
    { title: "no number", data: merged({ amount: "NaN" }) },
    { title: "SQL for a number", data: merged({ amount: "1); drop table public.orders; --" }) },
    { title: "a number that would be rounded", data: merged({ amount: 1.005 }) },
    { title: "a number out of range", data: merged({ amount: 1e12 }) },
    { title: "an object for a number", data: merged({ amount: { numeric: 1 } }) },
    { title: "an object for a text", data: merged({ notes: { id: 1 } }) },
    { title: "SQL for a reference", data: merged({ doctor_id: SQL }) },
    { title: "a reference to nothing", data: merged({ doctor_id: REVIEWER.sub }) },
    { title: "a zero byte", data: merged({ notes: "a\u0000b" }) },
  ];
  it("is nothing of this", async () => {
    const conflict = next();
    const order = await orderOf(conflict);
    const before = await everythingBut(conflict);
    for (const { title, data } of REFUSED) {
      const code = await outcomeOf(decide(conflict, "merge", data));
      // A zero byte is no JSON of PostgreSQL's at all.
      expect([title, code]).toEqual([title, title === "a zero byte" ? "22P05" : "IS022"]);
    }
    // What the queue shows of it is cut short; so is what would be written.
    const [shown] = await test.target.admin<
      { text: string }[]
    >`select sync.shown_value(to_jsonb(${LONG}::text), cardinality(string_to_array(field, ', '))) #>> '{}' as text from public.sync_conflicts where id = ${conflict.id}`;
    expect(shown?.text).toMatch(/… \(1000 characters\)$/);
    expect(await outcomeOf(decide(conflict, "merge", merged({ notes: shown?.text })))).toBe("IS022");
    expect(await stateOf(conflict)).toEqual({ state: "open", strategy: null, by: null });
    expect(await orderOf(conflict)).toEqual(order);
    expect(await everythingBut(conflict)).toEqual(before);
  });

  const WRITTEN: readonly { title: string; data: Data; row?: Data }[] = [
    { title: "plain values", data: merged(), row: { amount: 25.5 } },
    { title: "SQL in a text", data: merged({ notes: SQL, suffix: "$q$" }) },
    { title: "format directives in a text", data: merged({ notes: "%s %I %1$L", suffix: "$1" }) },
    {
      title: "an object with names of columns, where JSON belongs",
      data: merged({ metadata: { id: 1, notes: SQL, "•••": [[]] } }),
    },
    { title: "a text that contains the mask", data: merged({ notes: "••• and more" }) },
    { title: "null where the column allows it", data: merged({ notes: null, amount: null, metadata: null }) },
    { title: "the text null", data: merged({ notes: "null", suffix: "NULL" }) },
  ];
  it.each(WRITTEN)("is $title, into exactly these fields of exactly this row", async ({ data, row = {} }) => {
    const conflict = next();
    const order = await orderOf(conflict);
    const before = await everythingBut(conflict);
    expect(await decide(conflict, "merge", data)).toBe(1);
    expect(await orderOf(conflict)).toEqual({ ...order, ...data, ...row });
    expect(await stateOf(conflict)).toEqual({ state: "resolved", strategy: "merge", by: REVIEWER.email });
    expect(await everythingBut(conflict)).toEqual(before);
  });

  it("is nothing where the decision is another one", async () => {
    const [kept, taken] = [next(), next()];
    const order = await orderOf(kept);
    expect(await decide(kept, "target_wins", { notes: "x", id: REVIEWER.sub })).toBe(1);
    expect(await orderOf(kept)).toEqual(order);
    expect(await decide(taken, "source_wins", { notes: "x", complaint: "x" })).toBe(1);
    expect(await orderOf(taken)).toMatchObject({ notes: LONG, suffix: "S", amount: 20, complaint: null });
  });
});

it("no refused decision has put a value into the server's log", () => {
  const log = readFileSync(serverLog, "utf8").slice(logFrom);
  expect(log).toContain("which this conflict is not about");
  expect([SECRET, LONG, "agreed by both", "owned", "drop table"].filter((secret) => log.includes(secret))).toEqual([]);
});
