import postgres from "postgres";

/** As psql does, in one session. */
export async function runScript(url: string, script: string): Promise<void> {
  const owner = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    await owner.unsafe(script.replace(":'reader_password'", "'local-reader'")).simple();
  } finally {
    await owner.end();
  }
}
