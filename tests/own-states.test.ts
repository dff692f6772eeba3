import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { CAUGHT_STATES, OWN_STATES } from "../shared/db/own-states.ts";

const schemas = resolve(import.meta.dirname, "../supabase/schemas");
const sql = readdirSync(schemas, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".sql"))
  .map((file) => readFileSync(resolve(schemas, file), "utf8"))
  .join("\n");

describe("SQLSTATEs of ours", () => {
  it("are those that the database functions name, each with its meaning", () => {
    const named = new Set(Array.from(sql.matchAll(/'(IS\d{3})'/g), ([, state]) => state ?? ""));
    expect([...named].sort()).toEqual([...Object.keys(OWN_STATES), ...Object.keys(CAUGHT_STATES)].sort());
  });
});
