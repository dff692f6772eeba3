import { describeError, ERRORS, IsthmusError } from "../shared/errors.ts";
import { exitCodeOf, EXIT_CODES, type ExitCode } from "./exit-codes.ts";

/** What a code ends a command with, wherever it is told; all others: failed. */
const BY_CODE: Readonly<Record<string, ExitCode>> = {
  UNREACHABLE: EXIT_CODES.unreachable.code,
  QUEUE_UNAVAILABLE: EXIT_CODES.unreachable.code,
  SOURCE_UNAVAILABLE: EXIT_CODES.unreachable.code,
  TARGET_UNAVAILABLE: EXIT_CODES.unreachable.code,
  TARGET_REFUSED: EXIT_CODES.refused.code,
};

/** Something that ends a command: what happened, what to do next, and the exit code (default: that of its code). */
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
    this.exitCode = options.exitCode ?? BY_CODE[code] ?? EXIT_CODES.failed.code;
    this.detail = options.detail ?? {};
  }
}

/** Any error as a problem; an unexpected one keeps its message, since it is shown to the person at the terminal only. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof IsthmusError) {
    const { code, message, remedy, ...detail } = describeError(error);
    const exitCode = BY_CODE[code] ?? exitCodeOf(ERRORS[error.code].status);
    return new Problem(code, message, remedy, { detail, cause: error, exitCode });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new Problem("FAILED", message, "Run the command again; if it fails alike, report it with this message.", {
    cause: error,
  });
}
