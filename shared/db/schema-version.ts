/**
 * The version of the database that these functions were made for: the last migration. Written by `npm run migration`.
 * Each statement that begins or commits something takes it along (sync.meet_functions), so that functions and a
 * database that do not fit leave everything as it is.
 */
export const SCHEMA_VERSION = 20261101000200;
