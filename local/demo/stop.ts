/** Signals that end a demo, and the exit code of each. SIGHUP: its terminal is closed. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
const LOOK_MS = 200;

/**
 * Calls `stop` once when the demo is to end: by a signal, or because the npm that started it is gone, which may die
 * without passing a signal on.
 */
export function whenToldToStop(stop: (exitCode: number) => void): void {
  let told = false;
  const once = (exitCode: number) => {
    if (told) return;
    told = true;
    stop(exitCode);
  };
  for (const [signal, exitCode] of Object.entries(SIGNALS)) process.on(signal, () => once(exitCode));
  if (process.env["npm_lifecycle_event"] === undefined) return;
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) once(SIGNALS.SIGTERM);
  }, LOOK_MS).unref();
}
