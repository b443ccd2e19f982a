// One terminal session over one WebSocket. It does not know how things look.

const OUTPUT = 1;
const ERROR_OUTPUT = 2;
// A paste is cut into messages of this size, so that none is larger than a server takes.
const LARGEST_INPUT = 32 * 1024;

const encoder = new TextEncoder();

export class Session {
  #socket;
  #done = false;

  // `on` has: opened(), output(bytes), ended(text), lost(wasOpen). Exactly one of the last two comes, and is last.
  constructor(space, terminal, on) {
    const address = new URL(`/api/v1/spaces/${encodeURIComponent(space)}/exec`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => {
      opened = true;
      // No command: the space's own shell.
      const environment = { TERM: "xterm-256color", COLORTERM: "truecolor" };
      socket.send(JSON.stringify({ command: [], environment, directory: null, terminal }));
      on.opened();
    };
    socket.onmessage = ({ data }) => {
      if (this.#done) return;
      if (data instanceof ArrayBuffer) {
        const bytes = new Uint8Array(data);
        if (bytes[0] === OUTPUT || bytes[0] === ERROR_OUTPUT) on.output(bytes.subarray(1));
        return;
      }
      const end = ending(JSON.parse(data));
      if (!end) return;
      this.#done = true;
      socket.close();
      on.ended(end);
    };
    socket.onclose = () => {
      if (this.#done) return;
      this.#done = true;
      on.lost(opened);
    };
    this.#socket = socket;
  }

  input(text) {
    this.#send(encoder.encode(text));
  }

  // Mouse reports of programs that use the old encoding: one byte a character, and no UTF-8.
  binaryInput(text) {
    this.#send(Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff));
  }

  resize(terminal) {
    if (this.#open) this.#socket.send(JSON.stringify({ resize: terminal }));
  }

  get #open() {
    return !this.#done && this.#socket.readyState === WebSocket.OPEN;
  }

  #send(bytes) {
    for (let start = 0; start < bytes.length && this.#open; start += LARGEST_INPUT) {
      this.#socket.send(bytes.subarray(start, start + LARGEST_INPUT));
    }
  }
}

function ending({ exit, failed }) {
  if (failed !== undefined) return `failed: ${failed}`;
  if (exit?.signal !== undefined) return `ended by signal ${exit.signal}`;
  if (exit) return `ended with status ${exit.code}`;
  return null;
}
