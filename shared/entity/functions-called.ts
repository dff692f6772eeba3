// Which functions an entity's own SQL may call, by their names alone: the source knows the rest.
import { textOf } from "./consumed-joins.ts";
import type { Entity } from "./define-entity.ts";
import { isSign, tokensOf } from "./sql-tokens.ts";

/**
 * Every name in an entity's SQL that may be a function's: one before a parenthesis, and the field of an expression,
 * which PostgreSQL takes for a function of that value where the value has no such field. More than are functions;
 * none that is one is missing.
 */
export function functionsCalled(entity: Entity): string[] {
  const tokens = tokensOf(textOf(entity));
  const names = tokens.flatMap((token, at) => {
    const called =
      token.kind === "name" && (isSign(tokens[at + 1], "(") || (isSign(tokens[at - 1], ".") && isSign(tokens[at - 2], ")", "]")));
    return called ? [token.name] : [];
  });
  return [...new Set(names)].sort();
}
