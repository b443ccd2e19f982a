// The row of a space, on the page of spaces and on its own: what it shows, and its buttons.

import { call, signInAgain } from "./api.js";
import { asked } from "./forms.js";
import { parts, setPart, showPart } from "./live.js";
import { showTime } from "./page.js";

// What a row shows when: the same as in the methods of SpaceRow (src/pages/spaces.rs).
export function fill(row, space) {
  const { desired, observed } = space;
  const focused = row.contains(document.activeElement) ? document.activeElement : null;
  row.dataset.desired = desired;
  row.dataset.observed = observed;
  for (const part of ["name", "owner", "template", "home", "observed"]) setPart(row, part, space[part] ?? "");
  const cause = typeof space.cause === "string" ? space.cause : space.cause ? JSON.stringify(space.cause) : "";
  setPart(row, "cause", cause);
  showPart(row, "cause", cause !== "");
  for (const part of ["description", "note"]) {
    setPart(row, part, space[part] ?? "");
    showPart(row, part, space[part]);
  }
  setPart(row, "shares", (space.shares ?? []).join(", "));
  showPart(row, "shared-line", space.shares?.length > 0);
  setPart(row, "moving", space.moving_to ?? "");
  showPart(row, "moving-line", space.moving_to);
  const [since] = parts(row, "since");
  showTime(since, space.since);
  showPart(row, "since-line", space.since);
  const { health } = space;
  setPart(row, "health", health ? (health.well ? "well" : `unwell: ${health.words}`) : "");
  showPart(row, "health-line", health);
  showPart(row, "start-waits", desired === "running" && ["created", "stopped"].includes(observed));
  showPart(row, "stop-waits", desired === "stopped" && ["provisioning", "starting", "running"].includes(observed));
  showPart(row, "home-lost", !space.home_reachable);
  showPart(row, "update", space.update_available);
  showPart(row, "terminal", observed === "running" && !space.without?.includes("terminal"));
  parts(row, "template")[0].href = `/templates/${encodeURIComponent(space.template_id)}`;
  parts(row, "terminal")[0].href = `/spaces/${encodeURIComponent(space.id)}/terminal`;
  const [details] = parts(row, "details");
  if (details) details.href = `/spaces/${encodeURIComponent(space.id)}`;

  const takesOrders = !["deleting", "gone"].includes(observed);
  for (const button of row.querySelectorAll("[data-action]")) {
    const { action } = button.dataset;
    // Whether one may be deleted is not for its state to say.
    if (action === "start") button.hidden = desired === "running";
    else if (action !== "delete") button.hidden = desired === "stopped";
    button.disabled = !takesOrders;
  }
  fillConflicts(row, space.conflicts ?? []);
  // Whoever pressed Start with the keyboard goes on at Stop, not at the top of the page.
  if (focused?.hidden) row.querySelector('[data-action="start"]:not([hidden]), [data-action="stop"]:not([hidden])')?.focus();
}

function fillConflicts(row, conflicts) {
  showPart(row, "conflicts", conflicts.length > 0);
  setPart(row, "conflict-count", conflicts.length);
  const [details] = parts(row, "conflict-list");
  details.replaceChildren(...conflicts.map(({ field, values }) => {
    const entry = copyOf("#conflict");
    setPart(entry, "field", field);
    const [pattern] = parts(entry, "edit");
    pattern.replaceWith(...values.map(({ value, author, time }) => {
      const edit = pattern.cloneNode(true);
      setPart(edit, "value", typeof value === "string" ? value : JSON.stringify(value));
      setPart(edit, "author", author);
      showTime(parts(edit, "time")[0], time);
      return edit;
    }));
    return entry;
  }));
}

// Answers carry the space as it is now; an event with the same may come before or after.
async function ask(row, method, path, told) {
  const [problem] = parts(row, "problem");
  problem.hidden = true;
  row.setAttribute("aria-busy", "true");
  try {
    const space = await call(method, path);
    if (space?.id) told(space);
  } catch (error) {
    if (error.status === 401) return signInAgain();
    problem.textContent = error.message;
    problem.hidden = false;
  } finally {
    row.removeAttribute("aria-busy");
  }
}

// Lets the buttons of the rows in a part of the page ask; `told(space)` is called with what the API answers.
export function takeOrders(place, told) {
  place.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-action]");
    if (!button) return;
    const row = button.closest("[data-space]");
    const path = `/api/v1/spaces/${encodeURIComponent(row.dataset.space)}`;
    if (button.dataset.action !== "delete") return ask(row, "POST", `${path}/${button.dataset.action}`, told);
    const [name] = parts(row, "name");
    if (await asked(document.querySelector("#delete"), { name: name.textContent })) await ask(row, "DELETE", path, told);
  });
}

export function copyOf(template) {
  return document.querySelector(template).content.firstElementChild.cloneNode(true);
}
