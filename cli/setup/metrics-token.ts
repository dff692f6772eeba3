import { randomBytes } from "node:crypto";
import { present, type Setup } from "./context.ts";
import type { Step } from "./step.ts";
import { metricsTokenProblem } from "../../shared/config.ts";
import { Problem } from "../problem.ts";

/** A token that reads metrics, and nothing else. */
export const newMetricsToken = (): string => `ism_${randomBytes(32).toString("base64url")}`;

/** What a scraper sends. It is made here, and set with the other secrets. */
export const metricsToken: Step<Setup> = {
  title: "metrics token",
  look({ env }) {
    const token = present(env()["METRICS_TOKEN"]);
    if (token === undefined)
      return Promise.resolve({
        state: "due",
        text: "make a token that reads metrics alone, and write it into the file as METRICS_TOKEN",
      });
    const problem = metricsTokenProblem(token);
    if (problem !== undefined)
      throw new Problem("VARIABLE_INVALID", `METRICS_TOKEN ${problem}.`, "Empty it in the file: the next run makes one.", {
        exitCode: 2,
      });
    return Promise.resolve({ state: "done", text: "METRICS_TOKEN of the file" });
  },
  act({ keep }) {
    keep({ METRICS_TOKEN: newMetricsToken() });
    return Promise.resolve();
  },
};
