import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../local/ports.ts";
import { startNetWorker, type NetWorker } from "../local/net/worker.ts";
import { outcomeOf } from "./support/data-api.ts";
import { startHosted, type Hosted } from "./support/hosted.ts";

/** What was read in supabase/pg_net 0.20 (sql/pg_net.sql, src/core.c, src/worker.c, src/errors.c, test/) and supabase/vault 0.3, and found on a server that has them. */
describe("pg_net's stand-in", () => {
  let hosted: Hosted;
  let worker: NetWorker;
  let web: Server;
  let base: string;
  const seen: { url: string; at: number; headers: IncomingMessage["headers"]; method: string; body: string }[] = [];

  const serve = (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? "/", "http://web");
    let body = "";
    request.on("data", (part: Buffer) => (body += part.toString()));
    request.on("end", () => {
      seen.push({ url: url.pathname, at: performance.now(), headers: request.headers, method: request.method ?? "", body });
      if (url.pathname === "/disconnect") return void request.socket.destroy();
      if (url.pathname === "/moved") return void response.writeHead(302, { location: "/there" }).end();
      const delay = Number(url.searchParams.get("delay") ?? 0);
      setTimeout(
        () => response.writeHead(Number(url.searchParams.get("status") ?? 200), { "content-type": "text/plain" }).end("hello"),
        delay,
      );
    });
  };
  beforeAll(async () => {
    hosted = await startHosted("net-stand-in");
    web = createServer(serve).listen(0, "127.0.0.1");
    await new Promise((ready) => web.once("listening", ready));
    base = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
    worker = await startNetWorker({ url: hosted.url, batchSize: 3, pauseMs: 50 });
  });
  afterAll(async () => {
    web?.closeAllConnections();
    web?.close();
    await worker?.stop();
    await hosted?.[Symbol.asyncDispose]();
  });

  const post = async (path: string, limit = 5_000, sql = hosted.owner) => {
    const url = path.startsWith("/") ? base + path : path;
    const [row] = await sql<
      { id: string }[]
    >`select net.http_post(${url}, '{"a": 1}', headers := '{"apikey": "k"}', timeout_milliseconds := ${limit}) as id`;
    return row?.id ?? "";
  };
  const answers = async (ids: readonly string[]) =>
    (
      await hosted.admin<
        {
          id: string;
          status_code: number | null;
          timed_out: boolean;
          error_msg: string | null;
          content: string | null;
          created: Date;
        }[]
      >`
        select id, status_code, timed_out, error_msg, content, created from net._http_response where id = any (${ids}::bigint[]) order by id`
    ).map((row) => ({ ...row }));
  const answered = async (ids: readonly string[]) => {
    await expect.poll(async () => (await answers(ids)).length, { timeout: 10_000, interval: 20 }).toBe(ids.length);
    return answers(ids);
  };

  it("sends what is committed, and nothing that is rolled back", async () => {
    const lost = await hosted.owner
      .begin(async (tx) => {
        const id = await post("/rolled-back", 5_000, tx as never);
        throw new Error(id);
      })
      .catch((error: unknown) => (error as Error).message);
    let early = -1;
    const id = await hosted.owner.begin(async (tx) => {
      const queued = await post("/committed", 5_000, tx as never);
      await new Promise((later) => setTimeout(later, 300));
      early = seen.filter(({ url }) => url === "/committed").length;
      return queued;
    });
    expect(early).toBe(0);
    expect(await answered([id])).toMatchObject([{ status_code: 200, timed_out: false, error_msg: null, content: "hello" }]);
    expect(seen.filter(({ url }) => url === "/rolled-back")).toEqual([]);
    expect(await answers([lost])).toEqual([]);
    expect(seen.at(-1)).toMatchObject({
      method: "POST",
      body: '{"a": 1}',
      headers: { apikey: "k", "content-type": "application/json", "user-agent": expect.stringMatching(/^pg_net\//) as unknown },
    });
  });

  it("leaves a row that is only inserted until somebody wakes it", async () => {
    // It looks again as long as it has found something.
    await new Promise((later) => setTimeout(later, 300));
    const [row] = await hosted.owner<{ id: string }[]>`
      insert into net.http_request_queue (method, url, timeout_milliseconds) values ('GET', ${`${base}/inserted`}, 1000) returning id`;
    await new Promise((later) => setTimeout(later, 300));
    expect(await answers([row?.id ?? ""])).toEqual([]);
    await hosted.owner`select net.wake()`;
    expect(await answered([row?.id ?? ""])).toMatchObject([{ status_code: 200 }]);
  });

  it("sends a batch at once, shows its answers when the slowest is there, and only then begins the next", async () => {
    const ids = await hosted.owner.begin(async (tx) => {
      const made: string[] = [];
      for (const path of ["/batch-a", "/batch-b?delay=700", "/batch-c", "/batch-d"])
        made.push(await post(path, 5_000, tx as never));
      return made;
    });
    await new Promise((later) => setTimeout(later, 350));
    expect(await answers(ids)).toEqual([]);
    const rows = await answered(ids);
    const at = (url: string) => seen.find((one) => one.url === url)?.at ?? 0;
    expect(Math.abs(at("/batch-a") - at("/batch-b"))).toBeLessThan(300);
    expect(at("/batch-d") - at("/batch-b")).toBeGreaterThan(650);
    // All of a batch are created when it began.
    expect(new Set(rows.slice(0, 3).map(({ created }) => created.getTime())).size).toBe(1);
  });

  const ENDS: readonly { title: string; path: () => Promise<string> | string; limit?: number; found: object }[] = [
    {
      title: "a refusal is an answer",
      path: () => "/no?status=401",
      found: { status_code: 401, timed_out: false, error_msg: null },
    },
    {
      title: "a limit of time",
      path: () => "/late?delay=3000",
      limit: 200,
      found: { status_code: null, timed_out: true, error_msg: /^Timeout of 200 ms reached\. Total time: [\d.]+ ms \(DNS time: / },
    },
    {
      title: "nobody there",
      path: async () => `http://127.0.0.1:${await freePort()}/`,
      found: { status_code: null, timed_out: false, error_msg: "Couldn't connect to server" },
    },
    {
      title: "no such host",
      path: () => "http://nobody.invalid/",
      found: { status_code: null, timed_out: false, error_msg: "Couldn't resolve host name" },
    },
    {
      title: "a connection that is cut off",
      path: () => "/disconnect",
      found: { status_code: null, timed_out: false, error_msg: "Server returned nothing (no headers, no data)" },
    },
    { title: "a redirection, which makes a POST a GET", path: () => "/moved", found: { status_code: 200 } },
  ];
  it.each(ENDS)("$title", async ({ path, limit, found }) => {
    const [row] = await answered([await post(await path(), limit)]);
    for (const [name, value] of Object.entries(found)) {
      const is = row?.[name as "error_msg"];
      if (value instanceof RegExp) expect(is).toMatch(value);
      else expect(is).toBe(value);
    }
    if ((await path()) === "/moved")
      expect(seen.at(-1)).toMatchObject({ url: "/there", method: "GET", headers: { apikey: "k" } });
  });

  it("says an argument that is null with the whole row, the key included", async () => {
    const error = await hosted.owner`select net.http_post(null, headers := '{"apikey": "sb_secret_x"}')`.catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({
      code: "23502",
      message: expect.stringMatching(/null value in column "url"/) as unknown,
      detail: expect.stringMatching(/sb_secret_x/) as unknown,
    });
  });

  it("lets everybody read, change and call", async () => {
    for (const statement of [
      "select headers from net.http_request_queue",
      "update net.http_request_queue set url = ''",
      "insert into net._http_response (id) values (-1)",
    ]) {
      const tried = hosted.admin.begin(async (tx) => {
        await tx.unsafe("set local role isthmus_worker");
        await tx.unsafe(statement);
        throw Object.assign(new Error(), { code: "undone" });
      });
      // The migration has closed what the owner may close; here the tables are the superuser's, as on a hosted
      // project.
      expect(await outcomeOf(tried), statement).toBe("undone");
    }
  });

  it("sends a batch again when its worker dies, and forgets answers after their time", async () => {
    const id = await post("/twice?delay=600");
    await expect.poll(() => seen.filter(({ url }) => url === "/twice").length, { timeout: 5_000 }).toBe(1);
    await worker.stop();
    expect(await answers([id])).toEqual([]);
    expect([...(await hosted.admin`select id from net.http_request_queue where id = ${id}`)]).toHaveLength(1);
    expect(await outcomeOf(hosted.owner`select net.check_worker_is_up()`)).toBe("P0001");
    worker = await startNetWorker({ url: hosted.url, batchSize: 3, pauseMs: 50, ttl: "2 seconds" });
    expect(await answered([id])).toMatchObject([{ status_code: 200 }]);
    expect(seen.filter(({ url }) => url === "/twice")).toHaveLength(2);
    expect(await outcomeOf(hosted.owner`select net.check_worker_is_up()`)).toBe("allowed");
    await new Promise((later) => setTimeout(later, 2_100));
    expect(await answers([id])).toHaveLength(1);
    await hosted.owner`select net.wake()`;
    await expect.poll(async () => (await answers([id])).length, { timeout: 5_000 }).toBe(0);
  });

  it("loses both tables in a crash, and counts from one again", async () => {
    await worker.stop();
    expect(Number(await post("/lost"))).toBeGreaterThan(5);
    await hosted.server.crash();
    await hosted.server.restart();
    expect([...(await hosted.admin`select from net.http_request_queue union all select from net._http_response`)]).toEqual([]);
    expect(await post("/found")).toBe("1");
    worker = await startNetWorker({ url: hosted.url, pauseMs: 50 });
    expect(await answered(["1"])).toMatchObject([{ status_code: 200 }]);
    expect(seen.filter(({ url }) => url === "/lost")).toEqual([]);
  });

  it("Vault keeps a secret under a name, for its owner and service_role", async () => {
    await hosted.owner`select vault.create_secret('value', 'a name')`;
    await hosted.owner`select vault.update_secret((select id from vault.secrets where name = 'a name'), 'other')`;
    expect([
      ...(await hosted.owner`select name, decrypted_secret, secret = 'other' as plain from vault.decrypted_secrets where name = 'a name'`),
    ]).toEqual([{ name: "a name", decrypted_secret: "other", plain: false }]);
    expect(await outcomeOf(hosted.owner`insert into vault.secrets (secret) values ('x')`)).toBe("42501");
    expect(await outcomeOf(hosted.owner`select vault.create_secret('again', 'a name')`)).toBe("23505");
    const as = (role: string) =>
      outcomeOf(
        hosted.admin.begin(async (tx) => {
          await tx.unsafe(`set local role ${role}`);
          await tx`select decrypted_secret from vault.decrypted_secrets`;
        }),
      );
    expect([await as("service_role"), await as("anon"), await as("isthmus_worker")]).toEqual(["allowed", "42501", "42501"]);
  });
});
