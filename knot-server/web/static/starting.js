// Starts a space for whoever waits for it.

import { call } from "./api.js";

const PAUSE = 500;
// Its home has a deadline of its own, below this.
const LIMIT = 15 * 60_000;

// Comes back once the space runs; fails with words for people. `tell` hears each state on the way.
export async function started(space, tell) {
  const path = `/api/v1/spaces/${encodeURIComponent(space)}`;
  const before = await call("POST", `${path}/start`);
  const until = Date.now() + LIMIT;
  for (let shown = before; ; shown = await call("GET", path)) {
    if (shown.observed === "running") return;
    if (shown.desired === "stopped") throw new Error("the space was told to stop");
    // What failed before says so until its home has heard of the start.
    const failed = shown.observed === "failed" && shown.generation !== before.generation;
    if (failed) throw new Error(`the space failed: ${shown.cause ?? "no cause was given"}`);
    if (Date.now() > until) throw new Error(`the space does not run yet: it is ${shown.observed}`);
    tell(shown.observed);
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}
