import { describe, expect, it } from "vitest";
import { databaseAddress, isHosted, projectOfDatabase, projectOfHost } from "../shared/db/address.ts";
import { addressesOf, openClient, withoutParameters } from "../shared/db/connect.ts";

const ADDRESS = "postgres://isthmus_worker.ref:p%40ss@db.example.com:6543/postgres";

describe("the address of a database", () => {
  it.each([
    "pgbouncer=true",
    "connection_limit=1&pool_timeout=0",
    "sslmode=require&sslrootcert=/etc/ca.pem",
    "sslrootcert=system",
    "TimeZone=Europe/Berlin&DateStyle=SQL&IntervalStyle=sql_standard",
    "max=50&prepare=true&fetch_types=true&target_session_attrs=standby",
    "application_name=other",
  ])("may carry parameters of other tools, which neither reach the server nor change ours: %s", (parameters) => {
    const options = {
      side: "target",
      url: `${ADDRESS}?${parameters}`,
      tls: "disable",
      poolSize: 2,
      idleTimeoutSeconds: 30,
      connectTimeoutSeconds: 30,
      applicationName: "isthmus",
    } as const;
    const { sql } = openClient(options, () => undefined);
    expect(sql.options.connection).toEqual({ application_name: "isthmus" });
    expect(sql.options).toMatchObject({ max: 1, ssl: false, user: "isthmus_worker.ref", pass: "p@ss", database: "postgres" });
  });

  it("keeps options, from which a pooler may take the project", () => {
    expect(withoutParameters(`${ADDRESS}?pgbouncer=true&options=reference%3Dabc`)).toBe(`${ADDRESS}?options=reference%3Dabc`);
  });

  it("is left alone without parameters", () => {
    expect(withoutParameters(ADDRESS)).toBe(ADDRESS);
  });

  it.each([
    ["postgres://a:b@DB.example.com/x", 5432],
    ["postgres://a:b@db.example.com:80/x", 80],
    ["postgresql://a:b@db.example.com:443/x", 443],
    ["postgres://a:b@[::1]:6543/x", 6543],
  ])("%s leads to port %i", (url, port) => {
    expect(databaseAddress(url).port).toBe(port);
    const other = { SOURCE_DB_URL: url, TARGET_DB_URL: ADDRESS };
    expect(addressesOf(other).source_address).toMatch(new RegExp(`^(db\\.example\\.com|\\[::1\\]):${port}/x$`));
    let asked: unknown;
    const { sql } = openClient(
      {
        ...{ side: "source", url, tls: "disable", poolSize: 1, idleTimeoutSeconds: 1, connectTimeoutSeconds: 1 },
        applicationName: "test",
        socket: (target) => {
          asked = target.port;
          throw new Error("as far as this");
        },
      },
      () => undefined,
    );
    return expect(sql`select 1`.execute().catch(() => asked)).resolves.toBe(port);
  });
});

describe("a host of Supabase's", () => {
  const REF = "abcdefghijklmnopqrst";
  it.each([
    { hostname: `db.${REF}.supabase.co`, username: "postgres" },
    { hostname: `db.${REF}.supabase.in`, username: "postgres" },
    { hostname: "aws-0-eu-central-1.pooler.supabase.com", username: `isthmus_worker.${REF}` },
  ])("is known by one list, for its authority and for its project: $hostname", (address) => {
    expect(isHosted(address.hostname)).toBe(true);
    expect(projectOfDatabase(address)).toBe(REF);
  });

  it.each(["db.example.com", `db.${REF}.supabase.co.example.com`, `db.${REF}.supabase.red`, "localhost"])(
    "is not %s",
    (hostname) => {
      expect(isHosted(hostname)).toBe(false);
      expect(projectOfDatabase({ hostname, username: `postgres.${REF}` })).toBeUndefined();
    },
  );

  it("has a project's functions at its own name", () => {
    expect(projectOfHost(`${REF}.supabase.co`)).toBe(REF);
    expect(projectOfHost(`db.${REF}.supabase.co`)).toBeUndefined();
  });
});
