import { join } from "node:path";
import { Client } from "@upstash/qstash";
import { expect, it } from "vitest";
import { advise, SAID_OF_DISLIKED } from "./support/advisors.ts";
import { applicationState } from "./support/application-state.ts";
import { startRehearsal } from "./support/rehearsal.ts";

it(
  "setup makes its own roles on PostgreSQL 17, has QStash call the tick where there is no pg_cron, and takes all of it back",
  { timeout: 400_000 },
  async () => {
    await using project = await startRehearsal("setup-on-17", { server: 17 });
    const before = await applicationState(project.admin);
    const ours = () => project.admin`select rolname as name from pg_roles where rolname ~ '^isthmus_' order by 1`;
    expect([...(await ours())]).toEqual([]);

    const first = await project.sync("setup", "--yes");
    expect(first.err).toMatch(/ok +schedule +QStash will call sync-tick, once it begins/);
    expect([...(await ours())]).toEqual([{ name: "isthmus_decisions" }, { name: "isthmus_worker" }]);
    expect((await project.sync("acknowledge", "--all")).code).toBe(0);
    const again = await project.sync("setup", "--yes");
    expect(again.out, again.err).toMatch(/Left to you:\n {2}1\. Have it begin[^\n]*\n$/);
    expect(again.code).toBe(0);

    const live = await project.sync("setup", "--go-live", "--yes");
    expect(live.err).toMatch(/ok +schedule +QStash calls sync-tick every minute/);
    expect(live.code, live.err).toBe(0);
    const run = await project.sync("start", "offices", "--watch");
    expect(run.code, run.err).toBe(0);
    const check = await project.sync("check");
    expect(check.out).toMatch(/Asked by the deployed function/);
    expect(check.out).not.toMatch(/target_(object|right)_/);
    const { ours: listed, others } = await advise(project.ownerUrl);
    expect(others).toEqual(expect.arrayContaining(SAID_OF_DISLIKED));
    expect(listed).toEqual([]);
    const rows = await project.admin`select id from public.offices order by id`;
    expect(rows.length).toBeGreaterThan(0);

    const { code, err } = await project.sync("uninstall", "--backup", join(project.folder, "mappings.csv"), "--yes");
    expect(code, err).toBe(0);
    expect(await applicationState(project.admin)).toEqual(before);
    expect([...(await project.admin`select id from public.offices order by id`)]).toEqual([...rows]);
    expect(await new Client({ baseUrl: project.qstash.url, token: project.qstash.token }).schedules.list()).toEqual([]);
  },
);
