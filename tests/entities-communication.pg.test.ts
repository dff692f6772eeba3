import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { landedRows } from "./support/landed.ts";
import { logSeeds, seedContentTypes, TYPES } from "./support/log-seeds.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const AT = "2021-03-04 05:06:07+00";

/** User 10 is a doctor, 11 a master; patient 1 is user 20; order 1 is patient 1's, as is plan 1. */
async function seedPeople({ seed }: Pipeline): Promise<void> {
  await seedContentTypes(seed);
  await seed.doctor(10);
  await seed.user(11, { superuser: true });
  await seed.patient(1, { userId: 20, doctorId: 10 });
  await seed.instruction(1, 1);
  await seed.group(5, "Lab");
}

async function seedRecords(test: Pipeline): Promise<void> {
  const rows = logSeeds(test.seed);
  const to = (type: number | null, id: number) => ({ target_type_id: type, target_id: id });
  await rows.record(1, { ...to(TYPES.patient, 1), author_id: 11, text: "to the patient", public: true });
  // Patient 10 does not exist: the number is the user's.
  await rows.record(2, { ...to(TYPES.user, 10), type: 99, group_id: 5, public: false });
  await rows.record(3, to(TYPES.vanished, 1));
  await rows.record(4, to(null, 1));
  await rows.record(5, to(TYPES.patient, 9));
  await rows.record(6, to(TYPES.otherPatient, 1));
  await rows.record(7, { ...to(TYPES.instruction, 1), group_id: 5, author_id: 10, text: "" });
  await rows.record(8, { ...to(TYPES.patient, 1), group_id: 6 });
  await rows.file(1, { record_id: 1 });
  await rows.file(2, { record_id: 3 });
  await rows.file(3, { record_id: 2, instruction_id: 1 });
  await rows.file(4);
}

async function seedComments(test: Pipeline): Promise<void> {
  const rows = logSeeds(test.seed);
  await rows.project(1);
  await rows.plan(1, { project_id: 1, instruction_id: 1 });
  await rows.comment(1, { plan_id: 1, author_id: 11, text: "Looks good" });
  await rows.comment(2, { plan_id: 1, text: "" });
  await rows.comment(3, { plan_id: 1, text: null });
  await rows.note(1, { doctor_id: 10, author_id: 11, text: "prefers mornings" });
  await rows.note(2, { text: null });
  // A user whom nothing else makes a doctor or anything else.
  await test.seed.user(40);
  await rows.note(3, { doctor_id: 40, author_id: 10 });
}

