import { expect, it } from "vitest";
import { killedTwice } from "./support/killed-pages.ts";

const delivery = (messageId: string, chain: string, page: number, status: number) => ({
  messageId,
  status,
  body: JSON.stringify({ format: 1, chain, page }),
});

it.each([
  { what: "by one message", second: "msg_1", page: 3, status: 546, found: ["page 3 of chain a"] },
  { what: "by another message, which the tick has sent", second: "msg_2", page: 3, status: 546, found: ["page 3 of chain a"] },
  { what: "but another page of the chain", second: "msg_2", page: 4, status: 546, found: [] },
  { what: "but for the second time not killed", second: "msg_1", page: 3, status: 200, found: [] },
])("a page that was killed twice is found: $what", ({ second, page, status, found }) => {
  expect(killedTwice([delivery("msg_1", "a", 3, 546), delivery(second, "a", page, status)])).toEqual(found);
});
