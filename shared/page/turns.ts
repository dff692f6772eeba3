/** So many pages of an isolate run at a time; who waits too long for a turn is told to come back. */
export interface Turns {
  /** Runs the work when a turn is free. @returns undefined when none was within the time. */
  take<Result>(work: () => Promise<Result>): Promise<Result | undefined>;
}

/** First come, first served. */
export function createTurns(atATime: number, waitMs: number): Turns {
  let running = 0;
  const waiting: ((turn: boolean) => void)[] = [];
  const handedOver = () =>
    new Promise<boolean>((given) => {
      const late = setTimeout(() => {
        waiting.splice(waiting.indexOf(answered), 1);
        given(false);
      }, waitMs);
      const answered = (turn: boolean) => {
        clearTimeout(late);
        given(turn);
      };
      waiting.push(answered);
    });
  return {
    async take(work) {
      if (running < atATime) running++;
      else if (!(await handedOver())) return undefined;
      try {
        return await work();
      } finally {
        // A turn goes from hand to hand: nobody who comes now is before those who wait.
        const first = waiting.shift();
        if (first) first(true);
        else running--;
      }
    },
  };
}
