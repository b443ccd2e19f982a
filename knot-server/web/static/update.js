// Restarts the spaces of a template that have an older revision, one after the other.

import { call, signInAgain } from "./api.js";
import { listen, parts } from "./live.js";

const place = document.querySelector("#update");
// What is waited for: a space's id, and whom to tell of its changes.
let waiting = null;

if (place) {
  const [go] = parts(place, "go");
  const [problem] = parts(place, "problem");
  go.addEventListener("click", async () => {
    go.disabled = true;
    problem.hidden = true;
    for (const row of place.querySelectorAll("[data-space]:not([data-done])")) {
      const [state] = parts(row, "state");
      state.textContent = "restarting";
      try {
        await updated(row.dataset.space);
        state.textContent = "updated";
        row.dataset.done = "";
      } catch (error) {
        if (error.status === 401) return signInAgain();
        state.textContent = "failed";
        problem.textContent = error.message;
        problem.hidden = false;
        go.disabled = false;
        return;
      }
    }
    go.hidden = true;
  });
  listen({ space: (space) => waiting?.(space) }, async () => {
    const { spaces } = await call("GET", "/api/v1/spaces");
    for (const space of spaces) waiting?.(space);
  });
}

// Restarts a space, and waits for what comes of it.
async function updated(id) {
  const path = `/api/v1/spaces/${encodeURIComponent(id)}`;
  const before = await call("GET", path);
  const ended = new Promise((done, fail) => {
    waiting = (space) => {
      if (space.id !== id || space.generation === before.generation) return;
      if (space.observed === "running") done();
      else if (space.observed === "failed") fail(new Error(`${space.name}: ${space.cause ?? "it failed"}`));
      else if (space.desired === "stopped") fail(new Error(`${space.name} was stopped meanwhile`));
    };
  });
  ended.catch(() => {});
  try {
    await call("POST", `${path}/restart`);
    await ended;
  } finally {
    waiting = null;
  }
}
