import { startPostgres } from "../../local/postgres.ts";

// A process that starts a server and then waits to be killed: its end must be the server's end.
const [dataDir] = process.argv.slice(2);
if (dataDir === undefined) throw new Error("no data folder");
const pg = await startPostgres({ name: "child", dataDir });
console.log(pg.port);
setInterval(() => undefined, 1_000);
