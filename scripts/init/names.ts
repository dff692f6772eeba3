// Names of two applications for the same thing, and names that the files of an installation may have.

/** The words of a name, in lower case, each as one: `OrderLines`, `order_line` and "Order Lines" are the same. */
export function wordsOf(name: string): string[] {
  return name
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .replace(/([\p{Ll}\p{N}])(\p{Lu})/gu, "$1 $2")
    .replace(/(\p{Lu})(\p{Lu}\p{Ll})/gu, "$1 $2")
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== "")
    .map(singular);
}

/** What two names must share to be the same one. */
export function likeness(name: string): string {
  return wordsOf(name).join("");
}

function singular(word: string): string {
  if (word.endsWith("ies") && word.length > 4) return word.replace(/ies$/, "y");
  if (/(ss|us|is)$/.test(word) || word.length < 4) return word;
  return word.replace(/(?<=x|ch|sh|ss)es$|s$/, "");
}

/** A name in lower case with underscores; what it is in the code, by `as`, is not among `taken`, and is put there. */
export function plainName(name: string, taken: Set<string>, otherwise: string, as = (plain: string) => plain): string {
  const plain = name
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^_+|_+$/g, "");
  const begun = /^[a-z]/.test(plain) ? plain : [otherwise, plain].filter(Boolean).join("_");
  let free = RESERVED.has(as(begun)) ? `${begun}_${otherwise}` : begun;
  for (let n = 2; taken.has(as(free)); n++) free = `${begun}_${n}`;
  taken.add(as(free));
  return free;
}

/** The constant that an entity file exports, and the file's name without .ts. */
export function constantOf(name: string): string {
  return fileOf(name).replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
export function fileOf(name: string): string {
  return name.replaceAll("_", "-");
}

/** Words that no constant can be named, in JavaScript as it is written here, and what the proposed files import or generate. */
const RESERVED = new Set(
  `arguments await break case catch class const continue debugger default delete do else enum eval export extends false finally for
   function if implements import in instanceof interface let new null package private protected public return static super switch
   this throw true try typeof undefined var void while with yield
   codeHashes defineEntity inZone registry undecided`.split(/\s+/),
);
