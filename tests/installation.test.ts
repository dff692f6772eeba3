import { expect, it } from "vitest";
import { flowControlKey, installationId, scheduleId } from "../shared/queue/installation.ts";

it("names an installation by its Supabase project", () => {
  expect(installationId("https://abcdefghijklmnopqrst.supabase.co/functions/v1")).toBe("abcdefghijklmnopqrst");
  expect(scheduleId("https://abcdefghijklmnopqrst.supabase.co/functions/v1")).toBe("isthmus-sync-tick-abcdefghijklmnopqrst");
  expect(flowControlKey("https://abcdefghijklmnopqrst.supabase.co/functions/v1")).toBe("isthmus-pages-abcdefghijklmnopqrst");
});

it("gives every other address a name of its own that QStash takes", () => {
  const addresses = [
    "https://sync.example.com/functions/v1",
    "http://sync.example.com/functions/v1",
    "https://sync.example.com/functions-v1",
    "https://sync-example.com/functions/v1",
    "https://abcdefghijklmnopqrst.supabase.co/other",
    "http://127.0.0.1:54321",
    "http://127.0.0.1:54322",
    `https://${"long.".repeat(30)}example.com/a`,
    `https://${"long.".repeat(30)}example.com/b`,
  ];
  const names = addresses.map(installationId);
  expect(new Set(names).size).toBe(addresses.length);
  for (const name of names) expect(name).toMatch(/^[\w-]{1,50}$/);
});
