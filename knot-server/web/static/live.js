// The stream of changes, kept open for as long as the page is.

import { call, signInAgain } from "./api.js";

const LONGEST_WAIT = 30_000;
// A short break is not worth a word.
const QUIET = 2_000;

// Calls `handlers[event](data)` for each change, and `refill()` whenever the stream has opened: changes made while
// nobody listened are not sent again, between the rendering of the page and the first opening neither.
export function listen(handlers, refill) {
  const sign = document.querySelector("#live");
  let failures = 0;
  let source = null;
  let retry;

  function open() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource("/api/v1/events");
    source.onopen = async () => {
      failures = 0;
      sign.dataset.state = "live";
      try {
        await refill();
      } catch (error) {
        if (error.status === 401) signInAgain();
        else lost();
      }
    };
    source.onerror = lost;
    for (const [event, handle] of Object.entries(handlers)) {
      source.addEventListener(event, (message) => handle(JSON.parse(message.data)));
    }
  }

  // Not left to EventSource: it gives up at any answer but 200, which a server that restarts behind a balancer gives.
  function lost() {
    source.close();
    if (sign.dataset.state !== "lost") sign.dataset.state = "connecting";
    setTimeout(() => {
      if (sign.dataset.state === "connecting") sign.dataset.state = "lost";
    }, QUIET);
    const wait = Math.min(LONGEST_WAIT, 500 * 2 ** failures) * (0.5 + Math.random() / 2);
    failures += 1;
    clearTimeout(retry);
    retry = setTimeout(async () => {
      // An EventSource does not tell why it was refused; a plain request does.
      const error = await call("GET", "/api/v1/spaces").catch((error) => error);
      if (error?.status === 401) signInAgain();
      else if (!document.hidden) open();
    }, wait);
  }

  // A page that nobody sees needs no stream: HTTP/1.1 allows a browser six connections to a server, for all its
  // windows together, and one kept for the Back button would hold on to its own.
  function rest() {
    clearTimeout(retry);
    source?.close();
    sign.dataset.state = "resting";
  }

  addEventListener("online", () => source?.readyState !== EventSource.OPEN && open());
  addEventListener("pagehide", rest);
  addEventListener("pageshow", (event) => event.persisted && open());
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : open()));
  if (!document.hidden) open();
}

// Sets the text of every element of `row` that carries this part's name.
export function setPart(row, part, text) {
  for (const element of parts(row, part)) element.textContent = text;
}

export function showPart(row, part, shown) {
  for (const element of parts(row, part)) element.hidden = !shown;
}

export function parts(row, part) {
  return row.querySelectorAll(`[data-part="${part}"]`);
}

// Puts a new row where its name belongs.
export function insertByName(list, row) {
  const name = (of) => of.querySelector('[data-part="name"]').textContent;
  const next = [...list.children].find((other) => name(other).localeCompare(name(row)) > 0);
  list.insertBefore(row, next ?? null);
}
