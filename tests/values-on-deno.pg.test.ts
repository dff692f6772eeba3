import { expect, it } from "vitest";
import { createTestSource } from "./support/databases.ts";
import { readOnDeno } from "./support/deno-connections.ts";

/** What a runtime may take for something else than text when it decodes bytes, at either end and within. */
const VALUES = [
  "\ufeff",
  "\ufeffname",
  "name\ufeff",
  "\ufeff\ufeff",
  "na\ufeffme",
  "\ufffename",
  "\u{1f600}",
  " ",
  "",
  "\u00a0name",
  ".",
  "e\u0301",
];

it.each(["hosted", "current"] as const)(
  "the functions read every text as the source has it, also one that begins with a byte order mark: %s Deno",
  async (release) => {
    await using source = await createTestSource();
    await source.admin`create table public.old (id bigint primary key, value text not null)`;
    for (const [n, value] of VALUES.entries()) await source.admin`insert into public.old (id, value) values (${n + 1}, ${value})`;
    const ids = VALUES.map((_, n) => String(n + 1));
    const read = await readOnDeno(release, source.superuserUrl, { table: "old", column: "value", ids });
    expect(read).toEqual(VALUES.map((value) => Array.from({ length: value.length }, (_, n) => value.charCodeAt(n))));
  },
);
