import { check, parseAnswer, type Check } from "../answers.ts";
import { callFunction } from "../call-function.ts";
import { Problem } from "../problem.ts";
import { present, type Setup } from "./context.ts";
import { areDeployed } from "./deploy-functions.ts";
import { missingNames } from "./set-secrets.ts";
import type { Found, Step } from "./step.ts";

const TRIES = 20;
const PAUSE_MS = 1_500;
/** So often a check is asked that has lost a database which answers: a connection that was ended passes, a database that is down does not. */
const TRIES_AGAIN = 3;

/** The deployed functions themselves say what they reach, with which rights, and whether both catalogs fit. */
export const askFunctions: Step<Setup> = {
  title: "check from inside",
  async look(setup) {
    if (present(setup.env()["ISTHMUS_API_KEY"]) === undefined || !(await areDeployed(setup)))
      return { state: "due", text: "ask the functions what they reach" };
    if (missingNames(setup).length > 0) return { state: "person", text: "not yet: variables are missing", actions: [] };
    return judged(await checkFromInside(setup));
  },
  async act() {
    // The look asks; before the functions were deployed it could not.
  },
};

/** A function that was deployed, or given a secret, a moment ago may still start with what it had. @throws Problem when it does not settle. */
export async function checkFromInside({ env }: Setup): Promise<Check> {
  for (let tries = 1; ; tries++) {
    try {
      const answer = parseAnswer(check, await callFunction(env(), "sync-trigger?check"));
      if (!hasLostDatabase(answer) || tries >= TRIES_AGAIN) return answer;
      await new Promise((later) => setTimeout(later, PAUSE_MS));
    } catch (error) {
      const code = error instanceof Problem ? error.code : "";
      const settling = ["NOT_DEPLOYED", "PLATFORM_ERROR", "CONFIG_INVALID", "UNAUTHENTICATED", "UNREACHABLE"].includes(code);
      if (!settling || tries === TRIES) throw error;
      await new Promise((later) => setTimeout(later, PAUSE_MS));
    }
  }
}

/** Whether the catalogs were not compared because a database was gone for a moment, although both answer. */
export function hasLostDatabase({ error, reachable }: Check): boolean {
  const answers = [reachable["source"], reachable["target"]].every((reach) => reach?.reachable === true);
  return answers && /^(SOURCE|TARGET)_UNAVAILABLE$/.test(error?.code ?? "");
}

export function judged({ ok, reachable, findings, sideEffects, error }: Check): Found {
  const silent = Object.entries(reachable).flatMap(([name, reach]) =>
    reach.reachable || (name === "redis" && reach.reason === "not_configured") ? [] : [`${name}: ${reach.reason}`],
  );
  const serious = (findings ?? []).filter(({ severity, code }) => severity === "fatal" && code !== "side_effect");
  const effects = sideEffects.filter(({ acknowledged }) => !acknowledged).length;
  const actions = [
    ...(silent.length > 0
      ? [
          `Let the functions reach what they do not (${silent.join("; ")}): docs/deployment.md, section 4. Then: npm run sync -- check`,
        ]
      : []),
    ...(serious.length > 0 ? ["Mend what does not fit: npm run sync -- check names each finding and what to do."] : []),
    ...(effects > 0
      ? ["Look at what writes set off, and accept it: npm run sync -- check, then npm run sync -- acknowledge --all"]
      : []),
  ];
  const text = [
    silent.length > 0 ? silent.join("; ") : "source, target and queue answer the functions",
    ...(error ? [error.code] : []),
    ...(findings === null ? [] : [serious.length === 0 ? "both catalogs fit" : `${serious.length} findings stop entities`]),
    ...(effects > 0 ? [`${effects} side effects are not acknowledged`] : []),
  ].join("; ");
  if (actions.length > 0) return { state: "person", text, actions };
  return ok ? { state: "done", text } : { state: "person", text, actions: ["Look at it: npm run sync -- check"] };
}
