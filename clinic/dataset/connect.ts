import { once } from "node:events";
import { connect } from "node:net";
import postgres from "postgres";

/**
 * One connection that sends every write at once: COPY ends with small messages, and waiting to fill a packet, as TCP
 * does unless told otherwise, would cost each table 90 ms.
 */
export function openConnection(url: string): postgres.Sql {
  const { hostname, port } = new URL(url);
  // The driver knows this option; its types do not.
  const options = {
    max: 1,
    onnotice: () => undefined,
    socket: async () => {
      const socket = connect({ host: hostname, port: Number(port || 5432), noDelay: true });
      await once(socket, "connect");
      return socket;
    },
  };
  return postgres(url, options);
}
