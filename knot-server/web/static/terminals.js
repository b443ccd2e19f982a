// The list of a space's terminals: to look at one, name it, end it, or open another.

import { call } from "./api.js";
import { showTime } from "./page.js";

// Gives what opens the list. `current()` is the id of the terminal in this window.
export function terminalList(space, current) {
  const dialog = document.querySelector("#terminals");
  const rows = dialog.querySelector("tbody");
  const row = dialog.querySelector("template");
  const problem = dialog.querySelector(".problem");
  const base = `/api/v1/spaces/${encodeURIComponent(space)}/terminals`;

  // Does something, says why where it fails, and shows the list anew.
  async function act(action) {
    problem.hidden = true;
    try {
      await action();
      const { terminals } = await call("GET", base);
      rows.replaceChildren(...terminals.map(shown));
      dialog.querySelector("table").hidden = terminals.length === 0;
      dialog.querySelector(".none").hidden = terminals.length > 0;
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
  }

  function shown(terminal) {
    const line = row.content.cloneNode(true);
    const part = (name) => line.querySelector(`[data-part="${name}"]`);
    const link = part("open");
    link.href = address(terminal.id);
    link.textContent = terminal.name;
    if (terminal.id === current()) link.ariaCurrent = "true";
    part("command").textContent = terminal.command;
    part("viewers").textContent = String(terminal.viewers);
    showTime(part("since"), terminal.since);
    const path = `${base}/${terminal.id}`;
    part("rename").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = new FormData(event.target).get("name");
      act(() => call("PATCH", path, { name }));
    });
    part("name").value = terminal.name;
    part("end").addEventListener("click", () => act(() => call("DELETE", path)));
    return line;
  }

  return () => {
    dialog.showModal();
    act(() => {});
  };
}

// The address of a terminal's page, or of a new one's, with all else that this page's has.
export function address(terminal) {
  const url = new URL(location.href);
  if (terminal) url.searchParams.set("terminal", terminal);
  else url.searchParams.delete("terminal");
  return url.pathname + url.search;
}
