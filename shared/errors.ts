/**
 * Every error a person can meet: its code, what it means, what to do next, and the HTTP status a function answers
 * with. What the sync does by itself stands in recovery.ts. docs/errors.md is generated from both tables.
 */
export const ERRORS = {
  CONFIG_INVALID: {
    status: 500,
    meaning: "A configuration value is missing or malformed.",
    remedy: "Set the named variable with `supabase secrets set` and deploy again.",
  },
  REQUEST_INVALID: {
    status: 400,
    meaning: "The request body or query is not what the function expects.",
    remedy: "Correct the named field.",
  },
  BODY_TOO_LARGE: {
    status: 413,
    meaning: "The request body is longer than the function takes; the limit is in the answer.",
    remedy: "Split the request: ask for fewer ids or values at a time. Nothing of it was read beyond the limit.",
  },
  BODY_TOO_SLOW: {
    status: 408,
    meaning: "The request body did not arrive in time.",
    remedy: "Send the request again, over a network that carries it in a few seconds.",
  },
  UNAUTHENTICATED: {
    status: 401,
    meaning: "The caller did not prove who it is.",
    remedy: "Send a secret key in the apikey header, a signed-in user's token, or a QStash signature.",
  },
  FORBIDDEN: {
    status: 403,
    meaning: "The caller is known but may not do this.",
    remedy: "Give the user isthmus_role operator (reviewer: to look only) in app_metadata, or use a secret key.",
  },
  NOT_FOUND: {
    status: 404,
    meaning: "There is no such execution, entity or route.",
    remedy: "Check the id or the name; sync_executions and sync_entities list what exists.",
  },
  METHOD_NOT_ALLOWED: {
    status: 405,
    meaning: "The function does not answer this HTTP method.",
    remedy: "Use POST to start, GET to ask for the state.",
  },
  EXECUTION_ACTIVE: {
    status: 409,
    meaning: "A running execution already covers one of the entities.",
    remedy: "Wait for it to finish; its id is in the answer.",
  },
  EXECUTION_CLOSED: {
    status: 409,
    meaning: "The execution has ended already: it cannot be cancelled, nor set to anything else.",
    remedy: "Nothing to do. npm run sync -- executions lists those that run.",
  },
  CONTROL_REFUSED: {
    status: 409,
    meaning: "Pause, resume, cancel or retry has no meaning for the job, execution, entity or chain as it is now.",
    remedy: "Nothing was changed. The message says how it stands; npm run sync -- status, or jobs, tells more.",
  },
  ENTITY_PAUSED: {
    status: 409,
    meaning: "A person has paused all entities that were asked for.",
    remedy: "Resume them: npm run sync -- resume entity NAME. A job that waits for it begins by itself then.",
  },
  EXECUTION_CANCELLED: {
    status: 409,
    meaning: "A person has cancelled the execution.",
    remedy:
      "Nothing is half done: every page is one commit. Start again when it suits; the next execution goes on from the last checkpoints.",
  },
  PAGE_STALLED: {
    status: 500,
    meaning:
      "A page made no progress in as many tries, or for as long, as the configuration allows; its chain was stopped alone.",
    remedy:
      "Mend what cause says, then start again. What was committed stays, and the next execution goes on from the last checkpoints.",
  },
  EXECUTION_STALLED: {
    status: 500,
    meaning: "No page of the execution could begin for as long as the configuration allows.",
    remedy: "Start again. If it happens again, report it with the rows of sync_chains of this execution.",
  },
  SCHEMA_OUTDATED: {
    status: 503,
    meaning: "The functions were made for a later version of the database than it has. No page is claimed, and nothing begins.",
    remedy: "Upgrade the database: npm run sync -- setup --upgrade. Nothing is lost: what is in the queue comes back by itself.",
  },
  SCHEMA_AHEAD: {
    status: 503,
    meaning: "The database has a later version than these functions can work with. No page is claimed, and nothing begins.",
    remedy:
      "Deploy the functions of that release: npm run sync -- setup --upgrade, from a checkout of it. Nothing is lost: what is in the queue comes back by itself.",
  },
  TICK_KILLED: {
    status: 503,
    meaning: "The tick that took up a job ended without a word before the job had begun or was put off: it was killed.",
    remedy:
      "Look at the log of sync-tick at that time: is it killed for its memory, CPU or time? A job of fewer entities plans less at once. It is tried again by itself.",
  },
  TRIGGERS_OFF: {
    status: 503,
    meaning:
      "The worker's sessions have session_replication_role = replica: foreign keys and triggers would not hold, those that guard the sync included. No page is claimed, and nothing begins. Or what a page counted was not added up: a trigger of sync_page_log is off. That page commits nothing.",
    remedy:
      "As a superuser of the target: alter role isthmus_worker reset session_replication_role, or the same for its database. For a trigger that is off: alter table public.sync_page_log enable trigger all. Nothing is lost: what is in the queue comes back by itself.",
  },
  DEPLOYMENT_BEHIND: {
    status: 503,
    meaning: "The function that took a page does not have what the execution was planned with: it is of another deployment.",
    remedy: "It is tried again, and the new deployment takes it. If it stays, deploy all functions of one version.",
  },
  CAPTURE_UNBACKED: {
    status: 409,
    meaning: "Changes would be found by their time stamps alone, which miss some for ever.",
    remedy:
      "Enable a scheduled job in sync_jobs that covers the named entities with capture auto, full or digest. Nothing was written.",
  },
  SELECTION_TOO_LARGE: {
    status: 409,
    meaning: "More records refer to the selected ones than one page may ask for.",
    remedy: "Select fewer records or a smaller pageSize, leave dependants out, or run the entities as a whole.",
  },
  TARGET_NOT_EMPTY: {
    status: 409,
    meaning: "The target table holds rows whose ids have not been adopted; new ids beside them would double them.",
    remedy:
      "Take their ids over with `npm run sync -- adopt` (docs/runbook.md); only where nobody needs its rows, empty the table instead. Nothing was written.",
  },
  DECISION_REFUSED: {
    status: 409,
    meaning: "The decision does not fit the entry of the queue: it is closed, or the chosen row cannot be the record.",
    remedy: "Look at the entry in sync_conflicts again: conflict_data lists what can be chosen. Nothing was changed.",
  },
  CONTRACT_BROKEN: {
    status: 409,
    meaning: "The target or the source does not have what the entity files say of every entity that was asked for.",
    remedy: "Mend what findings names, each with its remedy; npm run sync -- check shows them all. Nothing was written.",
  },
  ENTITY_LEFT_OUT: {
    status: 409,
    meaning: "The execution ran without this entity, because the target or the source does not have what its entity file says.",
    remedy: "Mend what its findings name (npm run sync -- check shows them), and start again; the other entities have landed.",
  },
  KEY_BROKEN: {
    status: 409,
    meaning: "What should identify the rows of a source table repeats, or is null in some row.",
    remedy:
      "Correct the rows, or name another column as the key, and keep them so with a unique index; npm run sync -- check asks the rows again.",
  },
  PAGE_STANDS_STILL: {
    status: 500,
    meaning: "A page ended where it began although more should follow: the next one would do the same, without an end.",
    remedy: "Report it with the entity and the execution. Other entities go on.",
  },
  CAPTURE_IMPOSSIBLE: {
    status: 409,
    meaning: "The capture that was asked for would miss changes of a table in every entity that was asked for.",
    remedy:
      "Do what findings names, or ask for the capture full; npm run sync -- inspect says what each table allows. Nothing was written.",
  },
  SIDE_EFFECTS_UNACKNOWLEDGED: {
    status: 409,
    meaning: "A first load would set off triggers, webhooks or publications of the target that nobody has acknowledged.",
    remedy:
      "Switch off what must not happen for every old record, accept the rest with npm run sync -- acknowledge. Nothing was written.",
  },
  SOURCE_BEHIND: {
    status: 503,
    meaning: "The source node has not yet reached the position of the last execution.",
    remedy: "Nothing to do: it is tried again. If it stays, the replica lags or does not follow its primary any more.",
  },
  SOURCE_CHANGED: {
    status: 503,
    meaning: "Another server, database or timeline answers as the source than when the execution began, or an older state of it.",
    remedy: "Start a new execution: it reads everything again.",
  },
  SOURCE_UNKNOWN: {
    status: 409,
    meaning:
      "Another database answers as the source than the one that this target is filled from: a copy, a new server, or another SOURCE_DB_URL.",
    remedy:
      "Correct SOURCE_DB_URL; or, if the source has moved, put your name into accepted_by of its entry in sync_identities, and start again. Nothing was written.",
  },
  TARGET_UNKNOWN: {
    status: 409,
    meaning:
      "The target is another database than the one known in it: it was copied, put back to an older state, restored on another server, or is looked for at another address.",
    remedy:
      "Correct TARGET_DB_URL; or, if this is the target from now on, put your name into accepted_by of its entry in sync_identities, and start again. Nothing was written.",
  },
  INSTALLATION_UNKNOWN: {
    status: 409,
    meaning: "Another installation of the functions works at this target than the one known there.",
    remedy:
      "Correct TARGET_DB_URL of the other installation; or, if this one takes its place, put your name into accepted_by of its entry in sync_identities, and start again. Nothing was written.",
  },
  SOURCE_UNAVAILABLE: {
    status: 503,
    meaning: "The source database cannot be reached or refused the statement for now.",
    remedy: "It is tried again by itself. If it stays, check SOURCE_DB_URL and the network.",
  },
  SOURCE_REFUSED: {
    status: 500,
    meaning: "The source refused a statement.",
    remedy: "Check the rights of the source role and the columns named in the entity file; the SQLSTATE says which.",
  },
  TARGET_UNAVAILABLE: {
    status: 503,
    meaning: "The target database cannot be reached or refused the statement for now.",
    remedy: "It is tried again by itself. If it stays, check TARGET_DB_URL and the project's state.",
  },
  TARGET_REFUSED: {
    status: 500,
    meaning: "The target refused a statement that no single record caused.",
    remedy: "Check the grants of isthmus_worker and that all migrations are applied; the SQLSTATE says which.",
  },
  SOURCE_LIMIT: {
    status: 503,
    meaning: "A time or memory limit of the source ended a statement.",
    remedy:
      "Nothing to do for a page: it is tried again with half as many records, down to one. Where the error stays, raise the limit that the SQLSTATE names (statement_timeout, temp_file_limit …) for the source role.",
  },
  TARGET_LIMIT: {
    status: 503,
    meaning: "A time or memory limit of the target ended a statement or a transaction.",
    remedy:
      "Nothing to do for a page: it is tried again with half as many records, down to one. Where the error stays, raise the limit that the SQLSTATE names (statement_timeout, lock_timeout …) for isthmus_worker.",
  },
  RECORDS_MOVED: {
    status: 503,
    meaning: "Another page has committed records of the same keys since this one read them.",
    remedy: "Nothing to do: the page reads its records again at once.",
  },
  CACHE_OUTDATED: {
    status: 503,
    meaning: "The cache had given an id that the target refused, or that no landed record has.",
    remedy: "Nothing to do: the page resolves its ids again from the table.",
  },
  LEASE_LOST: {
    status: 200,
    meaning: "Another delivery of the same page has taken over.",
    remedy: "Nothing to do: the other delivery carries on.",
  },
  CONTROL_TOTALS_DIFFER: {
    status: 500,
    meaning: "After loading, both sides still differ in counts or money, and reading the records once more did not help.",
    remedy: "See sync_reports of the execution for the entities and legacy ids.",
  },
  BRAKE_APPLIED: {
    status: 409,
    meaning:
      "Far more records than usual would be deleted, emptied in a column, or overwritten: the execution was stopped there.",
    remedy: "Look at the source. If it is meant, put your name into confirmed_by of the entry in sync_brakes, and start again.",
  },
  QUEUE_UNAVAILABLE: {
    status: 503,
    meaning: "QStash did not answer, or could not take the next pages for now.",
    remedy: "Nothing to do: sync-tick sends them again. If it stays, check QSTASH_URL and QStash's status page.",
  },
  QUEUE_REFUSED: {
    status: 503,
    meaning: "QStash refuses the next pages: its quota is used up, the token may not publish, or a message is not accepted.",
    remedy:
      "See reason: for quota wait until it begins anew or take a larger plan, for token set a QSTASH_TOKEN that may publish. sync-tick sends the pages again by itself.",
  },
  INTERNAL: {
    status: 500,
    meaning: "A defect in Isthmus.",
    remedy: "Report it with the code and the time; the page is tried again.",
  },
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** An error with a code from ERRORS. `detail` names entity, field, variable or SQLSTATE, never a value of a row. */
export class IsthmusError extends Error {
  readonly code: ErrorCode;
  readonly detail: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message?: string, options: { cause?: unknown; detail?: Record<string, unknown> } = {}) {
    super(message ?? ERRORS[code].meaning, { cause: options.cause });
    this.name = "IsthmusError";
    this.code = code;
    this.detail = options.detail ?? {};
  }
}

