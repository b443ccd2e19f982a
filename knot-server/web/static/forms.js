// Forms that call the API, as their attributes say:
//
//   data-method, data-path   what is called; `{name}` in the path stands for the field of that name
//   data-changed             only fields that were changed are sent, and those with data-always
//   data-ask                 the dialog that has to be answered first; its parts are filled from data-name and the fields
//   data-done                what is said when it worked; data-then, where the browser goes
//   data-action              the name of a function in `actions` that sends it instead
//
// A field says by data-as how its value goes into the body. A refusal that names a field is shown at the element with
// that data-field, all others at the form's end. A problem for which the page has a dialog with its code
// (data-code) is asked about: who goes on sends the request again, with what the dialog's data-adds adds to it.
//
// They are method="dialog", which does nothing by itself: who is faster than this module loses nothing that was typed.
// What a form has changed is shown by rendering the page anew (renew.js).

import { call, signInAgain } from "./api.js";
import { renew } from "./renew.js";

// Functions (form, body) that send a form, by name; what they give is where the browser goes.
export const actions = new Map();

const GIB = 2 ** 30;

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.dataset.form === undefined) return;
  event.preventDefault();
  if (form.ariaBusy === "true") return;
  clear(form);
  const dialog = form.dataset.ask && document.querySelector(`#${form.dataset.ask}`);
  if (dialog && !(await asked(dialog, { ...form.dataset, ...texts(form) }))) return;
  form.ariaBusy = "true";
  try {
    const then = await send(form);
    if (then === false) return;
    if (then) return location.assign(then);
    // It was done: that the page could not be fetched again is no failure of it.
    await renew(form.closest("[data-renew]")).catch(() => {});
    if (form.isConnected) form.reset();
    say(form.dataset.done);
  } catch (error) {
    if (error.status === 401) return signInAgain();
    refuse(form, error);
  } finally {
    form.ariaBusy = null;
  }
});

// Says something in passing, to readers of screens too.
export function say(text) {
  const said = document.querySelector("#said");
  said.textContent = text ?? "";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (said.textContent = ""), 6_000);
}

// Opens a dialog with these texts in its parts; true for who goes on.
export async function asked(dialog, texts) {
  for (const element of dialog.querySelectorAll("[data-part]")) element.textContent = texts[element.dataset.part] ?? "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  return dialog.returnValue === "go";
}

// Sends a form, and what its reader goes on with though the API asks: false for who does not.
async function send(form) {
  const body = collect(form);
  const action = actions.get(form.dataset.action ?? form.dataset.form) ?? plain;
  for (const seen = new Set(); ; ) {
    try {
      return await action(form, body);
    } catch (error) {
      const dialog = error.code && document.querySelector(`dialog[data-code="${error.code}"]`);
      if (!dialog || seen.has(dialog)) throw error;
      seen.add(dialog);
      if (!(await asked(dialog, { detail: error.message }))) return false;
      Object.assign(body, JSON.parse(dialog.dataset.adds));
    }
  }
}

async function plain(form, body) {
  const path = form.dataset.path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(form.elements[name].value.trim()));
  await call(form.dataset.method, path, form.dataset.method === "DELETE" ? undefined : body);
  return form.dataset.then;
}

// The body that a form sends.
export function collect(form) {
  const body = {};
  const only = form.dataset.changed !== undefined;
  for (const control of form.elements) {
    const { name, value } = control;
    const wanted = !only || changed(control) || control.dataset.always !== undefined;
    if (!name || control.disabled || (!wanted && control.dataset.as !== "listed")) continue;
    const as = control.dataset.as ?? (control.type === "checkbox" ? "bool" : "text");
    if (as === "text") body[name] = value;
    else if (as === "bool") body[name] = control.checked;
    else if (as === "json") body[name] = JSON.parse(value);
    else if (as === "merge") Object.assign(body, JSON.parse(value));
    else if (as === "words") body[name] = value.split(/[\s,]+/).filter(Boolean);
    else if (as === "each") (body[name] ??= []).push(value);
    else if (as === "optional" && value) body[name] = value;
    else if (as === "gib" && value) body[name] = Math.round(Number(value) * GIB);
    else if (as === "listed") listed(body, form, control, only);
    else if (as === "parameter") parameter(body, control, only);
    else if (as === "take-parameter" && control.checked) (body.parameters ??= {})[parameterName(control)] = null;
  }
  if (only && form.querySelector('[data-as="parameter"], [data-as="take-parameter"]')) body.parameters ??= {};
  for (const pair of form.querySelectorAll('[data-as="port"]')) port(body, pair);
  return body;
}

// A list is sent whole where any of its boxes was changed.
function listed(body, form, control, only) {
  const boxes = [...form.querySelectorAll(`[name="${control.name}"]`)];
  if (only && !boxes.some(changed)) return;
  body[control.name] = boxes.filter((box) => box.checked).map((box) => box.value);
}

// An empty value is none: a new space gets the template's default, and one that has a value loses it.
function parameter(body, control, only) {
  const name = parameterName(control);
  const { value } = control;
  if (value !== "") (body.parameters ??= {})[name] = value;
  else if (only) (body.parameters ??= {})[name] = null;
}

// Controls carry a prefix: whatever a template calls its parameters, `form.elements` stays what it is.
function parameterName({ name }) {
  return name.slice("parameters/".length);
}

// A name and the port that it leads to; an empty name takes the one away that was there.
function port(body, pair) {
  const [name, number] = pair.querySelectorAll("input");
  if (!changed(name) && !changed(number)) return;
  const names = (body.alt_names ??= {});
  const before = name.defaultValue;
  const now = name.value.trim();
  if (before && before !== now && !(before in names)) names[before] = null;
  // No port is the API's to refuse.
  if (now) names[now] = Number(number.value) || 0;
}

// Whether a control is not as the page has it.
export function changed(control) {
  if (control.type === "checkbox") return control.checked !== control.defaultChecked;
  if (control.tagName === "SELECT") {
    const options = [...control.options];
    const first = options.find((option) => option.defaultSelected) ?? options.find((option) => !option.disabled);
    return control.value !== (first?.value ?? "");
  }
  return control.defaultValue !== undefined && control.value !== control.defaultValue;
}

function texts(form) {
  const named = [...form.elements].filter(({ name }) => name);
  return Object.fromEntries(named.map(({ name, value }) => [name, value]));
}

// Shows a refusal at the field that it names, else at the end of the form.
function refuse(form, error) {
  const field = error.field && form.querySelector(`[data-field="${CSS.escape(error.field)}"]`);
  const problem = document.createElement("p");
  problem.className = "problem";
  problem.role = "alert";
  problem.dataset.refusal = "";
  problem.id = `refusal-${(refuse.count = (refuse.count ?? 0) + 1)}`;
  for (let fold = field?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  (field ?? form).append(problem);
  problem.textContent = error.message;
  const control = field?.querySelector("input, select, textarea");
  if (!control) return problem.scrollIntoView({ block: "nearest" });
  control.ariaInvalid = "true";
  control.dataset.described = control.getAttribute("aria-describedby") ?? "";
  control.setAttribute("aria-describedby", `${control.dataset.described} ${problem.id}`.trim());
  control.focus();
}

function clear(form) {
  for (const problem of form.querySelectorAll("[data-refusal]")) problem.remove();
  for (const control of form.querySelectorAll("[data-described]")) {
    control.ariaInvalid = null;
    control.setAttribute("aria-describedby", control.dataset.described);
    delete control.dataset.described;
  }
}
