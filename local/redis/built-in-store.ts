import type { Clock } from "../../shared/clock.ts";
import { SET_MANY_SCRIPT } from "../../shared/cache/cache-script.ts";
import { RedisReplyError, type Backing, type Command, type Reply } from "./reply.ts";

interface Entry {
  readonly value: string;
  readonly expiresAt: number | undefined;
}

type Handler = (args: readonly string[]) => Reply;

const OK: Reply = { status: "OK" };
const NOT_AN_INTEGER = new RedisReplyError("ERR value is not an integer or out of range");

/**
 * The commands that Isthmus uses, in memory, for machines without a `redis-server`. Of scripts it knows one: the
 * pipeline's own, by its text.
 */
export class BuiltInStore implements Backing {
  readonly #entries = new Map<string, Entry>();
  readonly #handlers: Readonly<Record<string, { minimum: number; maximum?: number; run: Handler }>> = {
    PING: { minimum: 0, maximum: 1, run: ([text]) => (text === undefined ? { status: "PONG" } : Buffer.from(text)) },
    GET: { minimum: 1, maximum: 1, run: ([key = ""]) => this.#read(key) },
    SET: { minimum: 2, run: (args) => this.#set(args) },
    MGET: { minimum: 1, run: (keys) => keys.map((key) => this.#read(key)) },
    MSET: { minimum: 2, run: (args) => this.#setPairs(args) },
    DEL: {
      minimum: 1,
      run: (keys) => keys.filter((key) => this.#alive(key) && this.#entries.delete(key)).length,
    },
    EXISTS: { minimum: 1, run: (keys) => keys.filter((key) => this.#alive(key)).length },
    EXPIRE: { minimum: 2, run: ([key = "", seconds = "", ...options]) => this.#expire(key, seconds, options) },
    TTL: { minimum: 1, maximum: 1, run: ([key = ""]) => this.#timeToLive(key) },
    DBSIZE: { minimum: 0, maximum: 0, run: () => this.#keys().length },
    FLUSHDB: { minimum: 0, maximum: 0, run: () => this.#flush() },
    SCAN: { minimum: 1, run: (args) => this.#scan(args) },
    EVAL: { minimum: 2, run: (args) => this.#evaluate(args) },
  };

  constructor(readonly clock: Clock) {}

  run(command: Command): Promise<Reply> {
    return Promise.resolve(this.#refusal(command) ?? this.#execute(command));
  }

  transaction(commands: readonly Command[]): Promise<readonly Reply[] | RedisReplyError> {
    const refusal = commands.map((command) => this.#refusal(command)).find((reason) => reason !== undefined);
    return Promise.resolve(refusal ?? commands.map((command) => this.#execute(command)));
  }

  end(): Promise<void> {
    this.#entries.clear();
    return Promise.resolve();
  }

  #refusal([name = "", ...args]: Command): RedisReplyError | undefined {
    const handler = this.#handler(name);
    if (handler === undefined) return new RedisReplyError(`ERR unknown command '${name}' in the built-in store`);
    if (args.length >= handler.minimum && args.length <= (handler.maximum ?? Infinity)) return undefined;
    return new RedisReplyError(`ERR wrong number of arguments for '${name.toLowerCase()}' command`);
  }

  #execute([name = "", ...args]: Command): Reply {
    return this.#handler(name)?.run(args) ?? null;
  }

  #handler(name: string) {
    const upper = name.toUpperCase();
    return Object.hasOwn(this.#handlers, upper) ? this.#handlers[upper] : undefined;
  }

  #alive(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry?.expiresAt === undefined || entry.expiresAt > this.clock()) return entry;
    this.#entries.delete(key);
    return undefined;
  }

  #keys(): string[] {
    return [...this.#entries.keys()].filter((key) => this.#alive(key));
  }

  #read(key: string): Reply {
    const entry = this.#alive(key);
    return entry === undefined ? null : Buffer.from(entry.value);
  }

  #set([key = "", value = "", ...options]: readonly string[]): Reply {
    let expiresAt: number | undefined;
    let condition: "NX" | "XX" | undefined;
    for (let index = 0; index < options.length; index++) {
      const option = options[index]?.toUpperCase();
      if (option === "NX" || option === "XX") condition = option;
      else if (option === "EX" || option === "PX") {
        const amount = integer(options[++index]);
        if (amount === undefined) return NOT_AN_INTEGER;
        if (amount <= 0) return new RedisReplyError("ERR invalid expire time in 'set' command");
        expiresAt = this.clock() + amount * (option === "EX" ? 1_000 : 1);
      } else return notSpoken("SET", option ?? "");
    }
    const exists = this.#alive(key) !== undefined;
    if ((condition === "NX" && exists) || (condition === "XX" && !exists)) return null;
    this.#entries.set(key, { value, expiresAt });
    return OK;
  }

  #setPairs(args: readonly string[]): Reply {
    if (args.length % 2 !== 0) return new RedisReplyError("ERR wrong number of arguments for 'mset' command");
    for (let index = 0; index < args.length; index += 2) {
      this.#entries.set(args[index] ?? "", { value: args[index + 1] ?? "", expiresAt: undefined });
    }
    return OK;
  }

  #expire(key: string, text: string, options: readonly string[]): Reply {
    const [option] = options;
    if (option !== undefined) return notSpoken("EXPIRE", option);
    const seconds = integer(text);
    if (seconds === undefined) return NOT_AN_INTEGER;
    const entry = this.#alive(key);
    if (entry === undefined) return 0;
    this.#entries.set(key, { ...entry, expiresAt: this.clock() + seconds * 1_000 });
    return 1;
  }

  #timeToLive(key: string): Reply {
    const entry = this.#alive(key);
    if (entry === undefined) return -2;
    return entry.expiresAt === undefined ? -1 : Math.round((entry.expiresAt - this.clock()) / 1_000);
  }

  #flush(): Reply {
    this.#entries.clear();
    return OK;
  }

  /** One pass gives everything: the cursor that comes back is always 0. */
  #scan([cursor, ...options]: readonly string[]): Reply {
    if (integer(cursor) === undefined) return new RedisReplyError("ERR invalid cursor");
    let pattern = "*";
    for (let index = 0; index < options.length; index += 2) {
      const option = options[index]?.toUpperCase();
      if (option === "MATCH") pattern = options[index + 1] ?? "*";
      else if (option !== "COUNT") return notSpoken("SCAN", option ?? "");
    }
    const wanted = globToRegExp(pattern);
    return [
      Buffer.from("0"),
      this.#keys()
        .filter((key) => wanted.test(key))
        .map((key) => Buffer.from(key)),
    ];
  }

  #evaluate([script, count, ...rest]: readonly string[]): Reply {
    if (script !== SET_MANY_SCRIPT) return new RedisReplyError("ERR the built-in store knows one script only");
    const keyCount = integer(count);
    if (keyCount === undefined || keyCount < 0 || keyCount > rest.length) return NOT_AN_INTEGER;
    const values = rest.slice(keyCount);
    const seconds = values[keyCount] ?? "";
    for (let index = 0; index < keyCount; index++) {
      const stored = this.#set([rest[index] ?? "", values[index] ?? "", "EX", seconds]);
      if (stored instanceof RedisReplyError) return stored;
    }
    return keyCount;
  }
}

/** An option that is ignored would change what a command means. */
function notSpoken(command: string, option: string): RedisReplyError {
  return new RedisReplyError(`ERR ${command} ${option} is not spoken by the built-in store`);
}

function integer(text: string | undefined): number | undefined {
  return text !== undefined && /^-?\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function globToRegExp(glob: string): RegExp {
  const source = glob
    .replace(/[.+^${}()|\\]/g, "\\$&")
    .replaceAll("*", "[^]*")
    .replaceAll("?", "[^]");
  return new RegExp(`^${source}$`, "u");
}
