// The template file: numbered lines, saving, and a mistake shown beside the line that has it.

import { call, signInAgain } from "./api.js";

const form = document.querySelector("#template");
const source = form.source;
const numbers = form.querySelector(".numbers");
const problem = form.querySelector("#problem");
let saved = source.value;

function number() {
  const lines = source.value.split("\n").length;
  while (numbers.children.length < lines) {
    numbers.append(Object.assign(document.createElement("div"), { textContent: numbers.children.length + 1 }));
  }
  while (numbers.children.length > lines) numbers.lastChild.remove();
}

function mark(line) {
  numbers.querySelector(".bad")?.classList.remove("bad");
  if (!line) return;
  numbers.children[line - 1]?.classList.add("bad");
  const before = source.value.split("\n").slice(0, line - 1);
  const start = before.join("\n").length + (before.length > 0 ? 1 : 0);
  source.focus();
  source.setSelectionRange(start, start + (source.value.split("\n")[line - 1] ?? "").length);
}

async function save() {
  const button = form.querySelector("button");
  const done = form.querySelector("#done");
  problem.hidden = true;
  done.textContent = "";
  mark(null);
  button.disabled = true;
  const sent = source.value;
  try {
    const { template } = await call("PUT", "/api/v1/templates", sent, "application/yaml");
    saved = sent;
    const page = `/templates/${encodeURIComponent(template.id)}`;
    // A new template, or one whose file was given another name, has a page of its own.
    if (location.pathname !== page) return location.assign(page);
    form.querySelector("#revision").textContent = template.revision;
    done.textContent = "Saved.";
  } catch (error) {
    if (error.status === 401) return signInAgain();
    problem.textContent = error.message;
    problem.hidden = false;
    mark(error.line);
  } finally {
    button.disabled = false;
  }
}

source.addEventListener("input", number);
source.addEventListener("scroll", () => {
  numbers.style.transform = `translateY(${-source.scrollTop}px)`;
});
if (!source.readOnly) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "s" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    save();
  });
  addEventListener("beforeunload", (event) => {
    if (source.value !== saved) event.preventDefault();
  });
}
number();
