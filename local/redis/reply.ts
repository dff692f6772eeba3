/** An error reply of Redis, with its prefix (`ERR`, `OOM`, `WRONGTYPE` ...). */
export class RedisReplyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "RedisReplyError";
  }
}

/** A reply as Redis gives it: `{ status }` is a simple string such as OK, a Buffer a stored string. */
export type Reply = { readonly status: string } | Buffer | number | null | RedisReplyError | readonly Reply[];

/** A command with its arguments, all as strings, as RESP carries them. */
export type Command = readonly string[];

/** What stands behind the REST endpoint. */
export interface Backing {
  run(command: Command): Promise<Reply>;
  /** Runs all without anything in between, or none: then a single error. */
  transaction(commands: readonly Command[]): Promise<readonly Reply[] | RedisReplyError>;
  /** Ends it; nothing stored survives. */
  end(): Promise<void>;
}
