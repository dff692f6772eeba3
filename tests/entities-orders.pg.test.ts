import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { landedRows } from "./support/landed.ts";
import { logSeeds } from "./support/log-seeds.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const AT = "2021-03-04 05:06:07+00";

/** Orders 1 to 6 of patients 1 and 2. Order 3 has a status that nobody knows: what hangs on it waits. */
async function seedOrders({ seed, source }: Pipeline): Promise<void> {
  const rows = logSeeds(seed);
  await seed.doctor(10);
  await seed.user(11, { superuser: true });
  await seed.patient(1, { userId: 20, doctorId: 10 });
  await seed.patient(2, { userId: 21 });
  for (const [id, patient] of [
    [1, 1],
    [2, 2],
    [4, 1],
    [5, 1],
    [6, 2],
  ] as const)
    await seed.instruction(id, patient);
  await seed.instruction(3, 1, { status: 77 });
  await seed.course(1);
  await seed.row("dispatch_product", { id: 7, name: "Aligner", free: false, deleted: false, substitute: false, course_id: 1 });
  await rows.jaw(1, { reason: 1, product_id: 7, labial: true, bond_teeth: "1111000000000000" });
  await rows.jaw(2, { reason: 2, extract_teeth: "0000000000000001" });
  for (const id of [3, 4, 5, 6]) await rows.jaw(id);
  await source.admin`update public.dispatch_instruction set upper_jaw_id = 1 where id = 1`;
  await source.admin`update public.dispatch_instruction set lower_jaw_id = 2 where id = 2`;
  await source.admin`update public.dispatch_instruction set upper_jaw_id = 6 where id = 3`;
  await source.admin`update public.dispatch_instruction set upper_jaw_id = 4, lower_jaw_id = 4 where id = 4`;
  await source.admin`update public.dispatch_instruction set upper_jaw_id = 5 where id = 5`;
  await source.admin`update public.dispatch_instruction set lower_jaw_id = 5 where id = 6`;

  await rows.project(1, { creator_id: 11, name: "First", size: "5000000000", public: true, uid: "u1" });
  await rows.project(2, { type: 0, status: 2 });
  await rows.project(3, { type: 10 });
  await rows.project(4, { type: 11 });
  await rows.project(5, { type: 1 });
  await rows.project(6, { status: 1 });
  await seed.row("dispatch_bracket", { id: 1, name: "Bracket .022 T-7", type: "std", project_id: 1 });
  await seed.row("dispatch_bracket", { id: 2, name: null, type: null, project_id: null });
  await seed.row("dispatch_bracket", { id: 3, name: "B", type: null, project_id: 5 });
  await rows.plan(1, { project_id: 1, instruction_id: 1, number: 4, name: "", notes: "n" });
  await rows.plan(2, { project_id: 1, instruction_id: 2, original: false });
  await rows.plan(3, { project_id: 5, instruction_id: 1 });
  await rows.plan(4, { project_id: 1, instruction_id: 3 });
  await rows.state(1, { instruction_id: 1, actor_id: 11 });
  await rows.state(2, { instruction_id: 2, status: 12, on: false });
  await rows.state(3, { instruction_id: 1, status: 13 });

  await rows.file(1, { parameters: "", product_id: 7, name: "a.stl", ext: ".stl", size: "5000000000", description: "d" });
  await rows.file(2, { parameters: "{'broken", instruction_id: 1 });
  await rows.file(3, { parameters: '{"a": [1.50]}', instruction_id: 2, type: 3, status: 2 });
  await rows.file(4, { instruction_id: 3 });

  await seed.row("dispatch_template", { id: 9, task_name: "Scan" });
  // A merchandise order of the same number as an order, which is something else.
  await seed.row("dispatch_order", { id: 2, course_id: 1 });
  await rows.task(1, {
    ...{ template_id: 9, instruction_id: 1, order_id: 2, plan_id: 1, file_id: 2, actor_id: 11 },
    ...{ text: "Do it", checked: true, done_at: AT, jaw: 2 },
  });
  await rows.task(2, { template_id: 9, order_id: 2 });
}

