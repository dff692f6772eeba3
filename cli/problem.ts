import { describeError, ERRORS, IsthmusError } from "../shared/errors.ts";
import { exitCodeOf, type ExitCode } from "./exit-codes.ts";

/** Something that ends a command: what happened, what to do next, and the exit code (default: failed). */
export class Problem extends Error {
  readonly code: string;
  readonly remedy: string;
  readonly exitCode: ExitCode;
  readonly detail: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    message: string,
    remedy: string,
    options: { exitCode?: ExitCode; detail?: Readonly<Record<string, unknown>>; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.remedy = remedy;
    this.exitCode = options.exitCode ?? 1;
    this.detail = options.detail ?? {};
  }
}

/** Any error as a problem; an unexpected one keeps its message, since it is shown to the person at the terminal only. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof IsthmusError) {
    const { code, message, remedy, ...detail } = describeError(error);
    return new Problem(code, message, remedy, { detail, cause: error, exitCode: exitCodeOf(ERRORS[error.code].status) });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new Problem("FAILED", message, "Run the command again; if it fails alike, report it with this message.", {
    cause: error,
  });
}
