// What programs ask of a terminal (what it is, where its cursor is, which colours it has) is answered as if it were
// typed. Of several windows on one terminal only one may answer, and none to what it is shown again.

const SEQUENCES = [
  { final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" },
  { final: "n" }, { prefix: "?", final: "n" },
  { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" },
  { prefix: ">", final: "q" }, { prefix: "?", final: "u" }, { prefix: "?", final: "S" },
  { final: "x" }, { intermediates: "$", final: "w" }, { intermediates: "*", final: "y" },
];
// Reports of windows: the others set something.
const WINDOW_REPORTS = [11, 13, 14, 15, 16, 18, 19, 20, 21];
const COLOURS = [4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21];
const CLIPBOARD = 52;

// While `muted()` is true the terminal answers nothing, and leaves the clipboard alone.
export function muteQueries({ parser }, muted) {
  for (const sequence of SEQUENCES) parser.registerCsiHandler(sequence, () => muted());
  parser.registerCsiHandler({ final: "t" }, ([kind]) => WINDOW_REPORTS.includes(kind) && muted());
  parser.registerEscHandler({ final: "Z" }, () => muted());
  for (const number of COLOURS) {
    parser.registerOscHandler(number, (data) => /(^|[;=])\?(;|$)/.test(data) && muted());
  }
  // Programs may put something into the clipboard. What is in it is nobody's in the space, and not even whether
  // there is one: who asks gets no answer.
  parser.registerOscHandler(CLIPBOARD, (data) => muted() || data.split(";")[1]?.trim() === "?");
  for (const intermediates of ["$", "+"]) parser.registerDcsHandler({ intermediates, final: "q" }, () => muted());
}
