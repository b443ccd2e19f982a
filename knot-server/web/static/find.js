// The bar that finds text in a terminal.

import { SearchAddon } from "./addon-search.mjs";
import { prefersLight } from "./theme.js";

// Text has to be readable on them.
const MARKS = {
  dark: {
    matchBackground: "#6b5312", matchOverviewRuler: "#c9a227",
    activeMatchBackground: "#9c5a00", activeMatchColorOverviewRuler: "#e2e5e8",
  },
  light: {
    matchBackground: "#f6e3a1", matchOverviewRuler: "#c9a227",
    activeMatchBackground: "#ffc04d", activeMatchColorOverviewRuler: "#22272c",
  },
};

// Gives what opens the bar.
export function findBar(terminal) {
  const search = new SearchAddon();
  terminal.loadAddon(search);
  const bar = document.querySelector("#find");
  const text = bar.querySelector("input");
  const found = bar.querySelector("output");

  function find(backwards, incremental) {
    const decorations = prefersLight.matches ? MARKS.light : MARKS.dark;
    const options = { decorations, incremental };
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
