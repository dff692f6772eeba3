import { expect, it } from "vitest";
import { IsthmusError, type ErrorCode } from "../shared/errors.ts";
import { CATEGORIES, CODES } from "../shared/recovery.ts";
import { connect } from "../shared/db/connect.ts";
import { query } from "../shared/db/query.ts";
import { createTestSource, readerUrl } from "./support/databases.ts";

/** What a standby ends a statement or a connection with (ProcessRecoveryConflictInterrupt and its like in postgres.c). */
const CONFLICTS: readonly [what: string, state: string, code?: ErrorCode, reason?: object][] = [
  ["a row version, a tablespace, a buffer pin or a lock that replay had to take away", "40001"],
  ["a deadlock between replay and this statement", "40P01"],
  ["an operator who ends the session, or a server that shuts down", "57P01"],
  ["a database that was dropped on the primary", "57P04"],
  ["a standby that does not take connections yet", "57P03"],
  ["a server that crashed and recovers", "57P02"],
  // A limit, which a smaller page may keep.
  ["a statement that ran out of its time", "57014", "SOURCE_LIMIT", {}],
];

it.each(CONFLICTS)(
  "%s (%s) is tried again",
  async (_, state, code: ErrorCode = "SOURCE_UNAVAILABLE", reason: object = { reason: state }) => {
    await using source = await createTestSource();
    const sql = connect({
      side: "source",
      url: readerUrl(source),
      tls: "disable",
      poolSize: 1,
      idleTimeoutSeconds: 5,
      connectTimeoutSeconds: 5,
      applicationName: "test",
    });
    const raise = `do $$ begin raise exception 'canceling statement due to conflict with recovery' using errcode = '${state}'; end $$`;
    const error = await query(sql, "source", raise).catch((caught: unknown) => caught as IsthmusError);
    await sql.end();
    expect(error).toBeInstanceOf(IsthmusError);
    expect((error as IsthmusError).code).toBe(code);
    expect((error as IsthmusError).detail).toEqual({ sqlstate: state, ...reason });
    expect(CATEGORIES[CODES[code]].retried).toBe(true);
  },
);
