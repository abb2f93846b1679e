// The page's side of the API: the token, requests, and the stream of events.
//
// The token comes in the address's fragment, which browsers never send. It stays in this tab, goes into the header
// Authorization of every request, and is taken out of the address bar.

/** The server sends a comment every 5 s, so a stream that is silent for longer is dead. */
const SILENT_MS = 15_000;

/** Takes the token out of the address, or the one that this tab had before a reload. */
function takeToken() {
  const token = decodeURIComponent(location.hash.slice(1));
  if (token) sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname);
  return sessionStorage.getItem("token");
}

export class Api {
  token = takeToken();

  get = async (path) => (await this.ask(path)).json();
  act = async (name, body) => (await this.ask(`/api/actions/${name}`, body)).json();

  /** Sends a request, as POST if there is a body; throws an error with the server's explanation. */
  async ask(path, body, signal) {
    const headers = { Authorization: `Bearer ${this.token}`, ...(body && { "Content-Type": "application/json" }) };
    const response = await fetch(path, { method: body ? "POST" : "GET", headers, body: JSON.stringify(body), signal });
    if (response.ok) return response;
    const { detail = `answer ${response.status}` } = await response.json().catch(() => ({}));
    throw Object.assign(new Error(detail), { status: response.status });
  }

  /** Follows the events for ever. Each connection begins with a snapshot, and another one comes after a gap. */
  async follow(on) {
    for (let wait = 300; ; wait = Math.min(5000, wait * 2)) {
      try {
        await this.stream(on);
        on.status("away", "stopped: `cargo hops up` starts it again");
      } catch ({ status, message }) {
        if (status === 401) return on.status("refused", "this token is not valid: `cargo hops live` prints another");
        on.status("away", `no connection to the page's server (${message}): is \`cargo hops up\` running?`);
      }
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  async stream(on) {
    const stop = new AbortController();
    let alive = Date.now();
    const watch = setInterval(() => Date.now() - alive > SILENT_MS && stop.abort(new Error("silent")), 1000);
    try {
      const { body } = await this.ask("/api/events", undefined, stop.signal);
      on.status("connected", "");
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new FrameParser();
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        alive = Date.now();
        const frames = parser.push(next.value);
        for (const { event, data } of frames) if (event === "snapshot") on.snapshot(data);
        for (const { event, data } of frames) if (event === "skipped") on.skipped(data.skipped);
        on.events(frames.filter(({ event }) => event === "message").map(({ data }) => data));
      }
    } finally {
      clearInterval(watch);
    }
  }
}

/** Parses the frames of an event stream, which may be cut anywhere. */
export class FrameParser {
  rest = "";

  push(chunk) {
    const frames = (this.rest + chunk).split(/\r?\n\r?\n/);
    this.rest = frames.pop();
    return frames.flatMap((frame) => {
      const field = (name) => new RegExp(`^${name}:(.*)$`, "m").exec(frame)?.[1].trim();
      return field("data") ? [{ event: field("event") ?? "message", data: JSON.parse(field("data")) }] : [];
    });
  }
}
