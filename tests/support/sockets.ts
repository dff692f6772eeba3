import { connect } from "node:net";
import type { SocketFactory } from "../../shared/db/connect.ts";

/** A socket of Node's in clear, where functions have one of Deno's: what is said last on a connection is heard on a socket of ours alone. */
export const clearSocket: SocketFactory = ({ host, port }) => connect({ host, port, noDelay: true });
