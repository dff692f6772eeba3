/**
 * The circuit breaker of one database in one worker. While its connections cannot be opened, one asks for all: who
 * comes meanwhile waits for what that one meets, and is told the same. The first that is let in closes it. When to
 * come back is for the callers, who wait longer each time.
 */
export class Breaker {
  #refuses = false;
  #probe: Promise<unknown> | undefined;

  /** Opens a connection by `open`, when the database lets one in. @throws what `open` throws, or has thrown to the one that asked. */
  async through<Opened>(open: () => Promise<Opened>): Promise<Opened> {
    if (this.#probe !== undefined) await this.#probe;
    const opening = this.#noted(open);
    if (!this.#refuses) return opening;
    this.#probe = opening;
    try {
      return await opening;
    } finally {
      this.#probe = undefined;
    }
  }

  async #noted<Opened>(open: () => Promise<Opened>): Promise<Opened> {
    try {
      const opened = await open();
      this.#refuses = false;
      return opened;
    } catch (error) {
      this.#refuses = true;
      throw error;
    }
  }
}
