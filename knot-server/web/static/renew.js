// Renders parts of the page anew: the server's page is fetched again, and what it has in the elements with data-renew
// takes the place of what is shown. So what a page looks like is said in one place, on the server.

import { signInAgain } from "./api.js";
import { showTimes } from "./page.js";

let running = null;
let again = null;
// Parts to renew though somebody is at work in them.
const sent = new Set();

// Renews all parts but those in which somebody is at work; `part`, if one is named, all the same: what was written
// in it was sent. Calls while one is running are one more after it.
export function renew(part = null) {
  if (part) sent.add(part);
  if (!running) return (running = fetched().finally(() => (running = null)));
  again ??= running.catch(() => {}).then(() => {
    again = null;
    return renew();
  });
  return again;
}

async function fetched() {
  const forced = new Set(sent);
  sent.clear();
  const response = await fetch(location.href, { headers: { accept: "text/html" } });
  if (response.redirected) return signInAgain();
  if (!response.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const shown of document.querySelectorAll("[data-renew]")) {
    const next = page.getElementById(shown.id);
    if (next && (forced.has(shown) || !atWork(shown))) replace(shown, next);
  }
}

function atWork(shown) {
  if (shown.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) return true;
  if (shown.querySelector('[aria-busy="true"], [data-refusal]')) return true;
  return [...shown.querySelectorAll("input, textarea, select")].some(isChanged);
}

function isChanged(control) {
  if (control.type === "checkbox") return control.checked !== control.defaultChecked;
  if (!control.matches("select")) return control.value !== control.defaultValue;
  const options = [...control.options];
  const first = options.find(({ defaultSelected }) => defaultSelected) ?? options.find(({ disabled }) => !disabled);
  return control.value !== (first?.value ?? "");
}

// A part without what was fetched into its folds since: that is no part of the page.
function asSent(shown) {
  if (!shown.querySelector("details[data-text]")) return shown;
  const sent = shown.cloneNode(true);
  for (const fold of sent.querySelectorAll("details[data-text]")) {
    fold.open = false;
    fold.querySelector("pre").textContent = "";
    const problem = fold.querySelector(".problem");
    problem.textContent = "";
    problem.hidden = true;
  }
  return sent;
}

function replace(shown, next) {
  if (asSent(shown).innerHTML === next.innerHTML) return;
  const open = new Set([...shown.querySelectorAll("details[open]")].map(({ id }) => id));
  const focus = shown.contains(document.activeElement) ? document.activeElement : null;
  const id = focus?.id || focus?.closest("[id]")?.id;
  const scrolled = [...shown.querySelectorAll("pre")].map(({ scrollTop }) => scrollTop);
  shown.replaceChildren(...next.childNodes);
  for (const details of shown.querySelectorAll("details")) details.open ||= open.has(details.id);
  shown.querySelectorAll("pre").forEach((pre, at) => (pre.scrollTop = scrolled[at] ?? 0));
  showTimes(shown);
  if (!focus) return;
  // Whoever works with the keyboard goes on where they were, not at the top of the page.
  const place = document.getElementById(id) ?? shown;
  const target = place.matches("input, select, textarea, button, a, summary") ? place : place.querySelector("summary, h2");
  if (target && !target.matches("a, button, input, select, textarea, summary")) target.tabIndex = -1;
  target?.focus({ preventScroll: true });
}
