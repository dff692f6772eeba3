import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { expect, it } from "vitest";
import { offices } from "../clinic/entities/offices.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { createPipeline } from "./support/pipeline.ts";

/** `npm run verify`, as a person runs it. */
function verify(args: readonly string[], env: Record<string, string> = {}): Promise<{ code: number | null; said: string }> {
  const child = spawn("npm", ["run", "--silent", "verify", "--", ...args], {
    cwd: resolve(import.meta.dirname, ".."),
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part: Buffer) => (said += part.toString()));
  return new Promise((done, fail) => child.on("error", fail).on("close", (code) => done({ code, said })));
}

it("npm run verify says what is equal and what is wrong, and by its exit code", { timeout: 120_000 }, async () => {
  await using test = await createPipeline({ entities: [offices] });
  await test.target.admin.unsafe(workerGrants([offices]));
  for (const id of [1, 2, 3]) await test.seed.office(id, { name: `office ${id}` });
  await test.sync();
  const addresses = { SOURCE_DB_URL: test.source.superuserUrl, TARGET_DB_URL: test.target.superuserUrl };
  const options = ["--source", test.source.superuserUrl, "--target", test.target.superuserUrl];

  const equal = await verify([...options, "offices"]);
  expect(equal.said).toMatch(/^offices +3 compared +0 held +equal\n$/);
  expect(equal.code).toBe(0);

  await test.target.admin.begin(async (tx) => {
    await tx`set local session_replication_role = replica`;
    await tx`delete from public.offices where legacy_office_id = 2`;
  });
  const wrong = await verify(["offices"], addresses);
  expect(wrong.said).toMatch(/^offices +\d compared +\d held +WRONG: \d\n +\S/);
  expect(wrong.said).not.toContain("office 2");
  expect(wrong.code).toBe(1);

  const unknown = await verify([...options, "officers"]);
  expect(unknown.said).toContain("The installation has no entity officers.");
  expect(unknown.code).toBe(1);
});

it("npm run verify asks for both addresses", async () => {
  const { code, said } = await verify([], { SOURCE_DB_URL: "", TARGET_DB_URL: "" });
  expect(said).toContain("Give --source and --target, or SOURCE_DB_URL and TARGET_DB_URL.");
  expect(code).toBe(1);
});
