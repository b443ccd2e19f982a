// The page of spaces: rows that follow what happens, and buttons that ask for it.

import { call, signInAgain } from "./api.js";
import { insertByName, listen, parts, setPart, showPart } from "./live.js";
import { showTime } from "./page.js";

const list = document.querySelector("#spaces");
const create = document.querySelector("#create");
const rows = new Map([...list.children].map((row) => [row.dataset.space, row]));

// What a row shows when: the same as in the methods of SpaceRow (src/pages/spaces.rs).
function fill(row, space) {
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
  showPart(row, "start-waits", desired === "running" && ["created", "stopped"].includes(observed));
  showPart(row, "stop-waits", desired === "stopped" && ["provisioning", "starting", "running"].includes(observed));
  showPart(row, "home-lost", !space.home_reachable);
  showPart(row, "update", space.update_available);
  showPart(row, "terminal", observed === "running" && !space.without?.includes("terminal"));
  parts(row, "template")[0].href = `/templates/${encodeURIComponent(space.template_id)}`;
  parts(row, "terminal")[0].href = `/spaces/${encodeURIComponent(space.id)}/terminal`;
  parts(row, "details")[0].href = `/spaces/${encodeURIComponent(space.id)}`;

  const takesOrders = !["deleting", "gone"].includes(observed);
  for (const button of row.querySelectorAll("[data-action]")) {
    const { action } = button.dataset;
    button.hidden = (action === "start" && desired === "running")
      || (["stop", "restart"].includes(action) && desired === "stopped");
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

function upsert(space) {
  if (space.observed === "gone") return remove(space.id);
  let row = rows.get(space.id);
  if (row) {
    fill(row, space);
  } else {
    row = copyOf("#space-row");
    row.dataset.space = space.id;
    fill(row, space);
    rows.set(space.id, row);
    insertByName(list, row);
  }
  showEmptiness();
}

function remove(id) {
  const row = rows.get(id);
  if (!row) return;
  const hadFocus = row.contains(document.activeElement);
  row.remove();
  rows.delete(id);
  showEmptiness();
  if (hadFocus) document.querySelector("#main").focus();
}

function showEmptiness() {
  document.querySelector("#no-spaces").hidden = rows.size > 0;
}

function upsertTemplate({ id, name }) {
  const { options } = create.template;
  const known = [...options].find((option) => option.value === id);
  if (known) known.textContent = name;
  else create.template.add(new Option(name, id), [...options].find((option) => option.text.localeCompare(name) > 0));
  create.hidden = false;
  document.querySelector("#no-templates").hidden = true;
}

// Spaces of which an event told while the whole list was on its way: what the list says of them may be older.
const told = new Set();

function heard(space) {
  told.add(space.id);
  upsert(space);
}

function heardGone({ id }) {
  told.add(id);
  remove(id);
}

async function refill() {
  told.clear();
  const { spaces } = await call("GET", "/api/v1/spaces");
  const listed = new Set(spaces.map(({ id }) => id));
  for (const id of [...rows.keys()]) if (!listed.has(id) && !told.has(id)) remove(id);
  for (const space of spaces) if (!told.has(space.id)) upsert(space);
}

// Answers carry the space as it is now; an event with the same may come before or after.
async function ask(row, method, path) {
  const [problem] = parts(row, "problem");
  problem.hidden = true;
  row.setAttribute("aria-busy", "true");
  try {
    const space = await call(method, path);
    if (space?.id) upsert(space);
  } catch (error) {
    if (error.status === 401) return signInAgain();
    problem.textContent = error.message;
    problem.hidden = false;
  } finally {
    row.removeAttribute("aria-busy");
  }
}

async function confirmed(row) {
  const dialog = document.querySelector("#delete");
  setPart(dialog, "name", parts(row, "name")[0].textContent);
  dialog.returnValue = "cancel";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  return dialog.returnValue === "delete";
}

list.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const row = button.closest("[data-space]");
  const path = `/api/v1/spaces/${encodeURIComponent(row.dataset.space)}`;
  if (button.dataset.action !== "delete") await ask(row, "POST", `${path}/${button.dataset.action}`);
  else if (await confirmed(row)) await ask(row, "DELETE", path);
});

create.addEventListener("submit", async (event) => {
  event.preventDefault();
  const problem = create.querySelector("#create-problem");
  const button = create.querySelector("button");
  problem.hidden = true;
  button.disabled = true;
  try {
    const wanted = { name: create.elements.name.value, template: create.template.value, start: create.start.checked };
    const space = await call("POST", "/api/v1/spaces", wanted);
    if (space?.id) upsert(space);
    create.elements.name.value = "";
  } catch (error) {
    if (error.status === 401) return signInAgain();
    problem.textContent = error.message;
    problem.hidden = false;
    create.elements.name.focus();
  } finally {
    button.disabled = false;
  }
});

function copyOf(template) {
  return document.querySelector(template).content.firstElementChild.cloneNode(true);
}

listen({ space: heard, "space-deleted": heardGone, template: upsertTemplate }, refill);
