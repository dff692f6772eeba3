import { denoRuntime } from "../deno-runtime.ts";
import { installation } from "../installation.gen.ts";
import { createHandler } from "./handler.ts";

Deno.serve(createHandler(denoRuntime("sync-tick"), installation));
