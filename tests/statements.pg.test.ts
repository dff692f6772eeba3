import { expect, it } from "vitest";
import { connect } from "../shared/db/connect.ts";
import { query, queryOne } from "../shared/db/query.ts";
import { createTestTarget } from "./support/databases.ts";

it("a statement that failed after it had sent rows leaves the rows of the next one whole", async () => {
  await using target = await createTestTarget();
  const sql = connect({
    side: "target",
    url: target.superuserUrl,
    tls: "disable",
    poolSize: 1,
    idleTimeoutSeconds: 5,
    connectTimeoutSeconds: 5,
    applicationName: "test",
  });
  const fail = () => expect(query(sql, "target", "select 1 / (4 - i) from generate_series(1, 9) i")).rejects.toThrow();
  await fail();
  expect([...(await query(sql, "target", "select i from generate_series(1, 2) i"))]).toEqual([{ i: 1 }, { i: 2 }]);
  await fail();
  expect(await queryOne(sql, "target", "select 7 as i")).toEqual({ i: 7 });
  await fail();
  expect(await query(sql, "target", "select where false")).toHaveLength(0);
  await sql.end();
});
