/** What a command ends with: a script answers each in another way. docs/cli.md lists them. */
export const EXIT_CODES = {
  done: { code: 0, meaning: "Done." },
  failed: { code: 1, meaning: "It failed, or the execution, job or check that it shows has." },
  notGiven: { code: 2, meaning: "An argument, an option or a variable is missing or malformed: nothing was asked." },
  cancelled: { code: 3, meaning: "The execution that it shows was cancelled." },
  leftOut: { code: 4, meaning: "Done with something left out; what, and what to do, is told." },
  refused: { code: 5, meaning: "The functions or the database refused it: nothing was changed." },
  unreachable: { code: 6, meaning: "The functions, a database or the queue cannot be reached." },
} as const;

export type ExitCode = (typeof EXIT_CODES)[keyof typeof EXIT_CODES]["code"];

/** The exit code of an error that a function answers with this HTTP status, or would. */
export function exitCodeOf(status: number): ExitCode {
  if (status >= 502 && status <= 504) return EXIT_CODES.unreachable.code;
  return status >= 400 && status < 500 ? EXIT_CODES.refused.code : EXIT_CODES.failed.code;
}
