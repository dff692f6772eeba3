import { describe, expect, it } from "vitest";
import { namedAt } from "../shared/db/named-at.ts";

const TEXT = `select 'x' || o."Old ""Name""".b, größe, count(*) from public.offices o where a = 12 and "Ä" is null`;
const at = (part: string) => String(Array.from(TEXT.slice(0, TEXT.indexOf(part))).length + 1);

describe("what PostgreSQL refuses is named by its position in our statement", () => {
  it.each([
    ["42703", at('o."Old'), 'o."Old ""Name""".b'],
    ["42703", at("größe"), "größe"],
    ["42703", at('"Ä"'), '"Ä"'],
    ["42P01", at("public"), "public.offices"],
    ["42883", at("count"), "count"],
    // No name stands there, or the server says nothing of the kind.
    ["42883", at("= 12"), undefined],
    ["42601", at("12"), undefined],
    ["42601", at("'x'"), undefined],
    ["42703", undefined, undefined],
    ["42703", "0", undefined],
    ["42703", "1000", undefined],
    ["42703", "one", undefined],
    // Of data an error's position says nothing about a name.
    ["22P02", at("größe"), undefined],
  ])("%s at %s: %s", (state, position, name) => {
    expect(namedAt(state, TEXT, position)).toBe(name);
  });

  it("also behind characters that JavaScript counts twice", () => {
    expect(namedAt("42703", "select '🦷', teeth", "13")).toBe("teeth");
  });
});
