// Just enough of SQL to see what an entity's expressions name: names as PostgreSQL reads them, texts, and everything
// else sign by sign.

export type Token =
  | { readonly kind: "name"; readonly name: string; readonly quoted: boolean }
  | { readonly kind: "text" }
  | { readonly kind: "sign"; readonly sign: string };

// PostgreSQL takes every sign beyond ASCII for a part of a name, blanks among them.
const TOKEN =
  /"((?:[^"]|"")*)"|'(?:[^']|'')*'|([A-Za-z_\u{80}-\u{10ffff}][\w$\u{80}-\u{10ffff}]*)|\d[\w.\u{80}-\u{10ffff}]*|\S/gsu;

/** The tokens of a text of SQL. A name without quotes is folded as PostgreSQL folds it: A to Z alone. */
export function tokensOf(sql: string): Token[] {
  return [...sql.matchAll(TOKEN)].map(([whole, quoted, bare]): Token => {
    if (quoted !== undefined) return { kind: "name", name: quoted.replaceAll('""', '"'), quoted: true };
    if (bare !== undefined)
      return { kind: "name", name: bare.replace(/[A-Z]/g, (letter) => letter.toLowerCase()), quoted: false };
    return whole.startsWith("'") ? { kind: "text" } : { kind: "sign", sign: whole };
  });
}

/** The text with every quoted name and text emptied: what is left is what PostgreSQL reads as SQL. */
export function unquoted(sql: string): string {
  return sql.replace(/"(?:[^"]|"")*"/g, '""').replace(/'(?:[^']|'')*'/g, "''");
}

/** A column as an entity file names it, `alias.column`, parted. An alias has no dot; a column may have. */
export function referenceOf(text: string): readonly [alias: string, column: string] {
  const at = text.indexOf(".");
  return [text.slice(0, Math.max(0, at)), text.slice(at + 1)];
}

/** The same as SQL. */
export function referenceSql(text: string): string {
  return referenceOf(text)
    .map((name) => `"${name.replaceAll('"', '""')}"`)
    .join(".");
}

export function isSign(token: Token | undefined, ...signs: readonly string[]): boolean {
  return token?.kind === "sign" && signs.includes(token.sign);
}

/** Whether a token is one of these words, without quotes. */
export function isWord(token: Token | undefined, ...words: readonly string[]): boolean {
  return token?.kind === "name" && !token.quoted && words.includes(token.name);
}
