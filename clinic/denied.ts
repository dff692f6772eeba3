/** Columns that stay in the clinic's source. After a change: `npm run schema:types && npm run generate`. */
export const denied = {
  secrets: ["password", "access_token"],
  onRequest: ["card_bin"],
  /** What has been opted in to, each with its reason: nothing. */
  optedIn: {},
} as const;
