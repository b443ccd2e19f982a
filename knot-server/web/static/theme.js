// The terminal's colours, light and dark, of one contrast: each of the sixteen is readable on its background.

const dark = {
  background: "#101214", foreground: "#e2e5e8", cursor: "#5cc8b8", cursorAccent: "#101214",
  selectionBackground: "#2f4a58",
  black: "#3a4046", red: "#f2777a", green: "#7ec699", yellow: "#e5c07b", blue: "#7aa7f0", magenta: "#c594e0",
  cyan: "#62c3cf", white: "#cfd4d9",
  brightBlack: "#8a939c", brightRed: "#ff9a9c", brightGreen: "#a0e0b5", brightYellow: "#f3d79c",
  brightBlue: "#a2c4ff", brightMagenta: "#dcb6f2", brightCyan: "#8fdfe8", brightWhite: "#ffffff",
};

const light = {
  background: "#fcfcfb", foreground: "#22272c", cursor: "#0b7a6e", cursorAccent: "#fcfcfb",
  selectionBackground: "#bfe0dc",
  black: "#22272c", red: "#b3261e", green: "#1d7a3e", yellow: "#8a5a00", blue: "#1f5fbf", magenta: "#8a3aa8",
  cyan: "#0b7285", white: "#6b737b",
  brightBlack: "#5b636b", brightRed: "#c93a31", brightGreen: "#2b8a4c", brightYellow: "#96690f",
  brightBlue: "#2f72d6", brightMagenta: "#9c4cbb", brightCyan: "#16808f", brightWhite: "#4a5158",
};

export const prefersLight = matchMedia("(prefers-color-scheme: light)");

// Calls `apply` with the colours that the reader prefers, now and whenever that changes.
export function followTheme(apply) {
  const choose = () => apply(prefersLight.matches ? light : dark);
  prefersLight.addEventListener("change", choose);
  choose();
}
