import { describe, expect, it } from "vitest";
import { openClient, withoutParameters } from "../shared/db/connect.ts";

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
    const sql = openClient(options, () => undefined);
    expect(sql.options.connection).toEqual({ application_name: "isthmus" });
    expect(sql.options).toMatchObject({ max: 1, ssl: false, user: "isthmus_worker.ref", pass: "p@ss", database: "postgres" });
  });

  it("keeps options, from which a pooler may take the project", () => {
    expect(withoutParameters(`${ADDRESS}?pgbouncer=true&options=reference%3Dabc`)).toBe(`${ADDRESS}?options=reference%3Dabc`);
  });

  it("is left alone without parameters", () => {
    expect(withoutParameters(ADDRESS)).toBe(ADDRESS);
  });
});
