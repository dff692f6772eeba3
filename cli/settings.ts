import { readFileSync } from "node:fs";
import { parseEnv } from "node:util";
import { Problem } from "./problem.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** The environment with the variables of a .env file below it: what is exported in the shell wins, as with `node --env-file`. */
export function withEnvFile(env: Environment, path: string | undefined): Environment {
  if (path === undefined) return env;
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new Problem("CONFIG_INVALID", `${path} cannot be read.`, "Name an existing file with --env-file.", {
      exitCode: 2,
      cause: error,
    });
  }
  const exported = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ""));
  return { ...parseEnv(text), ...exported };
}

/** @throws Problem with exit code 2 naming the variable and where its value is found. */
export function required(env: Environment, name: string, whereFound: string): string {
  const value = env[name];
  if (value !== undefined && value !== "") return value;
  throw new Problem(
    "CONFIG_INVALID",
    `${name} is not set.`,
    `${whereFound} Export it, or put it into a file given with --env-file.`,
    {
      exitCode: 2,
    },
  );
}

/** Base address of the functions: FUNCTIONS_URL, or SUPABASE_URL + /functions/v1. */
export function functionsUrl(env: Environment): string {
  const base = env["FUNCTIONS_URL"] === undefined || env["FUNCTIONS_URL"] === "" ? undefined : env["FUNCTIONS_URL"];
  const url =
    base ?? `${required(env, "SUPABASE_URL", "It is https://<project ref>.supabase.co.").replace(/\/+$/, "")}/functions/v1`;
  if (!URL.canParse(url)) {
    throw new Problem("CONFIG_INVALID", "FUNCTIONS_URL or SUPABASE_URL is not an address.", "Write it with https:// in front.", {
      exitCode: 2,
    });
  }
  return url.replace(/\/+$/, "");
}

export function apiKey(env: Environment): string {
  return required(env, "ISTHMUS_API_KEY", "It is a secret key of the project (sb_secret_...: Settings, API Keys).");
}
