// The bar that finds text in a terminal.

import { SearchAddon } from "./addon-search.mjs";

const MARKS = {
  matchBackground: "#8a6d1f", matchOverviewRuler: "#c9a227",
  activeMatchBackground: "#c9a227", activeMatchColorOverviewRuler: "#e2e5e8",
};

// Gives what opens the bar.
export function findBar(terminal) {
  const search = new SearchAddon();
  terminal.loadAddon(search);
  const bar = document.querySelector("#find");
  const text = bar.querySelector("input");
  const found = bar.querySelector("output");

  function find(backwards, incremental) {
    const options = { decorations: MARKS, incremental };
    if (!text.value) {
      search.clearDecorations();
      found.textContent = "";
    } else if (backwards) search.findPrevious(text.value, options);
    else search.findNext(text.value, options);
  }
  search.onDidChangeResults(({ resultIndex, resultCount }) => {
    found.textContent = resultCount ? `${resultIndex + 1} of ${resultCount}` : "not found";
  });
  function close() {
    bar.hidden = true;
    search.clearDecorations();
    terminal.focus();
  }
  text.addEventListener("input", () => find(true, true));
  bar.addEventListener("submit", (event) => event.preventDefault());
  bar.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && event.target === text) find(!event.shiftKey, false);
    else return;
    event.preventDefault();
  });
  bar.querySelector("[data-find='up']").addEventListener("click", () => find(true, false));
  bar.querySelector("[data-find='down']").addEventListener("click", () => find(false, false));
  bar.querySelector("[data-find='close']").addEventListener("click", close);

  return () => {
    bar.hidden = false;
    if (terminal.hasSelection()) text.value = terminal.getSelection().split("\n")[0];
    text.select();
    text.focus();
  };
}