describe("what hangs on orders", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline();
    await seedOrders(test);
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());
  const landed = (entity: string) => landedRows(test.target.admin, entity);

  it("order_cases: every order has the case of its patient, also of the same number", async () => {
    expect(await landed("order_cases")).toEqual({
      1: { order_id: "1", case_id: "1" },
      2: { order_id: "2", case_id: "2" },
      4: { order_id: "4", case_id: "1" },
      5: { order_id: "5", case_id: "1" },
      6: { order_id: "6", case_id: "2" },
    });
    expect(await test.live("order_cases")).toMatchObject([{ id: 3, state: "waiting", parent: "orders", parentId: 3 }]);
  });

  it("jaws: the order's column says which jaw it is; one that nobody points to has neither", async () => {
    const plain = { product_id: null, labial: "false", bond_teeth: "0000000000000001", extract_teeth: "0000000000000000" };
    expect(await landed("jaws")).toEqual({
      1: {
        ...{ ...plain, order_id: "1", jaw_type: "upper", reason_code: "1" },
        ...{ product_id: "7", labial: "true", bond_teeth: "1111000000000000" },
      },
      2: { ...plain, order_id: "2", jaw_type: "lower", reason_code: "2", extract_teeth: "0000000000000001" },
      3: { ...plain, order_id: null, jaw_type: null, reason_code: null },
    });
  });

  it("jaws: one in both places, or in two orders, goes to the queue once; one of an order that waits, waits", async () => {
    const rule = "jaws.order_id.one_order@1";
    expect(await test.live("jaws")).toMatchObject([
      { id: 4, state: "open", type: "business_rule_violation", field: "order_id", rule },
      { id: 5, state: "open", type: "business_rule_violation", field: "order_id", rule },
      { id: 6, state: "waiting", field: "order_id", parent: "orders", parentId: 3 },
    ]);
    const evidence = await test.target.admin`
      select conflict_data ->> 'places' as places from public.sync_conflicts where rule = ${rule} order by source_record_id`;
    expect([...evidence]).toEqual([{ places: "lower:4,upper:4" }, { places: "lower:6,upper:5" }]);
  });

  it("projects: four types and two states have a name; any other code goes to the queue", async () => {
    const plain = {
      creator_id: null,
      name: null,
      file_uid: "p",
      file_size_bytes: null,
      is_public: "false",
      source_created_at: AT,
    };
    expect(await landed("projects")).toEqual({
      1: {
        ...{ ...plain, project_type: "treatment_plan", project_status: "draft", creator_id: "11", name: "First" },
        ...{ file_uid: "u1", file_size_bytes: "5000000000", is_public: "true" },
      },
      2: { ...plain, project_type: "stl_upper", project_status: "completed" },
      3: { ...plain, project_type: "simulation", project_status: "draft" },
      4: { ...plain, project_type: "aligner_design", project_status: "draft" },
    });
    expect(await test.live("projects")).toMatchObject([
      { id: 5, state: "open", field: "project_type", rule: "projects.type.known_code@1" },
      { id: 6, state: "open", field: "project_status", rule: "projects.status.known_code@1" },
    ]);
  });

  it("brackets: nothing is read out of the name", async () => {
    expect(await landed("brackets")).toEqual({
      1: { project_id: "1", name: "Bracket .022 T-7", bracket_type: "std" },
      2: { project_id: null, name: null, bracket_type: null },
    });
    expect(await test.live("brackets")).toMatchObject([{ id: 3, state: "waiting", parent: "projects", parentId: 5 }]);
  });

  it("treatment_plans: several per project, an empty name stays empty", async () => {
    expect(await landed("treatment_plans")).toEqual({
      1: { project_id: "1", order_id: "1", plan_number: "4", plan_name: "", plan_notes: "n", is_original: "true" },
      2: { project_id: "1", order_id: "2", plan_number: null, plan_name: "Plan", plan_notes: null, is_original: "false" },
    });
    expect(await test.live("treatment_plans")).toMatchObject([
      { id: 3, state: "waiting", parent: "projects", parentId: 5 },
      { id: 4, state: "waiting", parent: "orders", parentId: 3 },
    ]);
  });

  it("order_states keep every code, case_states only what has a name", async () => {
    expect(await landed("order_states")).toEqual({
      1: { order_id: "1", changed_by: "11", status_code: "11", is_active: "true", changed_at: AT },
      2: { order_id: "2", changed_by: null, status_code: "12", is_active: "false", changed_at: AT },
      3: { order_id: "1", changed_by: null, status_code: "13", is_active: "true", changed_at: AT },
    });
    expect(await landed("case_states")).toEqual({
      1: { case_id: "1", changed_by: "11", current_state: "treatment_active", is_active: "true", changed_at: AT },
      2: { case_id: "2", changed_by: null, current_state: "case_closed", is_active: "false", changed_at: AT },
    });
    expect(await test.live("case_states")).toMatchObject([
      { id: 3, state: "open", field: "current_state", rule: "case_states.status.known_code@1" },
    ]);
  });

  it("files: without an order is legal, parameters are JSON, NULL for '', or the whole text", async () => {
    const plain = {
      ...{ order_id: null, product_id: null, file_uid: "f", filename: null, extension: null, file_size_bytes: "5" },
      ...{ type_code: "1", status_code: "0", description: null, uploaded_at: AT },
    };
    expect(await landed("files")).toEqual({
      1: {
        ...{ ...plain, product_id: "7", filename: "a.stl", extension: ".stl", file_size_bytes: "5000000000" },
        ...{ description: "d", parameters: null },
      },
      2: { ...plain, order_id: "1", parameters: `{"_raw": "{'broken", "_unparseable": true}` },
      3: { ...plain, order_id: "2", type_code: "3", status_code: "2", parameters: '{"a": [1.50]}' },
    });
    expect(await landed("order_files")).toEqual({ 2: { order_id: "1", file_id: "2" }, 3: { order_id: "2", file_id: "3" } });
    expect(await landed("case_files")).toEqual({ 2: { case_id: "1", file_id: "2" }, 3: { case_id: "2", file_id: "3" } });
    expect(await test.live("order_files")).toMatchObject([{ id: 4, state: "waiting", parent: "orders", parentId: 3 }]);
    expect(await test.live("case_files")).toMatchObject([{ id: 4, state: "waiting", parent: "files", parentId: 4 }]);
  });

  it("tasks: the order is the instruction; a merchandise order of the same number is only its number", async () => {
    const plain = { template_id: "9", legacy_order_id: "2" };
    expect(await landed("tasks")).toEqual({
      1: {
        ...{ ...plain, order_id: "1", plan_id: "1", file_id: "2", assigned_to: "11", description: "Do it" },
        ...{ checked: "true", completed_at: AT, jaw_code: "2" },
      },
      2: {
        ...{ ...plain, order_id: null, plan_id: null, file_id: null, assigned_to: null, description: null },
        ...{ checked: "false", completed_at: null, jaw_code: "0" },
      },
    });
  });
});

