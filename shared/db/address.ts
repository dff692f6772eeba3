/** Where an address of a database leads, and as whom. User and password are as the URL has them. */
export interface DatabaseAddress {
  readonly hostname: string;
  readonly port: number;
  readonly pathname: string;
  readonly username: string;
  readonly password: string;
}

/** Reads `postgres://…` with the web's rules for hosts, which lower their case. @throws TypeError for what is no address. */
export function databaseAddress(url: string): DatabaseAddress {
  const as = (scheme: string) => new URL(url.replace(/^postgres(ql)?:/, scheme));
  const { hostname, port, pathname, username, password } = as("http:");
  // A URL does not tell the port that its scheme has anyway: 80 is told by the one scheme, 443 by the other.
  return { hostname, port: Number(port || as("https:").port || 5432), pathname, username, password };
}

/** Domains of hosted projects (`db.<ref>.`, `<ref>.`), today's and the former one, and the domain of their poolers. */
const PROJECTS = String.raw`supabase\.(?:co|in)`;
const POOLERS = ".pooler.supabase.com";

/** Whether a host of Supabase's answers there, under an authority of its own. */
export function isHosted(hostname: string): boolean {
  return isPooler(hostname) || new RegExp(`\\.${PROJECTS}$`).test(hostname);
}

/** The reference of the project whose functions and data API have this host name. */
export function projectOfHost(hostname: string): string | undefined {
  return new RegExp(`^([a-z0-9]+)\\.${PROJECTS}$`).exec(hostname)?.[1];
}

/** The reference of the project whose database an address leads to: directly, or through the pooler, which takes it from the user's name. */
export function projectOfDatabase({ hostname, username }: Pick<DatabaseAddress, "hostname" | "username">): string | undefined {
  if (isPooler(hostname)) return username.split(".").at(-1);
  return new RegExp(`^db\\.([a-z0-9]+)\\.${PROJECTS}$`).exec(hostname)?.[1];
}

/** Whether the platform's pooler, which serves many projects under one name, answers there. */
export function isPooler(hostname: string): boolean {
  return hostname.endsWith(POOLERS);
}
