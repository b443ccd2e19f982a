// The terminal's window: xterm.js, a terminal that the space keeps, and what the reader sees of how it goes.
//
// The root element's data-state is the state in one word (connecting, connected, ended, lost), and its data-why the
// reason of the last two as the server names it (`signed_out` is the page's own), for styles and for whoever watches
// the page with a program. The terminal's id stands in the address: a reload goes on with it. Nothing is put on
// `window`.

import { Terminal } from "./xterm.mjs";
import { ClipboardAddon } from "./addon-clipboard.mjs";
import { FitAddon } from "./addon-fit.mjs";
import { WebLinksAddon } from "./addon-web-links.mjs";
import { call, signInAgain } from "./api.js";
import { copyText } from "./clipboard.js";
import { findBar } from "./find.js";
import { muteQueries } from "./queries.js";
import { Session, randomId } from "./session.js";
import { started } from "./starting.js";
import { address, terminalList } from "./terminals.js";
import { followTheme } from "./theme.js";

const READER = "knot.screen-reader";
// A window that nobody saw for so long opens its connection anew, to be sure of it.
const UNSEEN = 60_000;
// How soon after it was taken up again an end is one.
const RESUMED = 10_000;

const root = document.documentElement;
const place = document.querySelector("#terminal");
const status = document.querySelector("#status");
const again = document.querySelector("#again");
const reader = document.querySelector("#reader");
const { space } = place.dataset;

