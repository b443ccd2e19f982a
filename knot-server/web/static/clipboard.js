// Puts text into the clipboard, however the browser lets a page do so.

// Whether it could. Browsers offer the clipboard to secure pages only; the old command works elsewhere too, for a
// moment after somebody has pressed a key.
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByCommand(text);
  }
}

function copyByCommand(text) {
  let done = false;
  const fill = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
    event.stopImmediatePropagation();
    done = true;
  };
  // Some browsers copy nothing where nothing is selected, unless they are told that there is something.
  const allow = (event) => event.preventDefault();
  addEventListener("beforecopy", allow, { capture: true });
  addEventListener("copy", fill, { capture: true });
  document.execCommand("copy");
  removeEventListener("beforecopy", allow, { capture: true });
  removeEventListener("copy", fill, { capture: true });
  return done;
}
