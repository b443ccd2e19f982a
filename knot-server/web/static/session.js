// One viewer of one terminal that a space keeps. It does not know how things look.
//
// The connection may be lost at any time and through any server: another is opened, which says how far this viewer
// has come. Output comes once and in order; what is typed is kept until the server says that it was taken.

// A paste is cut into messages of this size, so that none is larger than a server takes.
const LARGEST_INPUT = 32 * 1024;
// So much is sent ahead of what was taken: a server refuses more than 256 KiB.
const SENT_AHEAD = 128 * 1024;
// How much is shown before the server is told: it sends no more than 1 MiB ahead.
const SHOWN_EVERY = 64 * 1024;
// Browsers let a window that nobody sees draw next to nothing. It says at once that all was shown, so as to hold no
// program up; beyond so much that it has not drawn it lets output go by, and asks for the screen once that is quiet
// or somebody looks.
const UNDRAWN = 4 * 1024 * 1024;
// Waits between attempts, in milliseconds, and how long one may take.
const SHORTEST_WAIT = 250;
const LONGEST_WAIT = 8_000;
const OPENING = 10_000;
// What was typed is taken within this time, or the connection is tried again: it may be one that is open at this end
// only, as after a change of networks.
const TAKEN_WITHIN = 5_000;
// A clock that leaps by more than this was a machine that slept.
const SLEPT = 15_000;
const WATCH = 2_000;

const encoder = new TextEncoder();

export class Session {
  #space;
  #terminal;
  #make;
  #viewer = randomId();
  #size;
  #sizeTold;
  #on;
  #socket = null;
  #attached = false;
  #done = false;
  // The number of the next output byte; null until a snapshot is whole.
  #at = null;
  #drawing = null;
  // How many there were when this connection began.
  #head = 0;
  // How much of the input was taken, what was typed since, and how much of that this connection was sent.
  #taken = 0;
  #typed = [];
  #sent = 0;
  #waitsSince = null;
  #patience = TAKEN_WITHIN;
  // What came by this connection, and what of it was shown and told.
  #received = 0;
  #shown = 0;
  #told = 0;
  // What is not drawn yet, by whatever connection; whether output goes by, and whether some has since the last look.
  #undrawn = 0;
  #skips = false;
  #flows = false;
  #failures = 0;
  #why = null;
  #retry;
  #began = 0;
  #clock = Date.now();
  #watch;

  // `make` is what a new terminal runs, or null to look at one that there is. `on` has: attached(place),
  // snapshot(), output(bytes, replayed, done), size(size), leads(whether), lost(opened, why), over(over), the last, and
  // seen(), which says whether anybody can see it. A connection is lost for a reason that the server gave, or null.
  constructor(space, terminal, make, size, on) {
    this.#space = space;
    this.#terminal = terminal;
    this.#make = make;
    this.#size = size;
    this.#on = on;
    this.#watch = setInterval(() => this.#look(), WATCH);
    this.#connect();
  }

  // Types text.
  input(text) {
    this.#type(encoder.encode(text));
  }

  // Mouse reports of programs that use the old encoding: one byte a character, and no UTF-8.
  binaryInput(text) {
    this.#type(Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff));
  }

