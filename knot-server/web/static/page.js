// On every page: times in the reader's own zone, and signing out.

import { call } from "./api.js";

// Sets a <time> to an RFC 3339 time: the hour if it is today's, else with the day; the tooltip has it in full.
export function showTime(element, text) {
  element.dateTime = text ?? "";
  const time = new Date(text);
  if (!text || Number.isNaN(time.getTime())) {
    element.textContent = text ?? "";
    return;
  }
  const today = time.toDateString() === new Date().toDateString();
  const day = today ? {} : { day: "numeric", month: "short" };
  element.textContent = new Intl.DateTimeFormat(undefined, { ...day, hour: "2-digit", minute: "2-digit" }).format(time);
  element.title = time.toLocaleString();
}

export function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) showTime(element, element.getAttribute("datetime"));
}

showTimes(document);

document.querySelector("#sign-out")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  // Also when the server does not know the session any more: the sign-in page is then the right place all the more.
  await call("POST", "/api/v1/sign-out").catch(() => {});
  location.assign("/sign-in");
});
