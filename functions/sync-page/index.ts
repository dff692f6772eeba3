import { denoRuntime } from "../deno-runtime.ts";
import { createHandler } from "./handler.ts";

Deno.serve(createHandler(denoRuntime("sync-page")));
