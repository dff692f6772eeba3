import { describe, expect, it } from "vitest";
import { showFindings } from "../cli/show-check.ts";

const finding = { code: "source_key_not_indexed", severity: "warn", message: "m", remedy: "r" } as const;

describe("what a check has found is shown with what it is about", () => {
  it.each([
    [{ entity: "offices", table: "dispatch_office" }, "offices"],
    [{ entity: null, table: "dispatch_office" }, "table dispatch_office"],
    [{ entity: null, table: null }, "every entity"],
  ])("%j", (of, name) => {
    expect(showFindings([{ ...finding, ...of }])).toContain(`warn   ${name}  source_key_not_indexed`);
  });
});
