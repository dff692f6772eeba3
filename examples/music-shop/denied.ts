/** The shop's source holds nothing that must stay there. After a change: `npm run schema:types && npm run generate`. */
export const denied = {
  secrets: [],
  onRequest: [],
  optedIn: {},
} as const;
