// Posts name and password as JSON, and shows a refusal beside the form.

import { call } from "./api.js";

const form = document.querySelector("#sign-in");
const problem = form.querySelector("#problem");
const button = form.querySelector("button");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  problem.hidden = true;
  try {
    await call("POST", "/api/v1/sign-in", { user: form.user.value, password: form.password.value });
    // The server has checked that this is a path of its own.
    location.assign(form.dataset.next);
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    form.password.value = "";
    form.password.focus();
  } finally {
    button.disabled = false;
  }
});
