/**
 * What `npm test` runs of the tests that need a database: a page's life, what it refuses, who may do what, an
 * upgrade, and a second installation. They take minutes and need nothing but Node. Everything else is `npm run
 * test:all`.
 */
export const EVERYDAY = [
  "tests/adoption.pg.test.ts",
  "tests/conflict-decisions.pg.test.ts",
  "tests/conflicts-in-studio.pg.test.ts",
  "tests/contract.pg.test.ts",
  "tests/dry-run-parents.pg.test.ts",
  "tests/entities-guide.pg.test.ts",
  "tests/identities.pg.test.ts",
  "tests/init.pg.test.ts",
  "tests/load.pg.test.ts",
  "tests/music-shop.pg.test.ts",
  "tests/row-level-security.pg.test.ts",
  "tests/schema-version.pg.test.ts",
  "tests/selection.pg.test.ts",
  "tests/sending.pg.test.ts",
  "tests/sql-order.pg.test.ts",
  "tests/tick-watch.pg.test.ts",
  "tests/upgrade.pg.test.ts",
  "tests/waivers.pg.test.ts",
  "tests/written-otherwise.pg.test.ts",
];
