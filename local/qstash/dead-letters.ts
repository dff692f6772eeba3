import type { DeliveryResult, Message } from "./types.ts";

export interface DeadLetter {
  readonly dlqId: string;
  readonly message: Message;
  readonly result: DeliveryResult;
}

/** Messages that were given up, in the order in which that happened. */
export class DeadLetters {
  readonly #letters = new Map<string, DeadLetter>();
  #count = 0;

  add(message: Message, result: DeliveryResult, now: number): DeadLetter {
    const letter = { dlqId: `${now}-${this.#count++}`, message, result };
    this.#letters.set(letter.dlqId, letter);
    return letter;
  }

  all(): readonly DeadLetter[] {
    return [...this.#letters.values()];
  }

  get(dlqId: string): DeadLetter | undefined {
    return this.#letters.get(dlqId);
  }

  remove(dlqId: string): boolean {
    return this.#letters.delete(dlqId);
  }
}