const terminal = new Terminal({
  allowProposedApi: true,
  cursorBlink: true,
  fontFamily: "ui-monospace, 'Cascadia Mono', 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
  fontSize: 14,
  // Without, some fonts leave underscores out where the page draws them itself.
  lineHeight: 1.1,
  scrollback: 10_000,
  macOptionIsMeta: true,
  screenReaderMode: localStorage.getItem(READER) === "on",
  // Links that programs set (OSC 8) lead where their text need not say: the bar does, as browsers do of links.
  linkHandler: { activate: openLink, hover: tellLink, leave: untellLink },
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.loadAddon(new WebLinksAddon(openLink, { hover: tellLink, leave: untellLink }));
// Programs may put something into the clipboard; those that ask for what is in it get no answer (see queries.js).
terminal.loadAddon(new ClipboardAddon(undefined, {
  readText: () => "",
  // Nothing is waited for: a browser may ask its user first, and the screen goes on.
  writeText: (_, text) => { copy(text); },
}));
terminal.open(place);
followTheme((theme) => {
  terminal.options.theme = theme;
  place.style.background = theme.background;
});

let session = null;
let resumed = 0;
let id = new URLSearchParams(location.search).get("terminal");
// The size that this window would have; the terminal has that of whoever typed last.
let own = { columns: 80, rows: 24 };
// Both as of what xterm.js has drawn by now.
let leads = false;
let replays = false;
muteQueries(terminal, () => replays || !leads);

function show(state, text, why = "") {
  root.dataset.state = state;
  root.dataset.why = why;
  status.textContent = text;
  status.title = text;
  again.hidden = state !== "ended";
  again.textContent = { signed_out: "Sign in again", space_stopped: "Start the space" }[why] ?? "New terminal";
}

// Does something once all that came before has been drawn.
function then(action) {
  terminal.write("", action);
}

function connect(make) {
  show("connecting", "connecting");
  session?.close();
  session = new Session(space, id, make, own, {
    attached(place) {
      history.replaceState(null, "", address(id));
      then(() => {
        leads = place.leads;
        resizeTo(place.size);
      });
      show("connected", "connected");
      if (document.activeElement === document.body) terminal.focus();
    },
    snapshot: () => then(() => terminal.reset()),
    output(bytes, replayed, done) {
      then(() => { replays = replayed; });
      terminal.write(bytes, done);
    },
    size: (size) => then(() => resizeTo(size)),
    leads: (now) => then(() => { leads = now; }),
    seen: () => !document.hidden,
    lost(opened, why) {
      const reason = { server_going: "its server is stopping, ", unreachable: "the space cannot be reached, " }[why] ?? "";
      show("lost", `${reason}reconnecting`, why ?? "");
      if (!opened) refusal();
    },
    over(over) {
      session = null;
      if (over.reason === "access_lost") refusal(over);
      else end(ending(over), over.reason);
    },
  });
}

// It is over: the reader is told in the bar, and on the screen what Enter does now.
function end(text, why) {
  if (root.dataset.state === "ended") return;
  session?.close();
  session = null;
  const next = {
    space_stopped: "Enter starts it, and opens a new terminal",
    signed_out: "Enter signs you in again, and the terminal goes on",
  }[why] ?? "Enter opens a new terminal";
  then(() => notice(`${text}. ${next}.`));
  show("ended", text, why);
}

// What is to be done about an end: another terminal, in a space that runs, or another sign-in, which comes back to this
// one.
function goOn() {
  if (root.dataset.why === "signed_out") signInAgain();
  else if (root.dataset.why === "space_stopped") start();
  else open();
}

// Another terminal, once the space runs.
async function start() {
  show("connecting", "starting the space");
  try {
    await started(space, (observed) => show("connecting", `starting the space: ${observed}`));
    open();
  } catch (error) {
    end(error.message, error.status === 401 ? "signed_out" : "space_stopped");
  }
}

// A terminal of its own, in this window.
function open() {
  id = randomId();
  connect({ name: "", command: [], environment: { TERM: "xterm-256color", COLORTERM: "truecolor" }, directory: null });
}

// What people ask about.
const SIGNALS = { 1: " (hung up)", 2: " (interrupted)", 6: " (aborted)", 9: " (killed)", 11: " (a bad address)", 15: " (told to end)" };

function ending({ reason, detail, exit }) {
  if (exit?.signal !== undefined) return `ended by signal ${exit.signal}${SIGNALS[exit.signal] ?? ""}`;
  if (exit) return `ended with status ${exit.code}`;
  return { space_stopped: "the space has stopped", unknown_terminal: "this terminal is gone" }[reason] ?? detail;
}

// A WebSocket does not tell why it was refused, nor one that was ended whether another sign-in would help; a plain
// request does. `over` is what the server said last, where it has.
async function refusal(over = null) {
  try {
    await call("GET", `/api/v1/spaces/${encodeURIComponent(space)}`);
    // Signed in again meanwhile, in another window; once, or it would be tried without end.
    if (over && Date.now() - resumed > RESUMED) takeUp();
    else if (over) end(over.detail, over.reason);
    resumed = Date.now();
  } catch (error) {
    if (error.status === 401) end("you were signed out", "signed_out");
    else if (error.status === 403 || error.status === 404) end(error.message, "access_lost");
    else if (over) end(over.detail, over.reason);
  }
}

// Looks at the same terminal again, from the beginning.
function takeUp() {
  then(() => terminal.reset());
  connect(null);
}

// Whoever was signed out may have signed in again in another window.
async function resume() {
  if (root.dataset.why !== "signed_out" || !id) return;
  try {
    await call("GET", `/api/v1/spaces/${encodeURIComponent(space)}`);
    if (root.dataset.why === "signed_out") takeUp();
  } catch {
    // Not yet.
  }
}

function resizeTo({ columns, rows }) {
  if (terminal.cols !== columns || terminal.rows !== rows) terminal.resize(columns, rows);
}

// The window has another size: the terminal follows it.
function measure() {
  const size = fit.proposeDimensions();
  if (!size || Number.isNaN(size.cols) || (size.cols === own.columns && size.rows === own.rows)) return;
  own = { columns: size.cols, rows: size.rows };
  resizeTo(own);
  session?.resize(own);
}

// What a program that was cut off may have left switched on: the alternate screen (1047 and not 1049, which would also
// move the cursor), mouse reports, bracketed paste, focus reports, a hidden cursor, margins, colours, a link.
const TIDY = "\x1b[?1047;1000;1002;1003;1004;1006;2004l\x1b[?25h\x1b[!p\x1b[0m\x1b]8;;\x07\x1b]104\x07\x1b]110\x07\x1b]111\x07\x1b]112\x07";

// A dim line of our own on the screen.
function notice(text) {
  terminal.write(`${TIDY}\r\n\x1b[2m── ${text} ──\x1b[0m\r\n`);
}

// Draws with the graphics card where there is one; without, or once the browser takes it back, xterm.js draws with
// elements of the page, slower and complete. `?renderer=dom` asks for the latter.
async function drawFast() {
  if (new URLSearchParams(location.search).get("renderer") === "dom") return;
  try {
    const { WebglAddon } = await import("./addon-webgl.mjs");
    const webgl = new WebglAddon();
    webgl.onContextLoss(() => webgl.dispose());
    terminal.loadAddon(webgl);
  } catch (error) {
    console.info("The terminal draws without WebGL:", error.message);
  }
}

terminal.onData((text) => {
  const input = takeSticky(text);
  if (session) session.input(input);
  else if (root.dataset.state === "ended" && input === "\r") goOn();
});
terminal.onBinary((text) => session?.binaryInput(text));
terminal.onResize(() => {
  document.querySelector("#size").textContent = `${terminal.cols} × ${terminal.rows}`;
});
terminal.onTitleChange((title) => {
  document.title = title ? `${title} · knot terminal` : "knot terminal";
});

const find = findBar(terminal);
const list = terminalList(space, () => id);
document.querySelector("#list").addEventListener("click", list);
document.querySelector("#search").addEventListener("click", find);
for (const link of document.querySelectorAll("[data-new]")) link.href = address(null);

// Keys that are the page's and not the shell's.
terminal.attachCustomKeyEventHandler((event) => {
  const control = event.ctrlKey && !event.altKey && !event.metaKey;
  // Without a way out, the keyboard alone could never leave the terminal.
  if (control && event.key === "F6") {
    if (event.type === "keydown") document.querySelector(".bar a").focus();
    return false;
  }
  if (control && event.shiftKey && event.code === "KeyC" && terminal.hasSelection()) {
    if (event.type === "keydown") copy(terminal.getSelection());
    event.preventDefault();
    return false;
  }
  if (control && event.shiftKey && event.code === "KeyF") {
    if (event.type === "keydown") find();
    event.preventDefault();
    return false;
  }
  // The browser pastes; xterm.js would send the control character.
  if (control && event.shiftKey && event.code === "KeyV") return false;
  return true;
});

async function copy(text) {
  if (await copyText(text) || root.dataset.state !== "connected") return;
  status.textContent = "connected; the browser does not let this page set the clipboard";
}

// A window of its own, which hears nothing of this one.
function openLink(_, address) {
  window.open(address, "_blank", "noopener,noreferrer");
}

function tellLink(_, address) {
  status.textContent = address;
}

function untellLink() {
  status.textContent = status.title;
}

// The row of keys for touch screens. It must not take the focus, which would fold the keyboard away.
const control = document.querySelector('[data-sticky="control"]');
document.querySelector("#keys").addEventListener("pointerdown", (event) => event.preventDefault());
document.querySelector("#keys").addEventListener("click", (event) => {
  const { key, arrow, sticky } = event.target.dataset;
  if (sticky) control.ariaPressed = String(control.ariaPressed !== "true");
  else if (key) terminal.input(key);
  else if (arrow) terminal.input(`\x1b${terminal.modes.applicationCursorKeysMode ? "O" : "["}${arrow}`);
  terminal.focus();
});

function takeSticky(text) {
  if (control.ariaPressed !== "true" || text.length !== 1) return text;
  control.ariaPressed = "false";
  return String.fromCharCode(text.toUpperCase().charCodeAt(0) & 0x1f);
}

again.addEventListener("click", () => {
  goOn();
  terminal.focus();
});

function showReader() {
  reader.ariaPressed = String(terminal.options.screenReaderMode);
}
reader.addEventListener("click", () => {
  terminal.options.screenReaderMode = !terminal.options.screenReaderMode;
  localStorage.setItem(READER, terminal.options.screenReaderMode ? "on" : "off");
  showReader();
  terminal.focus();
});

// Back from another network, or to a window that nobody saw for a while: the connection may be dead though it looks
// open. Another costs little, and nothing is lost by it.
let hiddenSince = null;
addEventListener("online", () => session?.again());
document.addEventListener("visibilitychange", () => {
  const unseen = hiddenSince !== null && Date.now() - hiddenSince > UNSEEN;
  hiddenSince = document.hidden ? Date.now() : null;
  if (document.hidden) return;
  resume();
  if (unseen || root.dataset.state === "lost") session?.again();
  else session?.catchUp();
});

showReader();
await drawFast();
measure();
new ResizeObserver(() => requestAnimationFrame(measure)).observe(place);
if (id) connect(null);
else open();
