import { SCHEMA_VERSION } from "../db/schema-version.ts";

/**
 * Ends a statement that calls a function of ours which begins or commits something: where these functions and the
 * database do not fit, sync.meet_functions raises SCHEMA_OUTDATED or SCHEMA_AHEAD before the call, in the same round
 * trip.
 */
export const IF_FITTING = `from sync.meet_functions(${SCHEMA_VERSION}::bigint)`;
