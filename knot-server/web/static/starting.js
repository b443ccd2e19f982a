// Starts a space for whoever waits for it.

import { call } from "./api.js";

const PAUSE = 500;
// Its home has a deadline of its own, below this.
const LIMIT = 15 * 60_000;

// Comes back once the space runs; fails with words for people. `tell` hears each state on the way.
export async function started(space, tell) {
  const path = `/api/v1/spaces/${encodeURIComponent(space)}`;
  const before = await call("POST", `${path}/start`);
  // Behind a balancer another server may answer, which has not heard of the start.
  let heard = false;
  for (const until = Date.now() + LIMIT; Date.now() < until; await pause()) {
    const shown = await call("GET", path).catch(unlessPassing);
    if (!shown) continue;
    if (shown.observed === "running") return;
    if (heard && shown.desired === "stopped") throw new Error("the space was told to stop");
    heard ||= shown.desired === "running";
    // What failed before says so until its home has heard of the start.
    const failed = shown.observed === "failed" && shown.generation !== before.generation;
    if (failed) throw new Error(`the space failed: ${shown.cause ?? "no cause was given"}`);
    tell(shown.observed);
  }
  throw new Error("the space does not run yet");
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve, PAUSE));
}

// A server that goes, or is behind: the next answer may be another's.
function unlessPassing(error) {
  if (error.status > 0 && error.status < 500) throw error;
}
