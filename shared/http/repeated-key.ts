/**
 * A key that an object of this JSON has twice. Parsing keeps the last one in silence: `{"dryRun": true, "dryRun":
 * false}` would write.
 * @param json text that JSON.parse has taken.
 */
export function repeatedKey(json: string): string | undefined {
  // The keys of each object that is open; undefined for a list.
  const open: (Set<string> | undefined)[] = [];
  let text = "";
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case '"': {
        const from = at;
        at = endOfText(json, at);
        text = json.slice(from, at + 1);
        break;
      }
      case "{":
        open.push(new Set());
        break;
      case "[":
        open.push(undefined);
        break;
      case "}":
      case "]":
        open.pop();
        break;
      case ":": {
        // Decoded: a letter and its \\u escape are one key.
        const key = JSON.parse(text) as string;
        if (open.at(-1)?.has(key)) return key;
        open.at(-1)?.add(key);
      }
    }
  }
  return undefined;
}

function endOfText(json: string, from: number): number {
  let at = from + 1;
  while (json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
  return at;
}
