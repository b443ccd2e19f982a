// Calls the API, and turns every way in which that fails into one kind of error with words for people.

export class Problem extends Error {
  constructor({ title, detail, status = 0, code = "", field = null, line = null }) {
    super(detail || title || "The server gave no reason.");
    this.status = status;
    this.code = code;
    // The field of the body that is refused, where it is one.
    this.field = field;
    // Where in a posted file the mistake is. Parsers say it in words only.
    this.line = line ?? (Number(/\bline (\d+)/i.exec(this.message)?.[1]) || null);
  }
}

// `body` is sent as JSON, or as it is if it is text (then of `type`). Every state-changing request carries a content
// type that plain forms cannot send: a page of another origin can then not make one without being asked first.
export async function call(method, path, body, type = "application/json") {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { accept: "application/json", ...(method === "GET" ? {} : { "content-type": type }) },
      body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
    });
  } catch {
    throw new Problem({ detail: "The server does not answer. Try again in a moment." });
  }
  const text = await response.text();
  const json = parsed(text);
  if (!response.ok) {
    throw new Problem({ title: `${response.status} ${response.statusText}`, ...json, status: response.status });
  }
  return json;
}

// The session ended, perhaps in another tab: come back here after signing in again.
export function signInAgain() {
  location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
