// Which columns are proposed to stay in the source: their names say that they are secret.

/** Anywhere in a name: a catalog that folds names to lower case leaves no border between words. */
const PARTS = /passw|passphrase|passcode|pwd|secret(?!ar)|token|api[ _-]?key|private[ _-]?key|access[ _-]?key|credential/i;
/** As a word alone: within others they mean nothing. */
const WORDS = new Set("pass salt pin cvv cvc otp totp".split(" "));

export function isSecret(name: string): boolean {
  const words = name.replace(/([\p{Ll}\p{N}])(\p{Lu})/gu, "$1 $2").toLowerCase();
  return PARTS.test(name) || words.split(/[^\p{L}\p{N}]+/u).some((word) => WORDS.has(word));
}