export type DescribedError = { readonly code: ErrorCode; readonly message: string; readonly remedy: string } & Readonly<
  Record<string, unknown>
>;

/** What callers, tables and logs are told of an error: `{code, message, remedy, ...detail}`. */
export function describeError(error: unknown): DescribedError {
  const known = error instanceof IsthmusError ? error : new IsthmusError("INTERNAL", undefined, { cause: error });
  const hint = typeof known.detail["hint"] === "string" ? known.detail["hint"] : ERRORS[known.code].remedy;
  return { ...known.detail, code: known.code, message: known.message, remedy: hint };
}

/** So many problems are told of one by one; a list of ten thousand wrong ids would drown the first. */
const MOST_ISSUES = 20;
/** Of what a request says itself, so much is repeated. */
const LONGEST_NAME = 60;
const LONGEST_MESSAGE = 2_000;

/** What is wrong with which field, as one line: `legacyIds.books[2]: must be an integer`. */
export function describeIssues(issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[]): string {
  const told = issues.slice(0, MOST_ISSUES).map(({ path, message }) => {
    const short = message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE)} …` : message;
    return path.length > 0 ? `${fieldName(path)}: ${short}` : short;
  });
  const more = issues.length - told.length;
  return [...told, ...(more > 0 ? [`and ${more.toLocaleString("en")} more`] : [])].join("; ");
}

/** The fields that have a problem, as many as are told of. */
export function fieldsOf(issues: readonly { readonly path: readonly PropertyKey[] }[]): string[] {
  return issues.slice(0, MOST_ISSUES).map(({ path }) => fieldName(path));
}

function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((step, n) => (typeof step === "number" ? `[${step}]` : `${n > 0 ? "." : ""}${String(step).slice(0, LONGEST_NAME)}`))
    .join("");
}
