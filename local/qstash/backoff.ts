const DAY_SECONDS = 86_400;

/** The vendor's default wait before the nth retry: min(1 day, e^(2.5 n) seconds), so 12 s, 2m28s, 30m8s, 6h7m6s. */
export function defaultBackoffMs(retry: number): number {
  return Math.min(DAY_SECONDS, Math.floor(Math.exp(2.5 * retry))) * 1_000;
}

/**
 * The wait in milliseconds that an `Upstash-Retry-Delay` expression gives, `retried` counting from 0. Numbers,
 * + - * / parentheses and the vendor's functions; throws on anything else, and then the publish is refused.
 */
export function evaluateRetryDelay(expression: string, retried: number): number {
  const parser = new ExpressionParser(tokenize(expression), retried);
  const value = parser.parse();
  if (!Number.isFinite(value)) throw new Error("the retry delay is not a finite number");
  return Math.min(DAY_SECONDS * 1_000, Math.max(0, Math.round(value)));
}

const FUNCTIONS: Readonly<Record<string, { arity: number; apply: (...values: number[]) => number }>> = {
  pow: { arity: 2, apply: Math.pow },
  sqrt: { arity: 1, apply: Math.sqrt },
  abs: { arity: 1, apply: Math.abs },
  exp: { arity: 1, apply: Math.exp },
  floor: { arity: 1, apply: Math.floor },
  ceil: { arity: 1, apply: Math.ceil },
  round: { arity: 1, apply: Math.round },
  min: { arity: 2, apply: Math.min },
  max: { arity: 2, apply: Math.max },
};

function tokenize(expression: string): readonly string[] {
  const tokens = expression.match(/\d+(?:\.\d+)?|[a-z]+|[-+*/(),]|\S/g) ?? [];
  if (tokens.length === 0) throw new Error("the retry delay is empty");
  return tokens;
}

class ExpressionParser {
  #at = 0;

  constructor(
    readonly tokens: readonly string[],
    readonly retried: number,
  ) {}

  parse(): number {
    const value = this.#sum();
    if (this.#at < this.tokens.length) throw new Error(`unexpected ${this.tokens[this.#at]} in the retry delay`);
    return value;
  }

  #sum(): number {
    let value = this.#product();
    for (;;) {
      if (this.#take("+")) value += this.#product();
      else if (this.#take("-")) value -= this.#product();
      else return value;
    }
  }

  #product(): number {
    let value = this.#factor();
    for (;;) {
      if (this.#take("*")) value *= this.#factor();
      else if (this.#take("/")) value /= this.#factor();
      else return value;
    }
  }

  #factor(): number {
    if (this.#take("-")) return -this.#factor();
    if (this.#take("(")) {
      const value = this.#sum();
      this.#expect(")");
      return value;
    }
    const token = this.tokens[this.#at++];
    if (token === undefined) throw new Error("the retry delay ends too early");
    if (/^\d/.test(token)) return Number(token);
    if (token === "retried") return this.retried;
    return this.#call(token);
  }

  #call(name: string): number {
    const known = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
    if (known === undefined) throw new Error(`unknown name ${name} in the retry delay`);
    this.#expect("(");
    const values = [this.#sum()];
    while (this.#take(",")) values.push(this.#sum());
    this.#expect(")");
    if (values.length !== known.arity) throw new Error(`${name} takes ${known.arity} values in the retry delay`);
    return known.apply(...values);
  }

  #take(token: string): boolean {
    if (this.tokens[this.#at] !== token) return false;
    this.#at++;
    return true;
  }

  #expect(token: string): void {
    if (!this.#take(token)) throw new Error(`${token} expected in the retry delay`);
  }
}