describe("what hangs on orders, when the source changes", () => {
  it("follows the patient's new doctor, the instruction's new patient, and the plan's and the file's new instruction", async () => {
    await using test = await createPipeline();
    await seedOrders(test);
    await logSeeds(test.seed).comment(1, { plan_id: 1 });
    await test.sync();
    const cases = async () => {
      const of = async (entity: string, id: number) => (await landedRows(test.target.admin, entity))[id]?.["case_id"];
      const names = ["order_cases", "case_states", "case_files", "case_messages"];
      return Promise.all(names.map((name) => of(name, name === "case_files" ? 2 : 1)));
    };
    expect(await cases()).toEqual(["1", "1", "1", "1"]);

    await test.source.admin`update public.dispatch_patient set doctor_id = null where id = 1`;
    await test.sync();
    const orders = await landedRows(test.target.admin, "orders");
    expect(Object.values(orders).map((order) => order["doctor_id"])).toEqual([null, null, null, null, null]);

    await test.source.admin`update public.dispatch_instruction set patient_id = 2 where id = 1`;
    await test.sync();
    expect(await cases()).toEqual(["2", "2", "2", "2"]);

    await test.source.admin`update public.dispatch_plan set instruction_id = 4 where id = 1`;
    await test.source.admin`update public.dispatch_file set instruction_id = 4 where id = 2`;
    await test.source.admin`update public.dispatch_file set instruction_id = 5 where id = 1`;
    await test.sync();
    expect(await cases()).toEqual(["2", "2", "1", "1"]);
    expect(await landedRows(test.target.admin, "order_files")).toMatchObject({ 1: { order_id: "5" }, 2: { order_id: "4" } });
    expect(await landedRows(test.target.admin, "treatment_plans")).toMatchObject({ 1: { order_id: "4" } });

    await test.source.admin`update public.dispatch_file set instruction_id = null where id = 2`;
    await test.sync();
    expect(Object.keys(await landedRows(test.target.admin, "order_files"))).toEqual(["1", "3"]);
    expect(Object.keys(await landedRows(test.target.admin, "case_files"))).toEqual(["1", "3"]);
    expect(await landedRows(test.target.admin, "files")).toMatchObject({ 2: { order_id: null } });
  });

  it("moves a jaw into the order that now points to it, and out of the queue when only one does", async () => {
    await using test = await createPipeline();
    await seedOrders(test);
    await test.sync();
    await test.source.admin`update public.dispatch_instruction set lower_jaw_id = 3 where id = 5`;
    await test.sync();
    expect(await landedRows(test.target.admin, "jaws")).toMatchObject({ 3: { order_id: "5", jaw_type: "lower" } });
    await test.source.admin`update public.dispatch_instruction set lower_jaw_id = null where id = 6`;
    await test.sync({ capture: "full" });
    expect(await landedRows(test.target.admin, "jaws")).toMatchObject({ 5: { order_id: "5", jaw_type: "upper" } });
    expect((await test.live("jaws")).map(({ id }) => id)).toEqual([4, 6]);
  });
});
