// The page's side of the API: the token, requests, and the stream of events.
//
// The token comes in the address's fragment, which browsers never send. It stays in this tab, goes into the header
// Authorization of every request, and is taken out of the address bar.

const STALLED_MS = 15_000;
/** After a gap the page asks for a snapshot, but not more often than this. */
const RESYNC_MS = 2000;

/** Takes the token out of the address, or the one that this tab had before a reload. */
export function takeToken() {
  const token = decodeURIComponent(location.hash.slice(1));
  if (token) {
    sessionStorage.setItem("token", token);
    history.replaceState(null, "", location.pathname);
  }
  return token || sessionStorage.getItem("token") || "";
}

export class Api {
  constructor(token) {
    this.token = token;
    this.last = null;
    this.snapshotAt = 0;
  }

  headers(more = {}) {
    return { Authorization: `Bearer ${this.token}`, ...more };
  }

  /** Asks for JSON; throws an error with the server's explanation. */
  async get(path) {
    return this.read(await fetch(path, { headers: this.headers() }));
  }

  /** Runs an action and returns `{text, command}`. */
  async act(name, body) {
    const headers = this.headers({ "Content-Type": "application/json" });
    return this.read(await fetch(`/api/actions/${name}`, { method: "POST", headers, body: JSON.stringify(body) }));
  }

  async read(response) {
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? answer.title ?? `answer ${response.status}`);
    return answer;
  }

  /**
   * Follows the events for ever. `on` has `snapshot(data)`, `events(list)`, `skipped(n)` and `status(state, text)`.
   * After a gap it asks for a snapshot again, so that no card stays where it is not.
   */
  async follow(on) {
    for (let wait = 300; ; wait = Math.min(5000, wait * 2)) {
      try {
        await this.stream(on, () => (wait = 300));
        on.status("away", "the page's server has closed the stream");
      } catch (error) {
        if (error.status === 401) return on.status("refused", "this token is not valid (any more): open the address that `cargo hops live` prints");
        if (!error.resync) on.status("away", `no connection to the page's server (${error.message}): is \`cargo hops up\` running?`);
      }
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  async stream(on, alive) {
    const stop = new AbortController();
    let timer = setTimeout(() => stop.abort(new Error("silent")), STALLED_MS);
    try {
      const after = this.last === null ? "" : `?after=${this.last}`;
      const response = await fetch(`/api/events${after}`, { headers: this.headers({ Accept: "text/event-stream" }), signal: stop.signal });
      if (!response.ok) throw Object.assign(new Error(`answer ${response.status}`), { status: response.status });
      alive();
      on.status("connected", "");
      let skipped = false;
      const parser = new FrameParser();
      const decoder = new TextDecoder();
      for (const reader = response.body.getReader(); ; ) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => stop.abort(new Error("silent")), STALLED_MS);
        const events = [];
        for (const { event, data } of parser.push(decoder.decode(value, { stream: true }))) {
          if (event === "snapshot") {
            this.last = data.seq;
            this.snapshotAt = Date.now();
            on.snapshot(data);
          } else if (event === "skipped") {
            skipped = true;
            on.skipped(data.skipped);
          } else {
            events.push(data);
            this.last = data.seq ?? this.last;
          }
        }
        if (events.length) on.events(events);
        if (skipped && Date.now() - this.snapshotAt > RESYNC_MS) {
          this.last = null;
          stop.abort();
          throw Object.assign(new Error("events were skipped"), { resync: true });
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Parses the frames of an event stream, which may be cut anywhere. */
export class FrameParser {
  constructor() {
    this.rest = "";
  }

  push(chunk) {
    const frames = (this.rest + chunk).split(/\r?\n\r?\n/);
    this.rest = frames.pop();
    return frames.map(parse).filter(Boolean);
  }
}

function parse(frame) {
  let event = "message";
  const data = [];
  for (const line of frame.split(/\r?\n/)) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5));
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}
