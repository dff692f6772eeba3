import { randomBytes } from "node:crypto";
import { present, type Setup } from "./context.ts";
import { forgetMade, made, noteMade } from "./made.ts";
import { Problem } from "../problem.ts";
import type { ApiKey } from "./management-api.ts";
import type { Step } from "./step.ts";

/** A secret key of the project, made for the scheduler and this command line alone: it can be taken back without breaking anything else. */
export const secretKey: Step<Setup> = {
  title: "secret key",
  async look(setup) {
    const key = present(setup.env()["ISTHMUS_API_KEY"]);
    const keys = await setup.api.keys();
    const known = keys.find((one) => one.api_key === key);
    if (key !== undefined && known?.type === "secret") return { state: "done", text: `the key ${known.name} of the project` };
    if (key !== undefined) {
      throw new Problem(
        "CONFIG_INVALID",
        "ISTHMUS_API_KEY is no secret key of this project.",
        "Delete the line: setup then makes a key.",
        { exitCode: 2 },
      );
    }
    const usable = (await ourKeys(setup)).find(isShown);
    return usable
      ? { state: "due", text: `write the project's key ${usable.name} into the file as ISTHMUS_API_KEY` }
      : { state: "due", text: "make a secret key, and write it into the file as ISTHMUS_API_KEY" };
  },
  async act(setup) {
    // A run that was broken off may have made one, and not have kept its value.
    const usable = (await ourKeys(setup)).find(isShown);
    setup.keep({ ISTHMUS_API_KEY: usable?.api_key ?? (await makeKey(setup)).value });
  },
};

/** Secret keys that setup has made. The application may have keys with names like these. */
export async function ourKeys(setup: Setup): Promise<readonly ApiKey[]> {
  const names = made(setup, "keys");
  return (await setup.api.keys()).filter(({ name, type }) => type === "secret" && names.includes(name));
}

/** Makes a key under a name that nobody else has, noted before there is a key. */
export async function makeKey(setup: Setup): Promise<{ id: string; value: string }> {
  const name = `isthmus_${randomBytes(6).toString("hex")}`;
  noteMade(setup, "keys", [name]);
  return setup.api.createKey(name);
}

/** Deletes keys that setup has made, all or but for one. @returns how many there were. */
export async function deleteOurKeys(setup: Setup, butFor?: string): Promise<number> {
  const old = (await ourKeys(setup)).filter(({ id }) => id !== butFor);
  const deleted: string[] = [];
  for (const { id, name } of old) {
    if (typeof id !== "string") continue;
    await setup.api.deleteKey(id);
    deleted.push(name);
  }
  forgetMade(setup, "keys", deleted);
  return deleted.length;
}

/** A key whose value the platform shows. */
function isShown({ api_key: value }: ApiKey): boolean {
  return typeof value === "string" && value.startsWith("sb_secret_");
}
