// The page of spaces: rows that follow what happens, and buttons that ask for it.

import { call } from "./api.js";
import { insertByName, listen } from "./live.js";
import { copyOf, fill, takeOrders } from "./row.js";

const list = document.querySelector("#spaces");
const rows = new Map([...list.children].map((row) => [row.dataset.space, row]));

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

function heardTemplate({ retired }) {
  if (retired) return;
  document.querySelector("#new").hidden = false;
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

takeOrders(list, upsert);
listen({ space: heard, "space-deleted": heardGone, template: heardTemplate }, refill);
