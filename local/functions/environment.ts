const SECRETS = 100;
const NAME_CHARACTERS = 256;
const SECRET_CHARACTERS = 24_576;
/** What the platform sets by itself. */
export interface ProjectEnvironment {
  readonly SUPABASE_URL?: string;
  readonly SUPABASE_DB_URL?: string;
  readonly SUPABASE_PUBLISHABLE_KEYS?: string;
  readonly SUPABASE_SECRET_KEYS?: string;
  readonly SUPABASE_JWKS?: string;
  readonly SUPABASE_ANON_KEY?: string;
  readonly SUPABASE_SERVICE_ROLE_KEY?: string;
}

/** @throws Error for secrets that the platform would not take. */
export function checkSecrets(secrets: Readonly<Record<string, string>>): void {
  const names = Object.keys(secrets);
  if (names.length > SECRETS) throw new Error(`${names.length} secrets: a project has at most ${SECRETS}.`);
  for (const name of names) {
    if (name.startsWith("SUPABASE_")) throw new Error(`The secret ${name}: names with SUPABASE_ are the platform's.`);
    if (name.length > NAME_CHARACTERS) throw new Error(`A secret's name has more than ${NAME_CHARACTERS} characters.`);
    if ((secrets[name] ?? "").length > SECRET_CHARACTERS)
      throw new Error(`The secret ${name} has more than ${SECRET_CHARACTERS} characters.`);
  }
}

/** What a function sees of the environment, besides the id of its isolate. */
export function environment(
  name: string,
  project: ProjectEnvironment,
  secrets: Readonly<Record<string, string>>,
): Record<string, string> {
  return { ...project, SB_REGION: "local", DENO_DEPLOYMENT_ID: `local_${name}_1`, ...secrets };
}
