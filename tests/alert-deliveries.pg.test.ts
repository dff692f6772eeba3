import { createHmac } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startNetWorker, type NetWorker } from "../local/net/worker.ts";
import { asRole, outcomeOf, type Role } from "./support/data-api.ts";
import { startHosted, type Hosted } from "./support/hosted.ts";
import { WebhookReceiver, type Received } from "./support/webhook.ts";

const KEY = "a-key-that-nobody-else-knows";
/** What is secret of an address of a chat: its path. */
const TOKEN = "T0K3N-of-the-chat";

describe("alerts leave the building", () => {
  let hosted: Hosted;
  let worker: NetWorker | undefined;
  let receiver: WebhookReceiver;
  let source = 0;

  beforeAll(async () => {
    // Nothing runs here but what the tests run: no function at all, and no job, since pg_cron does not reach the
    // server. Of 0 running jobs it makes 1.
    hosted = await startHosted("alert-deliveries", { "cron.host": "/nowhere" });
    receiver = await WebhookReceiver.start(KEY);
    const [row] = await hosted.admin<{ id: number }[]>`insert into public.sync_sources (name) values ('legacy') returning id`;
    source = row?.id ?? 0;
    await hosted.admin`
      insert into public.sync_entities (source_id, entity_type, source_table, target_table, legacy_key, columns, definition_hash)
      select ${source}, 'entity_' || n, 't', 't', 'k', '[]', '' from generate_series(1, 30) n`;
  });
  afterAll(async () => {
    await receiver?.[Symbol.asyncDispose]();
    await worker?.stop();
    await hosted?.[Symbol.asyncDispose]();
  });

  const secret = async (name: string, value: string | null) => {
    await hosted.admin`delete from vault.secrets where name = ${`isthmus_${name}`}`;
    if (value !== null) await hosted.owner`select vault.create_secret(${value}, ${`isthmus_${name}`})`;
  };
  beforeEach(async () => {
    worker ??= await startNetWorker({ url: hosted.url, pauseMs: 10 });
    await hosted.admin`truncate public.sync_alert_deliveries, public.sync_alert_notes, public.sync_ticks, net.http_request_queue, net._http_response`;
    await hosted.admin`delete from public.sync_alerts`;
    await hosted.admin`delete from public.sync_alert_settings`;
    await hosted.admin`update public.sync_jobs set succeeded_at = null, success_told_at = null`;
    await secret("functions_url", "https://abcdefghijklmnopqrst.supabase.co/functions/v1");
    await secret("webhook_url", `${receiver.base}/first/${TOKEN}`);
    await secret("webhook_url_2", null);
    await secret("webhook_key", KEY);
    await secret("heartbeat_url", null);
    receiver.answer = 200;
    receiver.take();
  });

  const asWorker = (statement: string, values: readonly unknown[] = []) =>
    hosted.admin.begin(async (tx) => {
      await tx.unsafe("set local role isthmus_worker; set local statement_timeout = '10s'");
      await tx.unsafe(statement, values as never[]);
    });
  const entity = (n: number) => `(select id from public.sync_entities where entity_type = 'entity_${n}')`;
  const raise = (kind: string, severity: "warning" | "critical", n?: number, message = `what is wrong with ${kind}`) =>
    asWorker(`select sync.raise_alert($1, $2, $3, null, ${n === undefined ? "null::smallint" : entity(n)}, $4, '{}')`, [
      kind,
      severity,
      source,
      message,
    ]);
  const close = (kind: string) => asWorker("select sync.close_alert($1, $2)", [kind, source]);
  const look = async () => (await hosted.owner<{ said: unknown }[]>`select sync.deliver_alerts() as said`)[0]?.said;
  /** Until pg_net has kept an answer to every request that it has. */
  const answered = () =>
    expect
      .poll(
        async () =>
          (
            await hosted.admin`
              select from public.sync_alert_deliveries d where d.status = 'sent' and not exists (select from net._http_response r where r.id = d.request_id)`
          ).length,
        { timeout: 15_000, interval: 20 },
      )
      .toBe(0);
  const dueNow = () => hosted.admin`update public.sync_alert_deliveries set next_attempt_at = now() where status = 'waiting'`;
  /** Looks of so many minutes, each with what was answered to the one before. */
  const minutes = async (count: number) => {
    for (let minute = 0; minute < count; minute++) {
      await look();
      await answered();
      await dueNow();
    }
    await look();
  };
  const told = () =>
    receiver.take().map(({ path, body }) => [path.split("/")[1], body["event"], body["kind"] ?? body["count"]].join(" ").trim());
  const deliveries = async () => [
    ...(await hosted.admin<{ event: string; slot: string; status: string; tries: number; error: string | null }[]>`
      select event, slot, status, tries, last_error as error from public.sync_alert_deliveries order by ordinal`),
  ];
  const openKinds = async () =>
    (await hosted.admin<{ kind: string }[]>`select kind from public.sync_alerts where closed_at is null order by 1`).map(
      ({ kind }) => kind,
    );
  /** Nothing that is secret stands in what people and logs see. */
  const keepsSecrets = async () => {
    const seen = JSON.stringify([
      await hosted.admin`select * from public.sync_alert_deliveries`,
      await hosted.admin`select * from public.sync_alerts`,
      await hosted.admin`select * from cron.job_run_details`,
      hosted.log(),
    ]);
    expect(seen).not.toContain(TOKEN);
    expect(seen).not.toContain(KEY);
  };

  describe("one message", () => {
    it("when it opens, signed, with what to do and where to look; none for occurrences; one when it is over", async () => {
      await raise("page_stalled", "critical", 1);
      await minutes(1);
      const [message] = receiver.take();
      const [row] = await hosted.admin<
        { id: string; oid: number }[]
      >`select id, 'public.sync_alerts'::regclass::oid::int as oid from public.sync_alerts`;
      const link = `https://supabase.com/dashboard/project/abcdefghijklmnopqrst/editor/${row?.oid}?schema=public&filter=id%3Aeq%3A${row?.id}`;
      expect(message).toMatchObject({
        method: "POST",
        path: `/first/${TOKEN}`,
        signed: true,
        body: {
          version: 1,
          event: "opened",
          alert: row?.id,
          kind: "page_stalled",
          severity: "critical",
          source: "legacy",
          entity: "entity_1",
          execution: null,
          job: null,
          message: "what is wrong with page_stalled",
          remedy: expect.stringMatching(/^Do what the remedy in details says/) as unknown,
          occurrences: 1,
          since: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as unknown,
          link,
          text: `[critical] page_stalled of entity_1 (legacy)\nwhat is wrong with page_stalled\nWhat to do: Do what the remedy in details says, then start again. What was committed stays.\n${link.replace("&", "&amp;")}`,
        },
      });
      expect(message?.delivery).toBe(message?.body["id"]);

      await raise("page_stalled", "critical", 1, "and again");
      await minutes(2);
      expect(told()).toEqual([]);
      await close("page_stalled");
      await minutes(2);
      const [over, ...more] = receiver.take();
      expect(more).toEqual([]);
      expect(over?.body).toMatchObject({ event: "cleared", kind: "page_stalled", occurrences: 2, message: "and again" });
      expect(over?.body["text"]).toMatch(/^Over: \[critical\] page_stalled of entity_1 \(legacy\)\nand again\n/);
      expect((await deliveries()).map(({ status }) => status)).toEqual(["delivered", "delivered"]);
      await keepsSecrets();
    });

    it("when a warning becomes critical, and none when it becomes a warning again", async () => {
      await raise("tick_missing", "warning");
      await minutes(1);
      await raise("tick_missing", "critical");
      await minutes(1);
      await raise("tick_missing", "warning");
      await minutes(1);
      await raise("tick_missing", "critical");
      await minutes(1);
      expect(told()).toEqual(["first opened tick_missing", "first escalated tick_missing"]);
    });

    it("of none that has opened and closed between two looks, and of both in their order where the first could not be delivered yet", async () => {
      await raise("queue_refused", "critical");
      await close("queue_refused");
      await minutes(1);
      expect(told()).toEqual([]);

      receiver.answer = 503;
      await raise("queue_refused", "critical");
      await look();
      await answered();
      await close("queue_refused");
      await look();
      await look();
      expect(told()).toEqual(["first opened queue_refused"]);
      receiver.answer = 200;
      await dueNow();
      await minutes(2);
      expect(told()).toEqual(["first opened queue_refused", "first cleared queue_refused"]);
    });

    it("of what is open when an address is set up, and nothing before", async () => {
      await secret("webhook_url", null);
      await raise("brake", "critical", 1);
      await minutes(1);
      expect(await deliveries()).toEqual([]);
      await secret("webhook_url", `${receiver.base}/first/${TOKEN}`);
      await minutes(1);
      expect(told()).toEqual(["first opened brake"]);
    });

    it("without a signature where there is no key, and without a link where the project's ref is unknown", async () => {
      await secret("webhook_key", null);
      await secret("functions_url", "https://functions.example.org");
      await raise("brake", "warning", 1);
      await minutes(1);
      expect(receiver.take()).toMatchObject([{ signed: undefined, body: { link: null } }]);
    });
  });

  describe("a storm", () => {
    it("of more than five is one digest, and one when it is over", async () => {
      for (let n = 1; n <= 25; n++) await raise("queue_old", n === 25 ? "critical" : "warning", n);
      await minutes(1);
      const [digest, ...more] = receiver.take();
      expect(more).toEqual([]);
      expect(digest).toMatchObject({ signed: true, body: { event: "digest", of: "opened", count: 25, severity: "critical" } });
      expect(digest?.body["alerts"]).toHaveLength(25);
      const lines = String(digest?.body["text"]).split("\n");
      expect(lines.slice(0, 2)).toEqual(["25 alerts at once:", "[critical] queue_old of entity_25 (legacy)"]);
      expect(lines).toHaveLength(23);
      expect(lines.at(-2)).toBe("and 5 more.");
      await close("queue_old");
      await minutes(1);
      expect(told()).toEqual(["first digest 25"]);
    });

    it("of five is five, and how many are too many is a setting", async () => {
      for (let n = 1; n <= 5; n++) await raise("queue_old", "warning", n);
      await minutes(1);
      expect(told()).toEqual(Array(5).fill("first opened queue_old"));
      await hosted.owner`update public.sync_alert_settings set digest_above = 2`;
      await close("queue_old");
      await minutes(1);
      expect(told()).toEqual(["first digest 5"]);
    });

    it("of one a minute is single messages up to the bound of the hour, then a digest every ten minutes", async () => {
      await hosted.owner`insert into public.sync_alert_settings (hourly) values (3)`;
      for (let n = 1; n <= 12; n++) {
        await raise("queue_old", n > 6 ? "critical" : "warning", n);
        await look();
      }
      await minutes(1);
      expect(told()).toEqual(Array(3).fill("first opened queue_old"));
      await hosted.admin`update public.sync_alert_deliveries set created_at = created_at - interval '10 minutes'`;
      await minutes(1);
      expect(told()).toEqual(["first digest 9"]);
      await close("queue_old");
      await minutes(1);
      expect(told()).toEqual([]);
      await hosted.admin`update public.sync_alert_deliveries set created_at = created_at - interval '10 minutes'`;
      await minutes(1);
      expect(told()).toEqual(["first digest 12"]);
      // An hour later one is one again.
      await hosted.admin`update public.sync_alert_deliveries set created_at = created_at - interval '1 hour'`;
      await raise("brake", "critical", 1);
      await minutes(1);
      expect(told()).toEqual(["first opened brake"]);
    });

    it("of ten thousand costs a look what it finds, not what is closed", async () => {
      const blocks = async () => {
        await look();
        const [row] = await hosted.owner.unsafe<{ "QUERY PLAN": { Plan: Record<string, number> }[] }[]>(
          "explain (analyze, buffers, format json) select sync.deliver_alerts()",
        );
        const plan = row?.["QUERY PLAN"][0]?.Plan;
        return (plan?.["Shared Hit Blocks"] ?? 0) + (plan?.["Shared Read Blocks"] ?? 0);
      };
      const closed = async (from: number, to: number) => {
        await hosted.admin`
          insert into public.sync_alerts (kind, severity, message, closed_at) select 'dead_letters', 'critical', repeat('x', 500), now() from generate_series(${from}::int, ${to}::int)`;
        await hosted.admin`
          insert into public.sync_alert_deliveries (event, slot, body, status, ended_at) select 'opened', 'first', '{}', 'delivered', now() from generate_series(${from}::int, ${to}::int)`;
        await hosted.admin.unsafe("vacuum analyze public.sync_alerts, public.sync_alert_deliveries");
      };
      await closed(1, 100);
      const few = await blocks();
      await closed(101, 10_000);
      const many = await blocks();
      expect(many).toBeLessThan(few + 40);
    });
  });

  describe("a receiver", () => {
    it("that fails twice gets it a third time, under the same id, and has it delivered once", async () => {
      let times = 0;
      receiver.answer = () => (++times < 3 ? 500 : 204);
      await raise("brake", "critical", 1);
      await minutes(5);
      const tries = receiver.take();
      expect(tries).toHaveLength(3);
      expect(new Set(tries.map(({ delivery }) => delivery)).size).toBe(1);
      expect(tries.every(({ signed }) => signed === true)).toBe(true);
      expect(await deliveries()).toEqual([{ event: "opened", slot: "first", status: "delivered", tries: 3, error: null }]);
    });

    it.each<[string, () => Promise<void>, RegExp]>([
      ["that refuses", () => Promise.resolve(void (receiver.answer = 401)), /^the answer was status 401$/],
      ["that hangs", () => Promise.resolve(void (receiver.answer = "hangs")), /^no answer within 5 seconds$/],
      [
        "that is not there",
        () => secret("webhook_url", `http://localhost:1/${TOKEN}`),
        /^no answer: Couldn't connect to server$/,
      ],
    ])("%s makes a failed try, with its reason and nothing secret, and the next one waits", async (_, broken, says) => {
      await broken();
      await raise("brake", "critical", 1);
      await look();
      await answered();
      await look();
      expect(await deliveries()).toMatchObject([{ status: "waiting", tries: 1, error: expect.stringMatching(says) as unknown }]);
      const [row] = await hosted.admin<
        { waits: number }[]
      >`select extract(epoch from next_attempt_at - now())::int as waits from public.sync_alert_deliveries`;
      expect(row?.waits).toBeGreaterThan(50);
      await keepsSecrets();
    });

    it("that fails to the end: the pauses grow, then the message is given up, which is an alert, until one arrives; then what is still so is sent after all", async () => {
      await hosted.owner`insert into public.sync_alert_settings (tries) values (4)`;
      receiver.answer = 500;
      await raise("brake", "critical", 1);
      await raise("surplus", "warning", 2);
      const pauses: number[] = [];
      for (let minute = 1; minute <= 5; minute++) {
        await look();
        await answered();
        const [row] = await hosted.admin<{ waits: number }[]>`
          select round(extract(epoch from next_attempt_at - clock_timestamp()) / 60)::int as waits from public.sync_alert_deliveries where status = 'waiting' order by ordinal limit 1`;
        if (minute > 1 && row !== undefined) pauses.push(row.waits);
        await look();
        const [next] = await hosted.admin<{ waits: number }[]>`
          select round(extract(epoch from next_attempt_at - clock_timestamp()) / 60)::int as waits from public.sync_alert_deliveries where status = 'waiting' order by ordinal limit 1`;
        if (next !== undefined) pauses.push(next.waits);
        await dueNow();
      }
      const happened = JSON.stringify([
        await hosted.admin`select ordinal, event, slot, status, tries, last_error, body ->> 'kind' as kind, created_at, tried_at, ended_at, next_attempt_at from public.sync_alert_deliveries order by ordinal`,
        await hosted.admin`select kind, subject, first_seen_at, closed_at, details from public.sync_alerts order by first_seen_at`,
        receiver.received.map(({ body }) => [body["event"], body["kind"]]),
      ]);
      expect(pauses, happened).toEqual([1, 2, 4]);
      expect(receiver.take()).toHaveLength(8);
      expect((await deliveries()).map(({ status }) => status)).toEqual(["failed", "failed"]);
      expect(await openKinds()).toEqual(["alert_undelivered", "brake", "surplus"]);
      const [told1] = await hosted.admin<
        { message: string; occurrences: number }[]
      >`select message, occurrences from public.sync_alerts where kind = 'alert_undelivered'`;
      expect(told1).toEqual({
        message:
          "Messages about alerts do not arrive at the first address (Vault secret isthmus_webhook_url): the answer was status 500.",
        occurrences: 1,
      });
      await minutes(2);
      expect(receiver.take()).toEqual([]);

      receiver.answer = 200;
      await close("surplus");
      await hosted.owner`select sync.test_alert()`;
      await minutes(3);
      // That it is over is nothing to who was never told of it: a summary says that it was.
      expect(told().sort()).toEqual(["first digest 1", "first opened brake", "first test"]);
      expect(await openKinds()).toEqual(["brake"]);
    });

    it("that refuses one message as such gets a short one, once, and the address is not taken for dead", async () => {
      receiver.answer = ({ body }: Received) => ("remedy" in body ? 413 : 200);
      await raise("brake", "critical", 1, `${"long ".repeat(300)} <b>é`);
      await minutes(2);
      const [whole, short, ...more] = receiver.take();
      expect(more).toEqual([]);
      expect(short?.delivery).toBe(whole?.delivery);
      expect(short).toMatchObject({
        signed: true,
        body: {
          event: "opened",
          kind: "brake",
          severity: "critical",
          refused: 413,
          text: "[critical] brake of entity_1 (legacy) The whole message was refused here with status 413. See sync_alerts.",
        },
      });
      expect(await deliveries()).toEqual([
        {
          event: "opened",
          slot: "first",
          status: "delivered",
          tries: 2,
          error: "the whole message was refused with status 413; a short one has arrived",
        },
      ]);
      expect(await openKinds()).toEqual(["brake"]);
    });

    it("that refuses a message in both forms is told once, not again and again while others arrive", async () => {
      receiver.answer = ({ body }: Received) => (body["kind"] === "brake" ? 400 : 200);
      await raise("brake", "critical", 1);
      await minutes(2);
      expect(await openKinds()).toEqual(["alert_undelivered", "brake"]);
      await raise("surplus", "warning", 2);
      await minutes(6);
      expect(await openKinds()).toEqual(["brake", "surplus"]);
      expect(told()).toEqual([...["first opened brake", "first opened brake", "first opened surplus", "first opened brake"]]);
      expect(await hosted.admin`select occurrences from public.sync_alerts where kind = 'alert_undelivered'`).toEqual([
        { occurrences: 1 },
      ]);
      expect((await deliveries()).map(({ status }) => status)).toEqual(["dropped", "delivered"]);
    });

    it("whose answers pg_net loses in a crash gets it again, under the same id", async () => {
      await raise("brake", "critical", 1);
      await look();
      await answered();
      await hosted.admin`truncate net.http_request_queue, net._http_response`;
      await look();
      expect(await deliveries()).toMatchObject([{ status: "sent", tries: 1 }]);
      await hosted.admin`update public.sync_alert_deliveries set tried_at = tried_at - interval '3 minutes'`;
      await look();
      expect(await deliveries()).toMatchObject([
        { status: "waiting", error: expect.stringMatching(/^no answer is known/) as unknown },
      ]);
      await dueNow();
      await minutes(2);
      const tries = receiver.take();
      expect(tries).toHaveLength(2);
      expect(tries[0]?.delivery).toBe(tries[1]?.delivery);
      expect(await deliveries()).toMatchObject([{ status: "delivered", tries: 2 }]);
    });

    it("gets a message that the job was killed over before its commit not at all, and with the next look once", async () => {
      await raise("brake", "critical", 1);
      await hosted.owner
        .begin(async (tx) => {
          await tx`select sync.deliver_alerts()`;
          throw new Error("killed");
        })
        .catch(() => undefined);
      await new Promise((later) => setTimeout(later, 200));
      expect(receiver.take()).toEqual([]);
      await minutes(1);
      expect(told()).toEqual(["first opened brake"]);
    });

    it("gets each message once where two look at the same time", async () => {
      await look();
      for (let n = 1; n <= 4; n++) await raise("brake", "critical", n);
      const other = hosted.admin;
      await hosted.owner.begin(async (tx) => {
        await tx`select sync.deliver_alerts()`;
        // The other one does not wait for the first.
        await other.begin(async (second) => {
          await second.unsafe("set local role postgres; set local lock_timeout = '2s'");
          await second`select sync.deliver_alerts()`;
        });
      });
      await Promise.all([look(), other.unsafe("set role postgres; select sync.deliver_alerts(); reset role").simple()]);
      await minutes(1);
      expect(told()).toEqual(Array(4).fill("first opened brake"));
    });
  });

  describe("an address or a key that is none", () => {
    it.each([
      ["an address without TLS", "webhook_url", `http://hooks.example.org/${TOKEN}`],
      ["an address with a password", "webhook_url", `https://a:${TOKEN}@hooks.example.org/`],
      ["a line end in the address", "webhook_url", `https://hooks.example.org/${TOKEN}\n`],
      ["a second address behind the first", "webhook_url", `https://hooks.example.org/ https://${TOKEN}.example.org/`],
      ["another scheme", "webhook_url", `file:///${TOKEN}`],
      ["a word", "webhook_url", TOKEN],
      ["a line end in the key", "webhook_key", `${KEY}\n`],
      ["a key of a few letters", "webhook_key", TOKEN.slice(0, 5)],
    ])("%s is a failed try that names the secret and never what it holds", async (_, name, value) => {
      await secret(name, value);
      await raise("brake", "critical", 1);
      await look();
      expect(await deliveries()).toMatchObject([
        {
          status: "waiting",
          tries: 1,
          error: expect.stringMatching(new RegExp(`^the Vault secret isthmus_${name} is no `)) as unknown,
        },
      ]);
      expect([...(await hosted.admin`select from net.http_request_queue`)]).toEqual([]);
      await keepsSecrets();
    });

    it.each([
      [
        "a queue that refuses the row",
        "alter table net.http_request_queue add constraint no check (timeout_milliseconds > 5000)",
        "alter table net.http_request_queue drop constraint no",
        "23514",
      ],
      ["pg_net that is gone", "alter schema net rename to net_of_test", "alter schema net_of_test rename to net", "3F000"],
      [
        "somebody's trigger on the queue",
        "create trigger t before insert on net.http_request_queue for each row execute function suppress_redundant_updates_trigger()",
        "drop trigger t on net.http_request_queue",
        "trigger",
      ],
    ])("%s is a failed try", async (_, broken, mended, says) => {
      await worker?.stop();
      worker = undefined;
      await hosted.admin.unsafe(broken);
      await raise("brake", "critical", 1);
      await look();
      await hosted.admin.unsafe(mended);
      expect(await deliveries()).toMatchObject([{ status: "waiting", error: expect.stringContaining(says) as unknown }]);
      await keepsSecrets();
    });
  });

  it("hostile names and messages break neither the JSON nor the chat", async () => {
    const hostile = `<!channel> "},{\\u0000 <https://x|y> & ${"é".repeat(3_000)}\n\u0001`;
    await hosted.admin`update public.sync_entities set entity_type = ${`x"<@U1>\\\n${"y".repeat(40)}`} where entity_type = 'entity_30'`;
    await asWorker(
      "select sync.raise_alert('brake', 'critical', $1, null, (select id from public.sync_entities where entity_type like 'x%'), $2, '{}')",
      [source, hostile],
    );
    await minutes(1);
    const [message] = receiver.take();
    expect(message?.signed).toBe(true);
    expect(message?.body["message"]).toBe(hostile.slice(0, 2_000));
    const text = String(message?.body["text"]);
    expect(text).not.toMatch(/[<>]/);
    expect(text).toContain("&lt;!channel&gt;");
    expect(text.length).toBeLessThan(3_500);
    expect(text.split("\n")).toHaveLength(5);
    expect(text.split("\n")[2]).toBe("Codes: BRAKE_APPLIED.");
    await hosted.admin`update public.sync_entities set entity_type = 'entity_30' where entity_type like 'x%'`;
  });

  describe("the second address", () => {
    beforeEach(() => secret("webhook_url_2", `${receiver.base}/second/${TOKEN}`));
    const pass = (count: number) =>
      hosted.admin`update public.sync_alerts set escalates_at = escalates_at - make_interval(mins => ${count})`;

    it("is told once of a critical alert that nobody has acknowledged for half an hour, and that it is over", async () => {
      await raise("brake", "critical", 1);
      await raise("surplus", "warning", 2);
      await minutes(1);
      await pass(29);
      await minutes(1);
      expect(told()).toEqual(["first opened brake", "first opened surplus"]);
      await pass(1);
      await minutes(2);
      const [message, ...more] = receiver.take();
      expect(more).toEqual([]);
      expect(message).toMatchObject({
        path: `/second/${TOKEN}`,
        signed: true,
        body: { event: "escalated", kind: "brake", acknowledgedBy: null },
      });
      expect(message?.body["text"]).toMatch(/^Nobody has acknowledged this: \[critical\] brake/);
      await close("brake");
      await close("surplus");
      await minutes(1);
      expect(told().sort()).toEqual(["first cleared brake", "first cleared surplus", "second cleared brake"]);
    });

    it("is not told of what somebody looks after, until it gets worse", async () => {
      await raise("tick_missing", "warning");
      await minutes(1);
      await hosted.owner`update public.sync_alerts set acknowledged_by = 'Ada'`;
      await raise("tick_missing", "critical");
      await minutes(1);
      await hosted.owner`update public.sync_alerts set acknowledged_by = 'Ada'`;
      await pass(60);
      await minutes(1);
      expect(told()).toEqual(["first opened tick_missing", "first escalated tick_missing"]);
      await hosted.owner`update public.sync_alerts set acknowledged_by = null`;
      await minutes(1);
      expect(told()).toEqual(["second escalated tick_missing"]);
    });

    it("after as many minutes as the settings say", async () => {
      await hosted.owner`insert into public.sync_alert_settings (escalate_after_minutes) values (90)`;
      await raise("brake", "critical", 1);
      const [row] = await hosted.admin<
        { n: number }[]
      >`select round(extract(epoch from escalates_at - first_seen_at) / 60)::int as n from public.sync_alerts`;
      expect(row?.n).toBe(90);
    });

    it("is told when nothing arrives at the first, and gets no other openings", async () => {
      await hosted.owner`insert into public.sync_alert_settings (tries) values (1)`;
      receiver.answer = ({ path }: Received) => (path.startsWith("/first") ? 500 : 200);
      await raise("brake", "critical", 1);
      await minutes(2);
      expect(told()).toEqual(["first opened brake", "second opened alert_undelivered"]);
    });
  });

  describe("an address that goes away", () => {
    const raiseOf = (kind: string, subject: string) =>
      asWorker("select sync.raise_alert($1, 'critical', $2, null, null, $3, '{}', $4)", [kind, source, `of ${subject}`, subject]);

    it("leaves what is due waiting, which is an alert, and gets all when it is back, that what is over is over too", async () => {
      await raise("brake", "critical", 1);
      await minutes(1);
      receiver.take();
      receiver.answer = 500;
      await raise("surplus", "warning", 2);
      await raise("horizon_held", "warning");
      await minutes(1);
      receiver.take();
      await secret("webhook_url", null);
      await dueNow();
      await minutes(2);
      expect((await deliveries()).map(({ status }) => status)).toEqual(["delivered", "waiting", "waiting"]);
      expect(await openKinds()).toEqual(["alert_undelivered", "brake", "horizon_held", "surplus"]);
      const [undelivered] = await hosted.admin<
        { message: string }[]
      >`select message from public.sync_alerts where kind = 'alert_undelivered'`;
      expect(undelivered?.message).toBe(
        "Messages about alerts wait for the first address: there is no Vault secret isthmus_webhook_url.",
      );
      // What is over meanwhile is told to who knows of it.
      await close("brake");
      await close("horizon_held");
      await minutes(1);
      receiver.answer = 200;
      await secret("webhook_url", `${receiver.base}/first/${TOKEN}`);
      await dueNow();
      await minutes(2);
      expect(told().sort()).toEqual(["first cleared brake", "first digest 1", "first opened surplus"]);
      expect(await openKinds()).toEqual(["surplus"]);
    });

    it("on purpose leaves no alert once nothing open waits for it", async () => {
      receiver.answer = 500;
      await hosted.owner`insert into public.sync_alert_settings (tries) values (1)`;
      await raise("brake", "critical", 1);
      await minutes(2);
      expect(await openKinds()).toEqual(["alert_undelivered", "brake"]);
      await secret("webhook_url", null);
      await close("brake");
      await minutes(1);
      expect(await openKinds()).toEqual([]);
    });

    it("sends what was given up after all, however old it is, with one try an hour, and that something is over as well", async () => {
      await hosted.owner`insert into public.sync_alert_settings (tries) values (1)`;
      await raise("horizon_held", "warning");
      await minutes(1);
      receiver.answer = 500;
      await raise("brake", "critical", 1);
      await close("horizon_held");
      await raise("surplus", "warning", 2);
      await minutes(2);
      receiver.take();
      await hosted.admin`update public.sync_alert_deliveries set ended_at = ended_at - interval '59 minutes', created_at = created_at - interval '29 days'`;
      await minutes(1);
      expect(told()).toEqual([]);
      await hosted.admin`update public.sync_alert_deliveries set ended_at = ended_at - interval '5 days'`;
      await minutes(2);
      expect(told()).toHaveLength(1);
      receiver.answer = 200;
      await hosted.admin`update public.sync_alert_deliveries set ended_at = ended_at - interval '1 hour'`;
      await minutes(3);
      expect(told().sort()).toEqual(["first cleared horizon_held", "first opened brake", "first opened surplus"]);
      expect(await openKinds()).toEqual(["brake", "surplus"]);
    });

    it("tells in one summary what opened and was over while nothing arrived, and not that it is over", async () => {
      await hosted.owner`insert into public.sync_alert_settings (tries) values (1)`;
      receiver.answer = 500;
      for (let n = 1; n <= 3; n++) await raise("brake", "critical", n);
      await minutes(2);
      await close("brake");
      await minutes(2);
      receiver.take();
      receiver.answer = 200;
      await hosted.owner`select sync.test_alert()`;
      await minutes(4);
      const messages = receiver.take();
      expect(messages.map(({ body }) => body["event"]).sort()).toEqual(["digest", "test"]);
      const summary = messages.find(({ body }) => body["event"] === "digest");
      expect(summary?.body).toMatchObject({ of: "missed", count: 3 });
      expect(summary?.body["text"]).toMatch(
        /^While messages did not arrive here, 3 alerts opened that are over:\n\[critical\] brake of entity_1 /,
      );
      expect(await openKinds()).toEqual([]);
    });

    it("and a digest that was given up says which of its alerts are over", async () => {
      await hosted.owner`insert into public.sync_alert_settings (tries, digest_above) values (1, 2)`;
      receiver.answer = 500;
      for (let n = 1; n <= 3; n++) await raise("brake", "critical", n);
      await minutes(1);
      await asWorker(`select sync.close_alerts(array(select id from public.sync_alerts where entity_id = ${entity(1)}))`);
      await minutes(1);
      receiver.take();
      receiver.answer = 200;
      await hosted.owner`select sync.test_alert()`;
      await minutes(3);
      const messages = receiver.take();
      expect(messages.map(({ body }) => body["event"])).toEqual(["test", "digest"]);
      const text = String(messages[1]?.body["text"]);
      expect(text).toContain("of entity_1 (legacy) (over)\n");
      expect(text).toContain("of entity_2 (legacy)\n");
    });

    it("has everything told to the second, and the one that fails is told to the other", async () => {
      await hosted.owner`insert into public.sync_alert_settings (tries) values (1)`;
      await secret("webhook_url", null);
      await secret("webhook_url_2", `${receiver.base}/second/${TOKEN}`);
      await raise("brake", "critical", 1);
      await minutes(1);
      await close("brake");
      await minutes(1);
      expect(told()).toEqual(["second opened brake", "second cleared brake"]);

      await secret("webhook_url", `${receiver.base}/first/${TOKEN}`);
      receiver.answer = ({ path }: Received) => (path.startsWith("/second") ? 500 : 200);
      await hosted.owner`select sync.test_alert()`;
      await minutes(3);
      expect(told().sort()).toEqual(["first opened alert_undelivered", "first test", "second test"]);
    });

    it("hands what waits for it to the second", async () => {
      await secret("webhook_url_2", `${receiver.base}/second/${TOKEN}`);
      receiver.answer = ({ path }: Received) => (path.startsWith("/first") ? 500 : 200);
      await raise("brake", "critical", 1);
      await minutes(1);
      receiver.take();
      await secret("webhook_url", null);
      await dueNow();
      await minutes(2);
      expect(told()).toEqual(["second opened brake"]);
      await close("brake");
      await minutes(1);
      expect(told()).toEqual(["second cleared brake"]);
      expect(await openKinds()).toEqual([]);
    });

    it("and two subjects of one kind are told each", async () => {
      await raiseOf("job_failed", "a");
      await raiseOf("job_failed", "b");
      await minutes(1);
      expect(told()).toEqual(["first opened job_failed", "first opened job_failed"]);
    });
  });

  describe("what comes and goes", () => {
    const older = (minutes: number) =>
      hosted.admin`
        update public.sync_alerts set closed_at = closed_at - make_interval(mins => ${minutes}), told_at = told_at - make_interval(mins => ${minutes})`;
    const rows = async () => [
      ...(await hosted.admin`select occurrences, acknowledged_by as by, severity from public.sync_alerts where kind = 'brake' order by first_seen_at`),
    ];
    const flap = async (times: number) => {
      for (let n = 0; n < times; n++) {
        await raise("brake", "critical", 1);
        await minutes(1);
        await close("brake");
        await minutes(1);
      }
    };

    it("within half an hour is one alert, which is told once, and as over when it stays away", async () => {
      await flap(4);
      expect(told()).toEqual(["first opened brake", "first cleared brake"]);
      expect(await rows()).toEqual([{ occurrences: 4, by: null, severity: "critical" }]);
      await older(20);
      await flap(1);
      expect(told()).toEqual([]);
      await older(20);
      await raise("brake", "critical", 1);
      await minutes(2);
      const [again, ...more] = receiver.take();
      expect(more).toEqual([]);
      expect(again?.body["text"]).toMatch(/^Again: \[critical\] brake of entity_1/);
      await close("brake");
      await minutes(1);
      await flap(2);
      expect(told()).toEqual([]);
      await older(31);
      await minutes(1);
      expect(told()).toEqual(["first cleared brake"]);
      await raise("brake", "critical", 1);
      await minutes(1);
      expect(told()).toEqual(["first opened brake"]);
      expect((await rows()).length).toBe(2);
    });

    it("keeps who looks after it, and nobody else is told", async () => {
      await raise("brake", "critical", 1);
      await minutes(1);
      await hosted.owner`update public.sync_alerts set acknowledged_by = 'Ada'`;
      await close("brake");
      await minutes(1);
      receiver.take();
      await older(29);
      await raise("brake", "critical", 1);
      await older(60);
      await minutes(1);
      expect(told()).toEqual([]);
      expect(await rows()).toEqual([{ occurrences: 2, by: "Ada", severity: "critical" }]);
    });

    it("and has come to stay is told again, also where somebody looks after it", async () => {
      await raise("brake", "critical", 1);
      await minutes(1);
      await hosted.owner`update public.sync_alerts set acknowledged_by = 'Ada'`;
      await close("brake");
      await minutes(1);
      receiver.take();
      await raise("brake", "critical", 1);
      await minutes(1);
      expect(told()).toEqual([]);
      await hosted.admin`update public.sync_alerts set told_at = told_at - interval '31 minutes', reopened_at = reopened_at - interval '31 minutes'`;
      await minutes(2);
      expect(receiver.take()).toMatchObject([
        { body: { event: "opened", acknowledgedBy: "Ada", text: expect.stringMatching(/^Again: /) as unknown } },
      ]);
    });

    it("and is worse than before is told at once", async () => {
      await raise("brake", "warning", 1);
      await minutes(1);
      await close("brake");
      await minutes(1);
      receiver.take();
      await raise("brake", "critical", 1);
      await minutes(1);
      expect(told()).toEqual(["first opened brake"]);
    });
  });

  describe("a person who holds the rows of alerts", () => {
    /** What happens while somebody has them in an open transaction. */
    const whileHeld = async (happens: () => Promise<void>) => {
      await hosted.owner.begin(async (tx) => {
        await tx`select from public.sync_alerts for update`;
        await happens();
      });
    };
    const asOwner = (statement: string) =>
      hosted.admin.begin(async (tx) => {
        await tx.unsafe("set local role postgres; set local statement_timeout = '10s'");
        await tx.unsafe(statement);
      });
    const rows = async () => [
      ...(await hosted.admin`select kind, severity, occurrences, message, closed_at is null as open from public.sync_alerts order by kind`),
    ];

    it("holds up neither who raises nor who closes nor the watch nor the messages; a look after that writes what became of them", async () => {
      await raise("brake", "warning", 1);
      await raise("surplus", "warning", 2);
      await raise("tick_missing", "warning");
      await asOwner("select sync.watch_tick()");
      const before = await rows();
      await whileHeld(async () => {
        await raise("brake", "critical", 1, "worse");
        await raise("brake", "critical", 1, "worse still");
        await close("surplus");
        await asOwner("select sync.watch_tick()");
        await asOwner("select sync.deliver_alerts()");
        await raise("page_stalled", "critical", 3);
        expect((await rows()).filter(({ kind }) => kind !== "page_stalled")).toEqual(before);
      });
      await look();
      expect((await rows()).filter(({ kind }) => kind === "brake" || kind === "surplus")).toEqual([
        { kind: "brake", severity: "critical", occurrences: 3, message: "worse still", open: true },
        { kind: "surplus", severity: "warning", occurrences: 1, message: "what is wrong with surplus", open: false },
      ]);
      expect([...(await hosted.admin`select from public.sync_alert_notes`)]).toEqual([]);
    });

    it("and what was raised after it was closed stays open", async () => {
      await raise("surplus", "warning", 2);
      await whileHeld(async () => {
        await close("surplus");
        await raise("surplus", "warning", 2, "again");
      });
      await asWorker("select sync.apply_alert_notes()");
      expect(await rows()).toEqual([{ kind: "surplus", severity: "warning", occurrences: 2, message: "again", open: true }]);
    });
  });

  describe("nobody who looks", () => {
    const since = (minutes: number) =>
      hosted.admin`update public.sync_alert_settings set looked_at = now() - make_interval(mins => ${minutes})`;
    const watched = () => hosted.owner`select sync.watch_tick()`;

    it("for five minutes, where there are addresses, is an alert of the watch and of the tick, until somebody looks", async () => {
      await watched();
      await since(4);
      await watched();
      expect(await openKinds()).not.toContain("alerts_not_delivered");
      await since(6);
      await watched();
      expect(await openKinds()).toContain("alerts_not_delivered");
      await look();
      expect(await openKinds()).not.toContain("alerts_not_delivered");
      await since(6);
      await asWorker("select sync.watch_delivery()");
      expect(await openKinds()).toContain("alerts_not_delivered");
      await look();
      await secret("webhook_url", null);
      await watched();
      await since(60);
      await watched();
      expect(await openKinds()).not.toContain("alerts_not_delivered");
    });

    it("answers that cannot be read are as good as none: the message is tried again, and everything else is told", async () => {
      await raise("brake", "critical", 1);
      await look();
      await answered();
      await hosted.admin`update public.sync_alert_deliveries set tried_at = tried_at - interval '3 minutes'`;
      await hosted.admin.unsafe("alter table net._http_response rename column status_code to code");
      try {
        await raise("surplus", "warning", 2);
        await look();
        expect(await deliveries()).toMatchObject([
          { status: "waiting", tries: 1, error: expect.stringMatching(/^no answer is known/) as unknown },
          { status: "sent" },
        ]);
      } finally {
        await hosted.admin.unsafe("alter table net._http_response rename column code to status_code");
      }
    });

    it("waits for a lock no longer than two seconds", async () => {
      await look();
      await raise("brake", "critical", 1);
      await hosted.admin.begin(async (tx) => {
        await tx.unsafe("lock table public.sync_alert_deliveries in access exclusive mode");
        expect(await outcomeOf(look())).toBe("55P03");
      });
    });
  });

  describe("an alert is acknowledged", () => {
    const acknowledge = (
      role: Role,
      statement = "update public.sync_alerts set acknowledged_by = 'somebody' where closed_at is null",
    ) =>
      outcomeOf(
        asRole(hosted.admin, role, (tx) => tx.unsafe(statement), {
          sub: "00000000-0000-0000-0000-000000000001",
          email: "ada@example.org",
        }),
      );
    const state = async () => [
      ...(await hosted.admin`select acknowledged_by as by, acknowledged_at is not null as stamped from public.sync_alerts`),
    ];

    it.each<[Role, boolean]>([
      ["operator", true],
      ["reviewer", true],
      ["authenticated", false],
      ["anon", false],
      ["service_role", false],
    ])("by %s: %s, and under the name of who is signed in", async (role, may) => {
      await raise("brake", "critical", 1);
      await acknowledge(role);
      expect(await state()).toEqual([may ? { by: "ada@example.org", stamped: true } : { by: null, stamped: false }]);
    });

    it.each([
      "message = 'x'",
      "severity = 'warning'",
      "closed_at = now()",
      "acknowledged_at = now()",
      "told_severity = null",
      "escalates_at = null",
      "remedy = ''",
    ])("and a reviewer may not set %s", async (set) => {
      await raise("brake", "critical", 1);
      expect(await acknowledge("reviewer", `update public.sync_alerts set ${set}`)).toBe("42501");
    });

    it("in Studio under the name that was written, never when it is closed, and never by the worker", async () => {
      await raise("brake", "critical", 1);
      await hosted.owner`update public.sync_alerts set acknowledged_by = 'Ada'`;
      expect(await state()).toEqual([{ by: "Ada", stamped: true }]);
      expect(await outcomeOf(asWorker("update public.sync_alerts set acknowledged_by = null"))).toBe("42501");
      expect(await outcomeOf(asWorker("update public.sync_alerts set told_severity = 'critical'"))).toBe("42501");
      await close("brake");
      expect(await outcomeOf(hosted.owner`update public.sync_alerts set acknowledged_by = 'Eve'`)).toBe("IS022");
    });
  });

  describe("a test", () => {
    it("arrives at both addresses, is asked for by the worker as well, and once at a time", async () => {
      await secret("webhook_url_2", `${receiver.base}/second/${TOKEN}`);
      await asWorker("select sync.test_alert()");
      await hosted.owner`select sync.test_alert()`;
      await minutes(1);
      expect(receiver.take()).toMatchObject([
        { path: `/first/${TOKEN}`, signed: true, body: { event: "test", text: "A test of Isthmus: alerts arrive here." } },
        { path: `/second/${TOKEN}`, signed: true, body: { event: "test" } },
      ]);
    });

    it("is dropped where there is no address, which its row says", async () => {
      await hosted.owner`select sync.test_alert()`;
      await minutes(1);
      expect((await deliveries())[1]).toMatchObject({
        slot: "second",
        status: "dropped",
        error: "there is no Vault secret isthmus_webhook_url_2",
      });
    });

    it("is all that the worker may have sent: no words of its own", async () => {
      expect(
        await outcomeOf(
          asWorker(`insert into public.sync_alert_deliveries (event, slot, body) values ('test', 'first', '{"text": "x"}')`),
        ),
      ).toBe("42501");
      expect(await outcomeOf(asWorker(`insert into public.sync_alert_deliveries (event, slot) values ('opened', 'first')`))).toBe(
        "23514",
      );
      expect(await outcomeOf(asWorker(`update public.sync_alert_deliveries set status = 'delivered'`))).toBe("42501");
    });
  });

  describe("the heartbeat", () => {
    beforeEach(() => secret("heartbeat_url", `${receiver.base}/beat/${TOKEN}?a=1`));
    const beats = async () => {
      await look();
      await expect
        .poll(async () => (await hosted.admin`select from net.http_request_queue`).length, { timeout: 10_000, interval: 20 })
        .toBe(0);
      await new Promise((later) => setTimeout(later, 50));
      return receiver.take().map(({ method, path }) => `${method} ${path}`);
    };
    const BEAT = `GET /beat/${TOKEN}?a=1`;
    const worked = (failed = "{}") =>
      asWorker("with t as (select sync.begin_tick(null) as id) select sync.note_failed_parts(id, $1::text[]) from t", [
        failed,
      ]).then(() => asWorker("select sync.end_tick(id) from public.sync_ticks where ended_at is null"));

    it("only after a tick that did its work, once for each look", async () => {
      expect(await beats()).toEqual([]);
      await asWorker("select sync.begin_tick(null)");
      expect(await beats()).toEqual([]);
      await hosted.admin`truncate public.sync_ticks`;
      await worked("{sweep}");
      expect(await beats()).toEqual([]);
      await worked();
      await worked();
      expect(await beats()).toEqual([BEAT]);
      expect(await beats()).toEqual([]);
      await keepsSecrets();
    });

    it("after each job that has succeeded", async () => {
      await asWorker("update public.sync_jobs set succeeded_at = now()");
      expect(await beats()).toEqual([BEAT]);
      expect(await beats()).toEqual([]);
    });

    it("stays away while a message about an alert arrives nowhere, and comes back when one does", async () => {
      await hosted.owner`insert into public.sync_alert_settings (tries) values (1)`;
      receiver.answer = ({ path }: Received) => (path.startsWith("/first") ? 500 : 200);
      await worked();
      expect(await beats()).toEqual([BEAT]);
      await raise("brake", "critical", 1);
      await minutes(1);
      receiver.take();
      for (let n = 0; n < 2; n++) {
        await worked();
        expect(await beats()).toEqual([]);
      }
      await secret("webhook_url_2", `${receiver.base}/second/${TOKEN}`);
      await minutes(1);
      expect(told().filter((one) => !one.startsWith("beat"))).toEqual(["second opened alert_undelivered"]);
      await worked();
      expect(await beats()).toEqual([BEAT]);
    });

    it("stays away after a quarter of an hour of tries, and where the address is gone", async () => {
      receiver.answer = ({ path }: Received) => (path.startsWith("/first") ? 500 : 200);
      await raise("brake", "critical", 1);
      await minutes(1);
      receiver.take();
      const aged = async (minutes: number) => {
        await hosted.admin`
          update public.sync_alert_deliveries set created_at = now() - make_interval(mins => ${minutes}), next_attempt_at = now() + interval '1 hour'`;
        await worked();
        return beats();
      };
      expect(await aged(14)).toEqual([BEAT]);
      expect(await aged(16)).toEqual([]);
      await secret("webhook_url", null);
      expect(await aged(16)).toEqual([]);
      await close("brake");
      await look();
      await worked();
      expect(await beats()).toEqual([BEAT]);
    });

    it("stays away while the only address is dead, also where nothing is open any more; once an hour a summary shows whether it works again", async () => {
      await hosted.owner`insert into public.sync_alert_settings (tries) values (1)`;
      receiver.answer = ({ path }: Received) => (path.startsWith("/first") ? 500 : 200);
      await raise("brake", "critical", 1);
      await minutes(1);
      await close("brake");
      await minutes(1);
      expect(await openKinds()).toEqual(["alert_undelivered"]);
      receiver.take();
      await worked();
      expect(await beats()).toEqual([]);
      receiver.answer = 200;
      await hosted.admin`update public.sync_alert_deliveries set ended_at = ended_at - interval '1 hour'`;
      await minutes(1);
      expect(told()).toEqual(["first digest 1"]);
      expect(await openKinds()).toEqual([]);
      await worked();
      expect(await beats()).toEqual([BEAT]);
    });

    it("and one that is no address is told by a warning until it is one", async () => {
      await secret("heartbeat_url", `http://beats.example.org/${TOKEN}`);
      await worked();
      await look();
      expect(await openKinds()).toEqual(["heartbeat_invalid"]);
      await keepsSecrets();
      await secret("heartbeat_url", `${receiver.base}/beat`);
      await look();
      expect(await openKinds()).toEqual([]);
    });
  });

  it("signs as HMAC-SHA-256 does, whatever the key's length", async () => {
    for (const length of [1, 63, 64, 65, 200]) {
      const [key, message] = ["ä€k".repeat(100).slice(0, length), `text ${length} \u00e9 "x"`];
      const [row] = await hosted.owner<{ mac: string }[]>`select sync.hmac_sha256(${key}, ${message}) as mac`;
      expect(row?.mac).toBe(createHmac("sha256", key).update(message).digest("hex"));
    }
  });

  it("forgets messages that ended a month ago", async () => {
    await hosted.admin`
      insert into public.sync_alert_deliveries (event, slot, body, status, created_at, ended_at)
      select 'opened', 'first', '{}', s, now() - interval '31 days', now() from unnest(array['delivered', 'failed', 'waiting']) s`;
    await hosted.admin`update public.sync_alert_deliveries set next_attempt_at = now() + interval '1 hour'`;
    await look();
    expect((await deliveries()).map(({ status }) => status)).toEqual(["waiting"]);
  });
});
