import { describe, expect, it } from "vitest";
import { meaningOf, saidBy, type Refusal } from "../shared/db/sqlstates.ts";

const server = (code: string, severity = "ERROR") => ({ code, severity, severity_local: "ERREUR", routine: "exec_stmt_raise" });
const pooler = (code: string) => ({ code, severity_local: "FATAL" });

describe("what a SQLSTATE means", () => {
  it.each<[string, string, Refusal]>([
    ["42501", "the role may not read the table", "refused"],
    ["42703", "there is no such column", "refused"],
    ["22P02", "a value does not fit", "refused"],
    ["23505", "a unique value is there already", "refused"],
    ["P0001", "a trigger refuses", "refused"],
    ["XX001", "data is corrupted", "refused"],
    ["25001", "a statement cannot run in a transaction", "refused"],
    ["LX000", "of a class that nobody knows", "refused"],
    ["57014", "a time limit cancelled the statement", "passing"],
    ["40P01", "a deadlock", "passing"],
    ["55P03", "a lock is not to be had", "passing"],
    ["25006", "the server has become a replica", "passing"],
    ["53100", "the disk is full", "passing"],
    ["58030", "a disk cannot be read", "passing"],
    ["XX000", "the catalog changed meanwhile", "passing"],
    ["26000", "a prepared statement is of another server connection", "passing"],
    ["53300", "too many connections", "too_many_connections"],
    ["28000", "pg_hba.conf has no line", "credentials_refused"],
    ["28P01", "a wrong password", "credentials_refused"],
    ["3D000", "no such database", "no_such_database"],
  ])("%s of a server: %s", (code, _, meaning) => expect(meaningOf(server(code))).toBe(meaning));

  it.each([["57P01"], ["57P03"], ["25P03"], ["42501"], ["42704"], ["0A000"]])(
    "%s that ends the connection says nothing about the statement",
    (code) => expect(meaningOf(server(code, "FATAL"))).toBe("passing"),
  );

  it.each<[string, string, Refusal]>([
    ["XX000", "Supavisor: max clients, a check-out that timed out, a tenant it does not know", "pooler_refused"],
    ["28P01", "Supavisor: a password that was changed", "credentials_refused"],
    ["08006", "Supavisor: a login that took too long", "pooler_refused"],
    ["08P01", "PgBouncer: query_wait_timeout, no more connections, no such database", "pooler_refused"],
    ["53300", "PgBouncer 1.24: no more connections", "too_many_connections"],
    ["57P01", "Supavisor: it is shut down", "passing"],
    ["26000", "Supavisor: it does not know a prepared statement", "passing"],
  ])("%s of a pooler: %s", (code, _, meaning) => {
    for (const said of [pooler(code), { ...pooler(code), severity: "FATAL" }]) {
      expect(saidBy(said)).toBe("pooler");
      expect(meaningOf(said)).toBe(meaning);
    }
  });

  it("08003 of a server, which names its function, passes", () => expect(meaningOf(server("08003"))).toBe("passing"));
});
