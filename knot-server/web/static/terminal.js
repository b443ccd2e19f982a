// The terminal's window: xterm.js, a session, and what the reader sees of how it goes.
//
// The root element's data-state is the state in one word (connecting, connected, ended, lost), for styles and for
// whoever watches the page with a program. Nothing is put on `window`.

import { Terminal } from "./xterm.mjs";
import { FitAddon } from "./addon-fit.mjs";
import { WebLinksAddon } from "./addon-web-links.mjs";
import { call, signInAgain } from "./api.js";
import { Session } from "./session.js";
import { followTheme } from "./theme.js";

const LONGEST_WAIT = 15_000;
const READER = "knot.screen-reader";

const root = document.documentElement;
const place = document.querySelector("#terminal");
const status = document.querySelector("#status");
const again = document.querySelector("#again");
const reader = document.querySelector("#reader");
const { space } = place.dataset;

const terminal = new Terminal({
  cursorBlink: true,
  fontFamily: "ui-monospace, 'Cascadia Mono', 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
  fontSize: 14,
  scrollback: 10_000,
  macOptionIsMeta: true,
  screenReaderMode: localStorage.getItem(READER) === "on",
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.loadAddon(new WebLinksAddon());
terminal.open(place);
followTheme((theme) => {
  terminal.options.theme = theme;
  place.style.background = theme.background;
});

let session = null;
let failures = 0;
let retry;
// Whether the notice of a loss is on the screen already: one is enough for many attempts.
let noticed = false;

function show(state, text) {
  root.dataset.state = state;
  status.textContent = text;
  status.title = text;
  again.hidden = state === "connected" || state === "connecting";
}

function size() {
  return { columns: terminal.cols, rows: terminal.rows };
}

function connect() {
  clearTimeout(retry);
  show("connecting", "connecting");
  session = new Session(space, size(), {
    opened() {
      failures = 0;
      noticed = false;
      show("connected", "connected");
      if (document.activeElement === document.body) terminal.focus();
    },
    output: (bytes) => terminal.write(bytes),
    ended(text) {
      session = null;
      notice(`${text}. Enter starts a new session.`);
      show("ended", text);
    },
    lost(wasOpen) {
      session = null;
      lost(wasOpen);
    },
  });
}

async function lost(wasOpen) {
  if (wasOpen) notice("The connection was lost, and with it this session. A new one starts as soon as the space can be reached.");
  noticed ||= wasOpen;
  const wait = Math.min(LONGEST_WAIT, 1000 * 2 ** failures) * (0.5 + Math.random() / 2);
  failures += 1;
  show("lost", "lost: starting a new session");
  clearTimeout(retry);
  retry = setTimeout(connect, wait);
  // A WebSocket does not tell why it was refused; a plain request does.
  const why = await refusal();
  if (root.dataset.state === "lost" && why) show("lost", why);
}

async function refusal() {
  try {
    const { observed } = await call("GET", `/api/v1/spaces/${encodeURIComponent(space)}`);
    return observed === "running" ? null : `the space is ${observed}: a session starts once it runs`;
  } catch (error) {
    if (error.status === 401) signInAgain();
    if (error.status === 403 || error.status === 404) {
      clearTimeout(retry);
      show("ended", error.message);
    }
    return null;
  }
}

// What a program that was cut off may have left switched on: the alternate screen (1047 and not 1049, which would also
// move the cursor), mouse reports, bracketed paste, focus reports, a hidden cursor, margins, colours.
const TIDY = "\x1b[?1047;1000;1002;1003;1004;1006;2004l\x1b[?25h\x1b[!p\x1b[0m";

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
  else if (root.dataset.state === "ended" && input === "\r") connect();
});
terminal.onBinary((text) => session?.binaryInput(text));
terminal.onResize(() => {
  document.querySelector("#size").textContent = `${terminal.cols} × ${terminal.rows}`;
  session?.resize(size());
});
terminal.onTitleChange((title) => {
  document.title = title ? `${title} · knot terminal` : "knot terminal";
});

// Keys that are the page's and not the shell's.
terminal.attachCustomKeyEventHandler((event) => {
  const control = event.ctrlKey && !event.altKey && !event.metaKey;
  // Without a way out, the keyboard alone could never leave the terminal.
  if (control && event.key === "F6") {
    if (event.type === "keydown") document.querySelector(".bar a").focus();
    return false;
  }
  if (control && event.shiftKey && event.code === "KeyC" && terminal.hasSelection()) {
    if (event.type === "keydown") copy();
    event.preventDefault();
    return false;
  }
  // The browser pastes; xterm.js would send the control character.
  if (control && event.shiftKey && event.code === "KeyV") return false;
  return true;
});

function copy() {
  // Browsers offer the clipboard on secure pages only; the old command works on http://localhost's neighbours too.
  if (navigator.clipboard) navigator.clipboard.writeText(terminal.getSelection()).catch(() => document.execCommand("copy"));
  else document.execCommand("copy");
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
  connect();
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

// Back from sleep or from another network: try at once, and send something on an open connection, which makes the
// browser find out whether it still is one.
function awake() {
  if (document.hidden) return;
  if (root.dataset.state === "lost") connect();
  else session?.resize(size());
}
addEventListener("online", awake);
document.addEventListener("visibilitychange", awake);

// Control and W deletes a word in a shell, and closes the window in a browser. (Browsers ask only those who typed.)
addEventListener("beforeunload", (event) => {
  if (root.dataset.state === "connected") event.preventDefault();
});

new ResizeObserver(() => requestAnimationFrame(() => fit.fit())).observe(place);
showReader();
await drawFast();
fit.fit();
connect();
