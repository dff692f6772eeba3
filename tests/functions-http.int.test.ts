import { Client } from "@upstash/qstash";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { MESSAGE_FORMAT } from "../shared/queue/message-format.ts";
import { startTestPlatform, type TestPlatform } from "./support/platform.ts";

describe("the functions over HTTP", () => {
  let test: TestPlatform;
  beforeAll(async () => {
    test = await startTestPlatform("http", { scale: 0.01, env: { ISTHMUS_LEASE_SECONDS: "3" } });
  });
  afterAll(() => test[Symbol.asyncDispose]());

  // Ticks begin executions of their own, for records that were released.
  const nothingRuns = () =>
    vi.waitFor(
      async () => expect(await test.target`select id from public.sync_executions where status = 'running'`).toHaveLength(0),
      { timeout: 60_000, interval: 100 },
    );
  const request = (path: string, init: RequestInit = {}) => fetch(`${test.platform.functions.url}/${path}`, init);
  const refusal = async (answer: Response) => ({
    status: answer.status,
    ...((await answer.json()) as { error?: { code: string; remedy: string } }).error,
  });
  const machine = () => ({ apikey: test.platform.secretKey });
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

  describe("authentication", () => {
    const publishable = () => "sb_publishable_something";
    it.each(["sync-trigger", "sync-page", "sync-tick"])("%s refuses a caller that proves nothing", async (name) => {
      for (const headers of [
        {},
        { apikey: "wrong" },
        { apikey: publishable() },
        bearer("a.b.c"),
        { "upstash-signature": "a.b.c" },
      ] as Record<string, string>[]) {
        const answer = await refusal(await request(name, { method: "POST", headers, body: "{}" }));
        expect(answer, JSON.stringify(headers)).toMatchObject({ status: 401, code: "UNAUTHENTICATED" });
        expect(answer.remedy).toMatch(/secret key/);
      }
    });

    it("lets an operator and a reviewer in, by app_metadata only", async () => {
      for (const role of ["operator", "reviewer"]) {
        expect((await request("sync-trigger", { headers: bearer(test.platform.userToken({ isthmus_role: role })) })).status).toBe(
          200,
        );
      }
      const tokens = [
        test.platform.userToken({}),
        test.platform.userToken({ isthmus_role: "admin" }),
        test.platform.userToken({}, { user_metadata: { isthmus_role: "operator" } }),
      ];
      for (const token of tokens)
        expect(await refusal(await request("sync-trigger", { headers: bearer(token) }))).toMatchObject({
          status: 403,
          code: "FORBIDDEN",
        });
    });

    it("lets a reviewer look, and not start anything", async () => {
      const headers = bearer(test.platform.userToken({ isthmus_role: "reviewer" }));
      const answer = await refusal(await request("sync-trigger", { method: "POST", headers, body: "{}" }));
      expect(answer).toMatchObject({ status: 403, code: "FORBIDDEN" });
      expect((await test.target`select from public.sync_executions`).length).toBe(0);
    });

    it("refuses an expired token, one without a signature and one signed with a shared secret", async () => {
      const good = test.platform.userToken({ isthmus_role: "operator" });
      const [, payload = ""] = good.split(".");
      const header = (alg: string) => Buffer.from(JSON.stringify({ alg, typ: "JWT" })).toString("base64url");
      const tokens = [
        test.platform.userToken({ isthmus_role: "operator" }, { exp: Math.floor(Date.now() / 1_000) - 60 }),
        `${header("none")}.${payload}.`,
        `${header("HS256")}.${payload}.c2ln`,
        `${good.slice(0, -4)}AAAA`,
      ];
      for (const token of tokens) expect((await request("sync-trigger", { headers: bearer(token) })).status).toBe(401);
    });

    it("keeps users and the queue out of functions that are not theirs", async () => {
      const user = bearer(test.platform.userToken({ isthmus_role: "operator" }));
      expect(await refusal(await request("sync-page", { method: "POST", headers: user, body: "{}" }))).toMatchObject({
        status: 403,
      });
      expect(await refusal(await request("sync-tick", { method: "POST", headers: user, body: "{}" }))).toMatchObject({
        status: 403,
      });
    });

    it("accepts QStash's signature under both signing keys, for this address and this body only", async () => {
      const { qstash, functions } = test.platform;
      const client = new Client({ baseUrl: qstash.url, token: qstash.token });
      const before = functions.invocations().filter((call) => call.function === "sync-tick").length;
      await client.publishJSON({ url: `${functions.url}/sync-tick`, body: {} });
      await qstash.idle();
      qstash.rotateKeys();
      await client.publishJSON({ url: `${functions.url}/sync-tick`, body: {} });
      await qstash.idle();
      const sent = qstash.history().slice(-2);
      expect(sent.map((delivery) => delivery.status)).toEqual([202, 202]);
      const [first] = sent;
      const signature = String(first?.headers["upstash-signature"] ?? first?.headers["Upstash-Signature"]);
      const replay = (name: string, body: string) =>
        request(name, { method: "POST", headers: { "upstash-signature": signature }, body });
      expect((await replay("sync-tick", first?.body ?? "")).status).toBe(202);
      expect((await replay("sync-tick", `${first?.body ?? ""} `)).status).toBe(401);
      expect((await replay("sync-trigger", first?.body ?? "")).status).toBe(401);
      expect(functions.invocations().filter((call) => call.function === "sync-tick").length).toBeGreaterThan(before);
    });
  });

  describe("bodies", () => {
    const large = Buffer.alloc(20 * 1_048_576, " ");

    it.each(["sync-trigger", "sync-page", "sync-tick"])(
      "%s refuses 20 MB by the length they claim, or once it knows who sends them, and stays alive and small",
      async (name) => {
        const { functions } = test.platform;
        functions.resetInvocations();
        const unsaid = () => new Blob([large]).stream();
        for (const [headers, body, status] of [
          [{}, large, 413],
          [{}, unsaid(), 401],
          [machine(), unsaid(), 413],
        ] as const) {
          const answer = await request(name, { method: "POST", headers, body, duplex: "half" });
          expect((await refusal(answer)).status).toBe(status);
        }
        while (functions.invocations().length < 3) await new Promise((soon) => setTimeout(soon, 10));
        for (const { killed, peakHeapBytes } of functions.invocations()) {
          expect(killed).toBeUndefined();
          expect(peakHeapBytes).toBeLessThan(100 * 1_048_576);
        }
      },
    );
  });

  describe("requests", () => {
    it.each([
      ["{", /not JSON/],
      ['{"entities": []}', /entities/],
      ['{"entities": ["unicorns"]}', /entities\[0\]: there is no entity/],
      ['{"entities": "patients"}', /entities/],
      ['{"capture": "quick"}', /capture/],
      ['{"dryRun": "yes"}', /dryRun/],
      ['{"entitys": ["patients"]}', /entitys/],
      ['{"adopt": true, "capture": "full"}', /capture: does not belong to adopt/],
      ['{"adopt": false}', /adopt/],
    ])("answers 400 to %s and names the field", async (body, message) => {
      const answer = await refusal(await request("sync-trigger", { method: "POST", headers: machine(), body }));
      expect(answer).toMatchObject({ status: 400, code: "REQUEST_INVALID" });
      expect(JSON.stringify(answer)).toMatch(message);
    });

    it("answers 404 to an unknown execution and function", async () => {
      expect(
        await refusal(await request("sync-trigger?execution=6f1f7e1c-2f0b-4c0d-9d52-0a1b2c3d4e5f", { headers: machine() })),
      ).toMatchObject({ status: 404 });
      expect(await refusal(await request("sync-trigger?execution=7", { headers: machine() }))).toMatchObject({ status: 400 });
      expect((await request("sync-nothing", { headers: machine() })).status).toBe(404);
    });

    it("answers 405 to another method", async () => {
      expect(await refusal(await request("sync-trigger", { method: "DELETE", headers: machine() }))).toMatchObject({
        status: 405,
      });
      expect(await refusal(await request("sync-page", { headers: machine() }))).toMatchObject({ status: 405 });
    });

    it("answers 409 to a target that holds rows nobody adopted, and begins nothing", async () => {
      await test.target`insert into public.offices (legacy_office_id, name, is_active, email_notifications) values (1, 'From before', true, true)`;
      const answer = await refusal(await request("sync-trigger", { method: "POST", headers: machine(), body: "{}" }));
      expect(answer).toMatchObject({ status: 409, code: "TARGET_NOT_EMPTY" });
      expect(JSON.stringify(answer)).toMatch(/public\.offices/);
      expect((await test.target`select from public.sync_executions`).length).toBe(0);
      await test.target`delete from public.offices`;
    });

    it("answers 202, then 409 with the running execution's id while it covers an entity, until an operator cancels that one", async () => {
      const { execution: ended } = await test.start({ entities: ["offices"] });
      await test.finish(ended);
      // One that nobody works on.
      const [held] = await test.target<{ id: string }[]>`
        insert into public.sync_executions (source_id, triggered_by, entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid,
                                            server_start, source_time)
        select source_id, 'http:test', entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid, server_start, source_time
          from public.sync_executions where id = ${ended} returning id`;
      const execution = held?.id ?? "";
      // Without an open chain, a tick that still runs would end the execution.
      await test.target`
        insert into public.sync_chains (execution_id, entity_id, capture, state, page_size, due_at)
        select ${execution}, id, 'full', 'open', 100, now() + interval '1 day' from public.sync_entities where entity_type = 'offices'`;
      const answer = await refusal(
        await request("sync-trigger", { method: "POST", headers: machine(), body: '{"entities": ["offices"]}' }),
      );
      expect(answer).toMatchObject({ status: 409, code: "EXECUTION_ACTIVE", execution });

      const cancel = (headers: Record<string, string>, body: object) =>
        request("sync-trigger?cancel", { method: "POST", headers, body: JSON.stringify(body) });
      const team = (role: string) => bearer(test.platform.userToken({ isthmus_role: role }));
      expect(await refusal(await cancel(team("reviewer"), { execution }))).toMatchObject({ status: 403, code: "FORBIDDEN" });
      for (const body of [{}, { execution: "latest" }, { all: false }, { execution, all: true }])
        expect(await refusal(await cancel(machine(), body))).toMatchObject({ status: 400, code: "REQUEST_INVALID" });
      const cancelled = await cancel(team("operator"), { execution });
      expect({ status: cancelled.status, body: await cancelled.json() }).toEqual({
        status: 200,
        body: { cancelled: [{ execution, status: "cancelled", pagesAtWork: 0 }] },
      });
      expect(await refusal(await cancel(machine(), { execution }))).toMatchObject({ status: 409, code: "EXECUTION_CLOSED" });
      expect(await refusal(await cancel(machine(), { execution: ended }))).toMatchObject({
        status: 409,
        code: "EXECUTION_CLOSED",
      });
      await test.finish((await test.start({ entities: ["offices"] })).execution);
    });

    it("pauses and resumes a job, an execution, an entity or a chain for an operator or a machine, and refuses all others", async () => {
      const give = (headers: Record<string, string>, word: string, kind: string, name: string) =>
        request("sync-trigger?control", { method: "POST", headers, body: JSON.stringify({ word, what: { kind, name } }) });
      const team = (role?: string) => bearer(test.platform.userToken(role === undefined ? {} : { isthmus_role: role }));
      await nothingRuns();
      const { execution: ended } = await test.start({ entities: ["offices"] });
      await test.finish(ended);
      const [chain] = await test.target<
        { id: string }[]
      >`select id from public.sync_chains where execution_id = ${ended} limit 1`;
      const things = [
        ["job", "daily"],
        ["execution", ended],
        ["entity", "offices"],
        ["chain", chain?.id ?? ""],
      ] as const;
      for (const [kind, name] of things) {
        for (const word of ["pause", "resume", "cancel", "retry"]) {
          expect(await refusal(await give(team("reviewer"), word, kind, name))).toMatchObject({ status: 403, code: "FORBIDDEN" });
          expect(await refusal(await give(team(), word, kind, name))).toMatchObject({ status: 403, code: "FORBIDDEN" });
          expect(await refusal(await give({ apikey: "wrong" }, word, kind, name))).toMatchObject({ status: 401 });
        }
        const nothing = kind === "job" || kind === "entity" ? "nothing" : "00000000-0000-4000-8000-000000000000";
        expect(await refusal(await give(machine(), "pause", kind, nothing))).toMatchObject({ status: 404, code: "NOT_FOUND" });
        expect(await refusal(await give(machine(), "resume", kind, name))).toMatchObject({
          status: 409,
          code: "CONTROL_REFUSED",
        });
      }
      for (const [word, kind, name] of [
        ["stop", "job", "daily"],
        ["pause", "table", "offices"],
        ["pause", "chain", "latest"],
        ["pause", "execution", "latest"],
      ] as const)
        expect(await refusal(await give(machine(), word, kind, name))).toMatchObject({ status: 400, code: "REQUEST_INVALID" });

      expect((await give(team("operator"), "pause", "entity", "offices")).status).toBe(200);
      const paused = await request("sync-trigger?paused", { headers: team("reviewer") });
      expect(await paused.json()).toMatchObject({
        paused: [{ what: "entity", name: "offices", by: expect.stringMatching(/^http:user:/) as string }],
      });
      expect(
        await refusal(await request("sync-trigger", { method: "POST", headers: machine(), body: '{"entities": ["offices"]}' })),
      ).toMatchObject({ status: 409, code: "ENTITY_PAUSED" });
      const resumed = await give(machine(), "resume", "entity", "offices");
      expect(await resumed.json()).toMatchObject({
        controlled: { what: "entity", name: "offices", word: "resume", waits: false },
      });

      // One whose message was lost goes on at once, and not with the next tick.
      const [made] = await test.target<{ id: string }[]>`
        insert into public.sync_executions (source_id, triggered_by, entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid,
                                            server_start, source_time)
        select source_id, 'http:test', entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid, server_start, source_time
          from public.sync_executions where id = ${ended} returning id`;
      const execution = made?.id ?? "";
      await test.target`
        insert into public.sync_chains (execution_id, entity_id, capture, state, page_size, due_at)
        select ${execution}, id, 'full', 'open', 100, now() + interval '1 day' from public.sync_entities where entity_type = 'offices'`;
      expect((await give(machine(), "pause", "execution", execution)).status).toBe(200);
      const goesOn = await give(team("operator"), "resume", "execution", execution);
      expect(await goesOn.json()).toMatchObject({ controlled: { word: "resume", pagesAtWork: 0, sent: 1 } });
      expect((await test.finish(execution)).status).toBe("succeeded");
    });

    it("answers 503 while a database is down, at once and every time, and works again when it is back", async () => {
      for (const side of ["target", "source"] as const) {
        await test.platform[side].crash();
        for (let tries = 0; tries < 3; tries++) {
          const answer = await request("sync-trigger", { method: "POST", headers: machine(), body: '{"entities": ["offices"]}' });
          expect(answer.headers.get("retry-after")).not.toBeNull();
          expect(await refusal(answer)).toMatchObject({ status: 503, code: `${side.toUpperCase()}_UNAVAILABLE` });
        }
        await test.platform[side].restart();
        expect((await request("sync-trigger", { headers: machine() })).status).toBe(200);
      }
    });

    it("answers 200 to a stale page and to a page of a closed chain, and changes nothing", async () => {
      const [chain] = await test.target<
        { id: string; execution_id: string; page: number }[]
      >`select id, execution_id, page from public.sync_chains limit 1`;
      const answer = await request("sync-page", {
        method: "POST",
        headers: machine(),
        body: JSON.stringify({ chain: chain?.id, execution: chain?.execution_id, page: 0 }),
      });
      expect(answer.status).toBe(200);
      expect(await answer.json()).toEqual({ outcome: "closed" });
    });

    it("answers 503 to a message of a later release, whatever else stands in it, so that the queue brings it again", async () => {
      const later = { format: MESSAGE_FORMAT + 1, page: "in another way" };
      const answer = await request("sync-page", { method: "POST", headers: machine(), body: JSON.stringify(later) });
      expect(answer.status).toBe(503);
      expect(await answer.json()).toMatchObject({ error: { code: "DEPLOYMENT_BEHIND" } });
    });
  });

  describe("sync-tick", () => {
    const tick = async () => {
      expect((await request("sync-tick", { method: "POST", headers: machine(), body: "{}" })).status).toBe(202);
    };
    const until = async <T>(look: () => Promise<T | undefined>): Promise<T> => {
      for (let tries = 0; tries < 400; tries++) {
        const found = await look();
        if (found !== undefined) return found;
        await new Promise((again) => setTimeout(again, 25));
      }
      throw new Error("nothing came");
    };

    it("gives the seeded daily job its next time, starts it when due, once, and sets the time after", async () => {
      await test.target`update public.sync_jobs set next_execution_at = null where name = 'daily'`;
      await tick();
      const next = await until(
        async () =>
          (
            await test.target<
              { at: Date | null }[]
            >`select next_execution_at as at from public.sync_jobs where name = 'daily' and extract(hour from next_execution_at at time zone 'UTC') = 2`
          )[0]?.at ?? undefined,
      );
      expect(next.getTime()).toBeGreaterThan(Date.now());

      await test.target`update public.sync_jobs set next_execution_at = now() - interval '1 minute' where name = 'daily'`;
      await Promise.all([tick(), tick()]);
      const run = await until(
        async () =>
          (
            await test.target<
              { id: string; job: string }[]
            >`select id, triggered_by as job from public.sync_executions where job_id is not null`
          )[0],
      );
      expect(run.job).toBe("job:daily");
      expect((await test.finish(run.id)).status).toBe("succeeded");
      expect((await test.target`select from public.sync_executions where job_id is not null`).length).toBe(1);
      const [job] = await test.target<
        { status: string; later: boolean; last: Date | null }[]
      >`select status, next_execution_at > now() as later, last_execution_at as last from public.sync_jobs where name = 'daily'`;
      expect(job).toMatchObject({ status: "succeeded", later: true });
      expect(job?.last).not.toBeNull();
    });

    it.each([
      ["cron expression is not valid", "whenever", {}],
      ["configuration is not valid", "0 0 1 1 *", { entities: "offices" }],
      ["configuration has a word that nobody knows", "0 0 1 1 *", { entity: ["offices"] }],
      ["configuration names an entity that there is not", "0 0 1 1 *", { entities: ["office"] }],
    ])("marks a job whose %s as failed, and starts nothing", async (_, cron, configuration) => {
      const executions = async () => (await test.target`select from public.sync_executions`).length;
      const before = await executions();
      await test.target`
        insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at, configuration)
        values ('broken', 'cron', ${cron}, now(), ${test.target.json(configuration)})`;
      await tick();
      await until(async () =>
        (await test.target<{ status: string }[]>`select status from public.sync_jobs where name = 'broken'`)[0]?.status ===
        "failed"
          ? true
          : undefined,
      );
      await test.target`delete from public.sync_jobs where name = 'broken'`;
      expect(await executions()).toBe(before);
    });

    it("sends a page again when its message was lost", async () => {
      test.platform.qstash.faults.drop = 1;
      const { execution } = await test.start({ entities: ["offices"], capture: "full" });
      test.platform.qstash.faults.drop = 0;
      expect((await test.state(execution)).status).toBe("running");
      expect((await test.finish(execution, { tickEveryMs: 300 })).status).toBe("succeeded");
      const [sent] = await test.target<
        { most: number }[]
      >`select count(*)::integer as most from public.sync_page_log where execution_id = ${execution}`;
      expect(sent?.most).toBe(1);
    });

    it("reads released records again when no execution is running", async () => {
      const [waiting] = await test.target<{ id: number; parent: number }[]>`
        select source_record_id::integer as id, parent_legacy_id::integer as parent from public.sync_conflicts
         where state = 'waiting' and entity_type = 'orders' and parent_entity_id = (select id from public.sync_entities where entity_type = 'patients') limit 1`;
      if (!waiting) throw new Error("the dataset has no waiting order");
      await test.source`update public.dispatch_patient set status = 1, sex = 1, birthdate = '1990-01-01' where id = ${waiting.parent}`;
      const { execution } = await test.start({ entities: ["profiles", "doctors", "patients"] });
      expect((await test.finish(execution, { tickEveryMs: 1e9 })).status).toBe("succeeded");
      await tick();
      const order = await until(
        async () =>
          (await test.target<{ id: string }[]>`select id from public.orders where legacy_instruction_id = ${waiting.id}`)[0],
      );
      expect(order.id).toMatch(/^[0-9a-f-]{36}$/);
    });
  });

  describe("the mapping cache", () => {
    // What earlier tests have released and edited lands first.
    beforeAll(async () => {
      await nothingRuns();
      // A tick that has answered may begin one more.
      const { execution } = await vi.waitFor(() => test.start(), { timeout: 60_000, interval: 200 });
      expect((await test.finish(execution)).status).toBe("succeeded");
    });

    it.each(["full", "rate-limited", "slow", "wrong", "absent"] as const)("only costs time when it is %s", async (mode) => {
      Object.assign(test.platform.redis.faults, { mode, delayMs: 1_500 });
      try {
        // Entities whose references are found through the cache: what is not asked of it costs no time.
        const { execution } = await test.start({ capture: "full", entities: ["cases", "orders", "payments", "operations"] });
        const state = await test.finish(execution, { tickEveryMs: 2_000 });
        expect(state).toMatchObject({ status: "succeeded", errors: null });
        for (const { counts } of state.entities) expect(counts).toMatchObject({ inserted: 0, updated: 0 });
      } finally {
        Object.assign(test.platform.redis.faults, { mode: "ok" });
      }
    });

    it("never becomes a wrong reference: first loads through a lying cache land the same rows", async () => {
      const before =
        await test.target`select legacy_instruction_id, patient_id, doctor_id, office_id from public.orders order by 1`;
      await test.target.unsafe("truncate public.operations, public.payments, public.orders cascade");
      for (const entity of ["orders", "payments", "operations"]) {
        await test.target`delete from public.sync_row_states where entity_id = (select id from public.sync_entities where entity_type = ${entity})`;
        await test.target`delete from public.uuid_mappings_enhanced where entity_type = ${entity}`;
        await test.target`delete from public.sync_checkpoints where entity_type = ${entity}`;
      }
      Object.assign(test.platform.redis.faults, { mode: "wrong" });
      const { execution } = await test.start();
      const state = await test.finish(execution);
      Object.assign(test.platform.redis.faults, { mode: "ok" });
      expect(state.status).toBe("succeeded");
      expect(
        await test.target`select legacy_instruction_id, patient_id, doctor_id, office_id from public.orders order by 1`,
      ).toEqual(before);
    });

    it("keys carry source, target, epoch and entity, and expire", async () => {
      const { Redis } = await import("@upstash/redis");
      const redis = new Redis({ url: test.platform.redis.url, token: test.platform.redis.token, enableTelemetry: false });
      const [, keys] = await redis.scan(0, { match: "isthmus:*:patients:*", count: 10_000 });
      expect(keys.length).toBeGreaterThan(0);
      const [, ofNobody] = await redis.scan(0, { match: "isthmus:*:operations:*", count: 10_000 });
      expect(ofNobody, "ids that nothing refers to").toEqual([]);
      expect(keys[0]).toMatch(/^isthmus:legacy:\d+\/\d+\/\d+:1:patients:\d+$/);
      const ttl = await redis.ttl(keys[0] ?? "");
      expect(ttl).toBeGreaterThan(0);
      expect(ttl).toBeLessThanOrEqual(3_600);
    });
  });
  describe("GET ?check", () => {
    interface Answer {
      ok: boolean;
      reachable: Record<string, { reachable: boolean; reason?: string; ms?: number; version?: string; role?: string }>;
      findings: { code: string; entity: string }[] | null;
      sideEffects: { table: string; kind: string; acknowledged: boolean }[];
      error: { code: string } | null;
    }
    const check = async () => {
      const answer = await request("sync-trigger?check", { headers: machine() });
      const text = await answer.text();
      expect(answer.status).toBe(200);
      const { platform } = test;
      for (const secret of [platform.secretKey, platform.qstash.token, platform.redis.token, "local-worker", "local-reader"])
        expect(text).not.toContain(secret);
      return JSON.parse(text) as Answer;
    };

    it("asks both databases, Redis and QStash from within the function, and compares the catalogs", async () => {
      const database = {
        reachable: true,
        ms: expect.any(Number) as number,
        version: expect.stringMatching(/^17\.\d+$/) as string,
        role: "primary",
      };
      const answer = await check();
      expect(answer).toMatchObject({ ok: true, findings: [], error: null });
      expect(answer.reachable).toEqual({
        source: database,
        target: database,
        redis: { reachable: true, ms: expect.any(Number) as number },
        qstash: { reachable: true, ms: expect.any(Number) as number },
      });
      expect(answer.sideEffects).toContainEqual(
        expect.objectContaining({ table: "offices", kind: "trigger", name: "touch_updated_at", acknowledged: true }),
      );
      expect((await request("sync-trigger?check")).status).toBe(401);
    });

    it("says which database does not answer and why, and does not answer for it", async () => {
      await test.platform.source.crash();
      const down = await check();
      expect(down).toMatchObject({ ok: false, findings: null, error: { code: "SOURCE_UNAVAILABLE" } });
      expect(down.reachable["source"]).toEqual({ reachable: false, reason: "connection_refused" });
      expect(down.reachable["target"]).toMatchObject({ reachable: true });
      await test.platform.source.restart();
      await test.source`alter role isthmus_reader nologin`;
      await test.source`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'isthmus_reader'`;
      expect((await check()).reachable["source"]).toEqual({ reachable: false, reason: "credentials_refused" });
      await test.source`alter role isthmus_reader login`;
      expect((await check()).ok).toBe(true);
    });

    it("calls a cache that does not answer no obstacle, and a queue that does not answer one", async () => {
      Object.assign(test.platform.redis.faults, { mode: "absent" });
      const answer = await check();
      Object.assign(test.platform.redis.faults, { mode: "ok" });
      expect(answer.reachable["redis"]?.reachable).toBe(false);
      expect(answer.ok).toBe(true);
      await test.platform.crashQstash();
      expect(await check()).toMatchObject({
        ok: false,
        reachable: { qstash: { reachable: false, reason: "connection_refused" } },
      });
      await test.platform.restartQstash();
    });

    it("finds what would pause an entity, and a start of it alone answers 409 with that", async () => {
      await test.target`create publication supabase_realtime for table public.offices`;
      await test.target`alter table public.operations drop column card_brand`;
      const { findings, ok } = await check();
      // Offices have been loaded: there the publication is a warning.
      expect(findings).toMatchObject([
        { code: "target_column_missing", entity: "operations", severity: "fatal" },
        { code: "side_effect", entity: "offices", severity: "warn" },
      ]);
      expect(ok).toBe(false);
      const body = '{"entities": ["operations"]}';
      expect(await refusal(await request("sync-trigger", { method: "POST", headers: machine(), body }))).toMatchObject({
        status: 409,
        code: "CONTRACT_BROKEN",
        findings: [{ code: "target_column_missing", column: "card_brand" }],
      });
      const accepted = await request("sync-trigger?acknowledge", {
        method: "POST",
        headers: machine(),
        body: '{"tables": ["offices"], "by": "ada"}',
      });
      expect(await accepted.json()).toMatchObject({
        acknowledged: [{ table: "offices", kind: "publication", name: "supabase_realtime" }],
      });
      const [row] = await test.target<
        { by: string }[]
      >`select acknowledged_by as by from public.sync_side_effects where kind = 'publication'`;
      expect(row?.by).toBe("http:machine:default ada");
      const reviewer = bearer(test.platform.userToken({ isthmus_role: "reviewer" }));
      expect(
        await refusal(await request("sync-trigger?acknowledge", { method: "POST", headers: reviewer, body: "{}" })),
      ).toMatchObject({
        status: 403,
      });
    });
  });

  // Last: the functions know no key any more afterwards.
  describe("when both signing keys are outdated", () => {
    it("the check says so, a person is told within minutes, and the messages do not pile up", async () => {
      const { platform, target } = test;
      await target`alter table public.operations add column if not exists card_brand text`;
      await nothingRuns();
      // QStash's log is asked once in two minutes, and an earlier test may have had it asked.
      await target`delete from public.sync_queue_looks`;
      platform.qstash.rotateKeys();
      platform.qstash.rotateKeys();
      const check = (await (await request("sync-trigger?check", { headers: machine() })).json()) as {
        ok: boolean;
        reachable: { qstash: object };
      };
      expect(check).toMatchObject({ ok: false, reachable: { qstash: { reachable: false, reason: "signature_refused" } } });

      const delivered = platform.qstash.history().length;
      const { published } = platform.qstash.stats();
      const { execution } = await test.start({ entities: ["offices"], capture: "full" });
      const told = async () => {
        await platform.call("sync-tick", { body: {} });
        return target<{ severity: string; message: string; details: object }[]>`
          select severity, message, details from public.sync_alerts where kind = 'deliveries_refused' and closed_at is null`;
      };
      await expect.poll(told, { timeout: 60_000, interval: 1_000 }).toMatchObject([
        {
          severity: "critical",
          message: expect.stringContaining("set QSTASH_CURRENT_SIGNING_KEY and QSTASH_NEXT_SIGNING_KEY anew") as string,
          details: { statuses: { 401: expect.any(Number) as number }, signingKeysOutdated: true },
        },
      ]);
      // Of every execution: the ticks above may have begun one for records that were released.
      const open = await target<{ execution: string; sends: number }[]>`
        select execution_id as execution, sends from public.sync_chains where state = 'open'`;
      expect(open.map((chain) => chain.execution)).toContain(execution);
      const answers = platform.qstash.history().slice(delivered);
      expect(answers.every(({ status }) => status === 401)).toBe(true);
      // The first message of each chain, and one after each of the first growing pauses.
      expect(platform.qstash.stats().published - published).toBeLessThanOrEqual(
        open.reduce((messages, { sends }) => messages + 1 + sends, 0),
      );
      await target`update public.sync_executions set status = 'cancelled' where id = ${execution}`;
    });
  });
});