describe("what people said", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline();
    await seedPeople(test);
    await seedRecords(test);
    await seedComments(test);
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());
  const landed = (entity: string) => landedRows(test.target.admin, entity);

  it("messages: the model named by the content type says whose id the recipient is", async () => {
    const plain = { sender_id: null, recipient_patient_id: null, recipient_profile_id: null, team_id: null, sent_at: AT };
    expect(await landed("messages")).toEqual({
      1: {
        ...{ ...plain, sender_id: "11", recipient_type: "patient", recipient_patient_id: "1" },
        ...{ type_code: "3", content: "to the patient", is_public: "true" },
      },
      2: {
        ...{ ...plain, recipient_type: "profile", recipient_profile_id: "10", team_id: "5" },
        ...{ type_code: "99", content: "text", is_public: "false" },
      },
    });
  });

  it("messages: another model, or none, goes to the queue; a recipient or team that is not there is waited for", async () => {
    const unknown = { state: "open", field: "recipient_type", rule: "messages.recipient_type.known_code@1" };
    expect(await test.live("messages")).toMatchObject([
      { id: 3, ...unknown },
      { id: 4, ...unknown },
      { id: 5, state: "waiting", field: "recipient_patient_id", parent: "patients", parentId: 9 },
      { id: 6, ...unknown },
      { id: 7, ...unknown },
      { id: 8, state: "waiting", field: "team_id", parent: "teams", parentId: 6 },
    ]);
    const raw = await test.target.admin`
      select conflict_data ->> 'raw' as raw from public.sync_conflicts where rule = ${unknown.rule} order by source_record_id`;
    expect(raw.map((row) => row["raw"] as unknown)).toEqual([
      "retired_app.vanished",
      null,
      "retired_app.patient",
      "dispatch.instruction",
    ]);
  });

  it("team_communications: what names a group, whatever became of the message", async () => {
    expect(await landed("team_communications")).toEqual({
      2: { team_id: "5", author_id: null, type_code: "99", body: "text", is_public: "false", sent_at: AT },
      7: { team_id: "5", author_id: "10", type_code: "3", body: "", is_public: null, sent_at: AT },
    });
    expect(await test.live("team_communications")).toMatchObject([
      { id: 8, state: "waiting", field: "team_id", parent: "teams", parentId: 6 },
    ]);
  });

  it("message_attachments: files with a record, also those with an order besides", async () => {
    expect(await landed("message_attachments")).toEqual({
      1: { message_id: "1", file_id: "1" },
      3: { message_id: "2", file_id: "3" },
    });
    expect(await landed("order_files")).toEqual({ 3: { order_id: "1", file_id: "3" } });
    expect(Object.keys(await landed("files"))).toEqual(["1", "2", "3", "4"]);
    expect(await test.live("message_attachments")).toMatchObject([{ id: 2, state: "waiting", parent: "messages", parentId: 3 }]);
  });

  it("comments: blank texts as they are, each once as a comment, in its plan and in its case", async () => {
    expect(await landed("comments")).toEqual({
      1: { author_id: "11", content: "Looks good", commented_at: AT },
      2: { author_id: null, content: "", commented_at: AT },
      3: { author_id: null, content: null, commented_at: AT },
    });
    const discussed = (id: string) => ({ comment_id: id, treatment_plan_id: "1" });
    expect(await landed("treatment_discussions")).toEqual({ 1: discussed("1"), 2: discussed("2"), 3: discussed("3") });
    expect(await landed("case_messages")).toEqual({
      1: { case_id: "1", sender_id: "11", content: "Looks good", sent_at: AT },
      2: { case_id: "1", sender_id: null, content: "", sent_at: AT },
      3: { case_id: "1", sender_id: null, content: null, sent_at: AT },
    });
  });

  it("doctor_notes: one user is the doctor, the other the author", async () => {
    expect(await landed("doctor_notes")).toEqual({
      1: { doctor_id: "10", author_id: "11", content: "prefers mornings", noted_at: AT },
      2: { doctor_id: null, author_id: null, content: null, noted_at: AT },
      3: expect.objectContaining({ doctor_id: "40", author_id: "10" }) as unknown,
    });
  });

  it("a note about somebody who otherwise is no doctor makes them one", async () => {
    expect(await landed("doctors")).toMatchObject({ 40: { profile_id: "40", doctor_number: "DOC-000040" } });
    expect(await landed("profiles")).toMatchObject({ 40: { profile_type: "doctor" } });
    await test.seed.user(41);
    await logSeeds(test.seed).note(4, { doctor_id: 41 });
    await test.sync();
    expect(await landed("doctor_notes")).toMatchObject({ 4: { doctor_id: "41", author_id: null } });
    expect(await test.live("doctor_notes")).toEqual([]);
  });

  it("a message lands, with its attachment, when its recipient does, or when its model becomes known", async () => {
    await test.seed.patient(9, { userId: 29 });
    await test.source.admin`update public.dispatch_record set target_type_id = ${TYPES.user}, target_id = 11 where id = 3`;
    await test.sync();
    expect(await landed("messages")).toMatchObject({
      3: { recipient_type: "profile", recipient_patient_id: null, recipient_profile_id: "11" },
      5: { recipient_type: "patient", recipient_patient_id: "9", recipient_profile_id: null },
    });
    expect(await landed("message_attachments")).toMatchObject({ 2: { message_id: "3" } });
    expect((await test.live("messages")).map(({ id }) => id)).toEqual([4, 6, 7, 8]);
  });

  it("what no longer names a group or a record is deleted there, and stays a message and a file", async () => {
    await test.source.admin`update public.dispatch_record set group_id = null where id = 2`;
    await test.source.admin`update public.dispatch_file set record_id = null where id = 3`;
    await test.sync();
    expect(Object.keys(await landed("team_communications"))).toEqual(["7"]);
    expect(Object.keys(await landed("message_attachments"))).toEqual(["1", "2"]);
    expect(await landed("messages")).toMatchObject({ 2: { team_id: null, recipient_profile_id: "10" } });
    expect(Object.keys(await landed("files"))).toEqual(["1", "2", "3", "4"]);
  });
});

