// Going back to an earlier revision of a template.

import { call, signInAgain } from "./api.js";

const list = document.querySelector(".history");
const problem = document.querySelector("#problem");
const page = `/templates/${encodeURIComponent(list.dataset.template)}`;

list.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-revert]");
  if (!button) return;
  problem.hidden = true;
  button.disabled = true;
  try {
    const body = JSON.stringify({ revision: button.dataset.revert });
    await call("POST", `/api/v1${page}/revert`, body, "application/json");
    location.assign(page);
  } catch (error) {
    if (error.status === 401) return signInAgain();
    problem.textContent = error.message;
    problem.hidden = false;
    problem.scrollIntoView({ block: "nearest" });
  } finally {
    button.disabled = false;
  }
});