  // The window has another size.
  resize(size) {
    this.#size = size;
    if (this.#attached) this.#say({ resize: size });
  }

  // Opens another connection at once: this one may be dead, or none may be there.
  again() {
    if (!this.#done) this.#connect();
  }

  // Somebody looks again: what has gone by is not drawn any more, but the screen as it is.
  catchUp() {
    if (this.#skips) this.again();
  }

  // Looks at it no more. The terminal lives on.
  close() {
    this.#done = true;
    clearTimeout(this.#retry);
    clearInterval(this.#watch);
    this.#drop();
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#drop();
    const path = `/api/v1/spaces/${encodeURIComponent(this.#space)}/terminals/${this.#terminal}`;
    const address = new URL(path, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#began = Date.now();
    this.#received = this.#shown = this.#told = 0;
    this.#skips = this.#flows = false;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      const view = { make: this.#make, viewer: this.#viewer, size: this.#size, from: this.#at, sent: this.#taken };
      this.#sizeTold = this.#size;
      socket.send(JSON.stringify(view));
    };
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.#output(new Uint8Array(data));
      else this.#hear(JSON.parse(data));
    };
    socket.onclose = () => this.#lost(opened);
  }

  // Lets go of the connection, whatever state it is in.
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#attached = false;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #lost(opened) {
    this.#drop();
    if (this.#done) return;
    this.#on.lost(opened, this.#why);
    this.#why = null;
    const wait = Math.min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** this.#failures) * (0.5 + Math.random() / 2);
    this.#failures += 1;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), wait);
  }

  #hear(message) {
    if (message.attached) this.#begin(message.attached);
    else if (message.snapshot) {
      this.#at = null;
      this.#drawing = { left: message.snapshot.length, at: message.snapshot.at };
      if (!this.#skips) this.#on.snapshot();
    } else if (message.taken !== undefined) this.#take(message.taken);
    else if (message.size) this.#on.size(message.size);
    else if (message.leads !== undefined) this.#on.leads(message.leads);
    else if (message.over) this.#over(message.over);
  }

  #begin(place) {
    this.#attached = true;
    this.#make = null;
    this.#failures = 0;
    this.#at = place.from;
    this.#head = place.head;
    this.#drawing = null;
    this.#sent = Infinity;
    this.#take(place.taken);
    this.#on.attached(place);
    if (this.#size !== this.#sizeTold) this.resize(this.#size);
    // What was not taken is typed again.
    this.#sent = 0;
    this.#flush();
    if (this.#typed.length) this.#waitsSince = Date.now();
  }

  #output(bytes) {
    this.#received += bytes.length;
    if (this.#skip()) return;
    let replayed = true;
    if (this.#drawing) {
      this.#drawing.left -= bytes.length;
      if (this.#drawing.left <= 0) {
        this.#at = this.#drawing.at;
        this.#drawing = null;
      }
    } else {
      // What is older than the connection is a replay, to the byte.
      const old = Math.max(0, Math.min(bytes.length, this.#head - this.#at));
      if (old > 0 && old < bytes.length) {
        this.#received -= bytes.length;
        this.#output(bytes.subarray(0, old));
        this.#output(bytes.subarray(old));
        return;
      }
      replayed = old > 0;
      this.#at += bytes.length;
    }
    const socket = this.#socket;
    this.#undrawn += bytes.length;
    this.#on.output(bytes, replayed, () => {
      this.#undrawn -= bytes.length;
      if (socket !== this.#socket) return;
      this.#shown += bytes.length;
      if (this.#shown - this.#told >= SHOWN_EVERY || this.#shown === this.#received) this.#tell(this.#shown);
    });
    if (!this.#on.seen()) this.#tell(this.#received);
  }

  #tell(shown) {
    if (shown <= this.#told) return;
    this.#told = shown;
    this.#say({ shown });
  }

  // Whether output goes by undrawn: it does once too much of it waits in a window that nobody sees.
  #skip() {
    if (!this.#skips && (this.#undrawn < UNDRAWN || this.#on.seen())) return false;
    this.#skips = this.#flows = true;
    this.#at = null;
    this.#drawing = null;
    this.#tell(this.#received);
    return true;
  }

  // So much of the input was taken, by whatever connection.
  #take(taken) {
    let known = taken - this.#taken;
    if (known > 0) this.#patience = TAKEN_WITHIN;
    this.#sent = Math.max(0, this.#sent - known);
    while (known > 0 && this.#typed.length) {
      const first = this.#typed[0];
      if (first.length > known) this.#typed[0] = first.subarray(known);
      else this.#typed.shift();
      known -= Math.min(known, first.length);
    }
    this.#taken = Math.max(this.#taken, taken);
    this.#waitsSince = this.#typed.length ? Date.now() : null;
    this.#flush();
  }

  #over(over) {
    if (over.reason === "server_going" || over.reason === "unreachable") {
      // The server that goes says so in time: another one takes over at once.
      if (over.reason === "server_going") this.#failures = 0;
      this.#why = over.reason;
      return;
    }
    if (this.#skips) {
      // Nobody has seen what it said last.
      this.#lost(true);
      return;
    }
    this.close();
    this.#on.over(over);
  }

  #type(bytes) {
    if (this.#done) return;
    for (let start = 0; start < bytes.length; start += LARGEST_INPUT) {
      this.#typed.push(bytes.slice(start, start + LARGEST_INPUT));
    }
    this.#waitsSince ??= Date.now();
    this.#flush();
  }

  // Sends what this connection was not sent yet, as far ahead as may be.
  #flush() {
    if (!this.#attached) return;
    let start = 0;
    for (const bytes of this.#typed) {
      const end = start + bytes.length;
      if (end > this.#sent && this.#sent < SENT_AHEAD) {
        this.#send(bytes.subarray(this.#sent - start));
        this.#sent = end;
      }
      start = end;
    }
  }

  #send(bytes) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(bytes);
  }

  #say(message) {
    this.#send(JSON.stringify(message));
  }

  // A socket does not tell that its network is gone. A clock that leapt does, and so does input that nobody takes.
  #look() {
    const now = Date.now();
    const slept = now - this.#clock > SLEPT;
    this.#clock = now;
    const stuck = this.#attached && this.#waitsSince !== null && now - this.#waitsSince > this.#patience;
    const silent = this.#socket && !this.#attached && now - this.#began > OPENING;
    const quiet = this.#skips && !this.#flows && this.#undrawn === 0;
    this.#flows = false;
    if (stuck) this.#patience *= 2;
    if (slept || stuck || quiet) this.again();
    else if (silent) this.#lost(false);
  }
}

// `crypto.randomUUID` is there on secure pages only.
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