describe("what the system said and noted", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline();
    await seedPeople(test);
    const rows = logSeeds(test.seed);
    await rows.notification(1, {
      ...{ recipient_id: 20, item_type_id: TYPES.instruction, item_id: 1, sender: "system", template_name: "shipped" },
      ...{ template_context: '{"order": 1.10}', read: true },
    });
    await rows.notification(2, { item_type_id: TYPES.patient, item_id: 1, template_context: "{'broken" });
    await rows.notification(3, { item_type_id: TYPES.vanished, item_id: 77, template_context: "" });
    await rows.notification(4, { item_id: 1, template_context: null });
    await rows.notification(5, { item_type_id: TYPES.user, item_id: 11 });
    await rows.notification(6, { send: false });
    await rows.notification(7, { sent: false });
    await rows.notification(8, { item_type_id: TYPES.patient, item_id: 9 });
    await rows.notification(9, { item_type_id: TYPES.otherPatient, item_id: 1 });
    await rows.action(1, {
      ...{ action: "create", item_type_id: TYPES.instruction, item_id: 1, owner_type_id: TYPES.user, owner_id: 10 },
      ...{ data: "{'a': 1}", user_id: 11 },
    });
    await rows.action(2, { item_id: 999, owner_type_id: TYPES.vanished });
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());
  const landed = (entity: string) => landedRows(test.target.admin, entity);

  it("system_messages: what was sent, about an order or a patient, or about something else that keeps its name and id", async () => {
    const plain = {
      ...{ recipient_id: null, order_id: null, patient_id: null, item_type: null, legacy_item_id: null, sender: null },
      ...{ message_code: null, message_data: null, is_read: "false", notified_at: AT },
    };
    expect(await landed("system_messages")).toEqual({
      1: {
        ...{ ...plain, recipient_id: "20", order_id: "1", item_type: "dispatch.instruction", legacy_item_id: "1" },
        ...{ sender: "system", message_code: "shipped", message_data: '{"order": 1.10}', is_read: "true" },
      },
      2: {
        ...{ ...plain, patient_id: "1", item_type: "dispatch.patient", legacy_item_id: "1" },
        message_data: `{"_raw": "{'broken", "_unparseable": true}`,
      },
      3: { ...plain, item_type: "retired_app.vanished", legacy_item_id: "77" },
      4: { ...plain, legacy_item_id: "1" },
      5: { ...plain, item_type: "auth.user", legacy_item_id: "11" },
      9: { ...plain, item_type: "retired_app.patient", legacy_item_id: "1" },
    });
    expect(await test.live("system_messages")).toMatchObject([
      { id: 8, state: "waiting", field: "patient_id", parent: "patients", parentId: 9 },
    ]);
  });

  it("user_actions: item and owner stay names and numbers, whether they exist or not", async () => {
    expect(await landed("user_actions")).toEqual({
      1: {
        ...{ user_id: "11", action: "create", acted_at: AT, item_type: "dispatch.instruction", legacy_item_id: "1" },
        ...{ owner_type: "auth.user", legacy_owner_id: "10", action_data: "{'a': 1}" },
      },
      2: {
        ...{ user_id: null, action: "update", acted_at: AT, item_type: null, legacy_item_id: "999" },
        ...{ owner_type: "retired_app.vanished", legacy_owner_id: null, action_data: null },
      },
    });
  });

  it("a notification becomes sendable with an old id, stops being so, and returns under its UUID", async () => {
    const id = async () => {
      const rows = await test.target.admin<{ id: string }[]>`
        select id from public.system_messages where legacy_notification_id = 6`;
      return rows.map((row) => row.id);
    };
    expect(await id()).toEqual([]);
    await test.source.admin`update public.dispatch_notification set send = true where id = 6`;
    await test.sync();
    const first = await id();
    expect(first).toHaveLength(1);
    await test.source.admin`update public.dispatch_notification set sent = false where id = 6`;
    await test.sync();
    expect(await id()).toEqual([]);
    await test.source.admin`update public.dispatch_notification set sent = true where id = 6`;
    await test.sync();
    expect(await id()).toEqual(first);
  });
});
