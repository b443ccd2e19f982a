// The page of one space: its state as it changes, its parts rendered anew with it, and logs.

import { call, signInAgain } from "./api.js";
import "./forms.js";
import { listen, showPart } from "./live.js";
import { renew } from "./renew.js";
import { fill, takeOrders } from "./row.js";

const head = document.querySelector("#space");
const { space: id } = head.dataset;
// Changes come in bursts while a space starts: the page is not fetched for each.
const PAUSE = 1_000;
// How much of a log is kept in the page, in characters.
const LONGEST = 400_000;

let soon = null;

function tell(space) {
  if (space.id !== id) return;
  if (space.observed === "gone") return gone({ id });
  fill(head, space);
  document.querySelector("#title").textContent = space.name;
  document.title = `${space.name} · knot`;
  soon ??= setTimeout(() => {
    soon = null;
    renew().catch(() => {});
  }, PAUSE);
}

function gone(space) {
  if (space.id === id) location.assign("/");
}

async function refill() {
  try {
    tell(await call("GET", `/api/v1/spaces/${encodeURIComponent(id)}`));
  } catch (error) {
    if (error.status !== 404) throw error;
    gone({ id });
  }
}

// What stands behind a fold is fetched when it is opened, and for as long: a browser has six connections to a server.
// Parts that are rendered anew bring folds of their own, so it is heard here; `toggle` does not rise by itself.
const readings = new WeakMap();
document.addEventListener("toggle", ({ target: fold }) => {
  if (!fold.matches("details[data-text]")) return;
  readings.get(fold)?.abort();
  if (!fold.open) return;
  const reading = new AbortController();
  readings.set(fold, reading);
  follow(fold, reading);
}, { capture: true });

async function follow(fold, stop) {
  const text = fold.querySelector("pre");
  const problem = fold.querySelector(".problem");
  text.textContent = "";
  problem.hidden = true;
  showPart(fold, "ended", false);
  try {
    const response = await fetch(fold.dataset.text, { signal: stop.signal });
    if (response.status === 401) return signInAgain();
    if (!response.ok) throw new Error((await response.json()).detail);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      append(text, value);
    }
    showPart(fold, "ended", true);
  } catch (error) {
    if (stop.signal.aborted) return;
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

function append(text, piece) {
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  text.append(piece);
  while (text.textContent.length > LONGEST && text.childNodes.length > 1) text.firstChild.remove();
  if (atEnd) text.scrollTop = text.scrollHeight;
}

takeOrders(head, tell);
listen({ space: tell, "space-deleted": gone }, refill);
