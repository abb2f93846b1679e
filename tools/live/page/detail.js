// The panel beside the picture: what waits in a queue, what happened to one message, what a replica does.
//
// Bodies are shown only on request, and everything is shown as text. In a saved recording there is no API, so the panel
// shows what follows from the events.

import { byId, html, svg } from "./dom.js";
import { at, inFlight, stateWord } from "./state.js";
import { brokerWhy, clock, count, duration, placeWords, queueWhy, spans, story, taskWhy, withoutBody } from "./words.js";

export class Detail {
  constructor({ api, state, choose }) {
    Object.assign(this, { api, state, choose });
    this.panel = byId("detail");
    this.shown = null;
    this.extra = {};
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
  }

  open(kind, name) {
    if (!this.shown) this.opener = document.activeElement;
    this.shown = { kind, name };
    this.extra = {};
    this.signature = null;
    this.panel.hidden = false;
    this.panel.scrollTop = 0;
    this.update();
    this.panel.focus();
    this.load(kind, name);
  }

  close() {
    if (!this.shown) return;
    this.shown = null;
    this.panel.hidden = true;
    this.opener?.focus();
  }

  /** Asks the server for what events do not say. */
  async load(kind, name, more = "") {
    if (!this.api) return;
    const shown = this.shown;
    try {
      if (kind === "queue") this.extra.messages = await this.api.get(`/api/queues/${encodeURIComponent(name)}/messages${more}`);
      if (kind === "message") this.extra.message = await this.api.get(`/api/messages/${encodeURIComponent(name)}`);
      const place = kind === "message" && this.state().messages.get(name)?.place;
      if (place?.queue) this.extra.waiting = (await this.api.get(`/api/queues/${encodeURIComponent(place.queue)}/messages${more}`)).messages.find((each) => each.id === name) ?? null;
    } catch (error) {
      this.extra.error = error.message;
    }
    if (this.shown === shown) this.update();
  }

  /** Shows the state's present content. Built again only when it differs, so that focus and selection stay. */
  update() {
    if (!this.shown) return;
    const { kind, name } = this.shown;
    const content = { queue: () => this.queue(name), message: () => this.message(name), task: () => this.task(name) }[kind]();
    const fresh = html("div", {}, ...content);
    if (fresh.outerHTML === this.signature) return;
    this.signature = fresh.outerHTML;
    const focused = this.panel.contains(document.activeElement) ? document.activeElement.dataset.keep : undefined;
    const { scrollTop } = this.panel;
    const close = html("button", { type: "button", class: "close", "data-keep": "close", "aria-label": "Close", onclick: () => this.close() }, "×");
    this.panel.replaceChildren(close, fresh);
    this.panel.scrollTop = scrollTop;
    if (focused) [...this.panel.querySelectorAll("[data-keep]")].find((each) => each.dataset.keep === focused)?.focus();
  }

  head(title, kind, words) {
    return [html("p", { class: "kind" }, kind), html("h2", {}, title), html("p", { class: "words" }, words)];
  }

  link(id, label = id) {
    return html("button", { type: "button", class: "link", "data-keep": `m${id}`, onclick: () => this.open("message", id) }, label);
  }

  queue(name) {
    const state = this.state();
    const queue = state.queues.get(name) ?? { name, ready: 0 };
    const ids = queue.role === "stream" ? [...at(state, "done")].reverse() : [...at(state, `queue:${name}`)];
    const flight = queue.role === "work" ? inFlight(state, name) : 0;
    const words = ids.length
      ? `${count(ids.length, "card")} by the events, ${count(queue.ready ?? 0, "message")} ready by the broker's count, ${count(queue.consumers ?? 0, "consumer")}.`
      : `${queueWhy(queue, state)}.${flight ? ` ${count(flight, "message")} in flight.` : ""}`;
    const list = html("ol", { class: "waiting" }, ...ids.slice(0, 100).map((id) => {
      const message = state.messages.get(id);
      const attempts = message.attempts ? `, ${count(message.attempts, "attempt")}` : "";
      return html("li", {}, this.link(id), html("span", {}, `account ${message.account ?? "unknown"}, since ${clock(message.place.since)}${attempts}`));
    }));
    return [...this.head(name, queue.role === "stream" ? "stream" : `${queue.role ?? ""} queue`, words), list,
      ids.length > 100 && html("p", { class: "faint" }, `and ${ids.length - 100} more`), ...this.peek(queue)];
  }

  peek(queue) {
    if (!this.api || queue.role === "stream") return [];
    const { messages, error } = this.extra;
    if (error) return [html("p", { class: "why" }, error)];
    if (!messages) return [html("p", { class: "faint" }, "asking the broker…")];
    return [html("h3", {}, "As the broker has them"),
      html("p", { class: "faint" }, messages.messages.length
        ? `The first ${messages.messages.length}${messages.more ? `, and ${messages.more} more` : ""}. They stay in the queue.`
        : "The broker has none ready here."),
      ...messages.messages.map((each) => html("details", {}, html("summary", { "data-keep": `p${each.id}` }, each.id ?? "(no id)"), this.properties(each))),
      html("button", { type: "button", "data-keep": "again", onclick: () => this.load("queue", queue.name) }, "Look again")];
  }

  properties(each) {
    const rows = Object.entries({ ...each.properties, ...each.headers, bytes: each.bytes, attempt: each.attempt });
    const body = () => this.load(this.shown.kind, this.shown.name, "?body=1");
    const show = each.body === undefined
      ? this.api && html("button", { type: "button", "data-keep": `b${each.id}`, onclick: body }, "Show the body")
      : html("pre", {}, typeof each.body === "string" ? pretty(each.body) : JSON.stringify(each.body, null, 2));
    return html("div", {}, facts(rows), show);
  }

  message(id) {
    const state = this.state();
    const message = state.messages.get(id);
    if (!message) return this.head(id, "message", "It is not in this recording at this moment.");
    const request = state.requests.get(message.request);
    const { waiting, error } = this.extra;
    const lines = this.extra.message?.lines ?? [];
    const replicas = [...new Set(message.history.map((each) => each.task).filter(Boolean))].join(", ");
    const where = !this.api ? "A recording has no properties and no bodies."
      : error ?? (message.place.queue ? "The broker does not show it at the head of its queue." : "They can be seen while the message waits in a queue.");
    return [...this.head(id, "message", `${placeWords(message)}.`),
      facts([
        ["account", message.account ?? "unknown"], ["request", message.request ?? "none"], ["attempts", message.attempts], ["replicas", replicas],
        ["redelivered", message.redelivered ? "yes" : "no"], ["returned", message.returned], ["duplicates", message.duplicates],
      ]),
      html("h3", {}, "Waterfall"), waterfall(spans(message, request, state.now)),
      !request?.hops[1] && html("p", { class: "faint" }, "The request is not shown: hops 1 to 3 are logged at level debug, or were before this recording."),
      html("h3", {}, "In words"),
      html("ol", { class: "story" }, ...story(message, request).map(({ t, text }) => html("li", {}, t !== undefined && html("time", {}, clock(t, true)), text))),
      html("h3", {}, "Properties"),
      waiting ? this.properties(waiting) : html("p", { class: "faint" }, where),
      lines.length > 0 && html("h3", {}, "Log lines of its request"),
      lines.length > 0 && html("ol", { class: "lines" }, ...lines.map((each) => html("li", {}, html("b", {}, each.task), ` ${withoutBody(each.text)}`)))];
  }

  task(name) {
    const state = this.state();
    const task = state.tasks.get(name);
    if (!task) return this.head(name ?? "broker", "replica", brokerWhy(state.broker) || "It is gone.");
    this.choose(name, task.service);
    const ids = [...at(state, `task:${name}`), ...at(state, `outbox:${name}`)];
    const known = [["state", `${stateWord(task.state)} since ${clock(task.since)}`], ["process", task.pid ?? task.process], ["image", task.image], ["node", task.node], ["outbox", task.outbox], ["last error", task.error]];
    const lines = state.log.filter((each) => each.who === name).slice(-30).reverse();
    return [...this.head(name, "replica", ids.length ? `${count(ids.length, "message")} here.` : `${taskWhy(task, state)}.`),
      facts(known),
      html("p", { class: "faint" }, "It is chosen under “Replicas”, where it can be killed, frozen and thawed."),
      ids.length > 0 && html("ol", { class: "waiting" }, ...ids.slice(0, 100).map((id) => html("li", {}, this.link(id)))),
      html("h3", {}, "What it did"),
      lines.length ? html("ol", { class: "lines" }, ...lines.map((each) => html("li", {}, html("time", {}, clock(each.t, true)), ` ${each.text}`))) : html("p", { class: "faint" }, "Nothing was logged in this recording.")];
  }
}

/** Lists names and values; undefined ones are left out. */
function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null);
  return html("dl", {}, ...known.flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value))]));
}

/** Draws spans as bars. A walk takes milliseconds and a wait may take hours, so long gaps are drawn shortened. */
function waterfall(list) {
  if (list.length === 0) return html("p", { class: "faint" }, "No span is known yet.");
  const times = [...new Set(list.flatMap((each) => [each.from, each.to]))].sort((a, b) => a - b);
  const x = new Map([[times[0], 0]]);
  // The root keeps the order and shows 0.1 ms beside minutes.
  for (let i = 1; i < times.length; i += 1) x.set(times[i], x.get(times[i - 1]) + Math.sqrt(Math.min(times[i] - times[i - 1], 60_000)) + 0.02);
  const scale = 236 / Math.max(0.001, x.get(times.at(-1)));
  const row = 24;
  const label = list.map((each) => `${each.name} at ${each.who}: ${duration(each.to - each.from)}`).join("; ");
  return svg("svg", { class: "waterfall", viewBox: `0 0 440 ${list.length * row}`, role: "img", "aria-label": label },
    ...list.map((each, i) => {
      const left = 140 + x.get(each.from) * scale;
      const wide = Math.max(2, (x.get(each.to) - x.get(each.from)) * scale);
      const kind = `span ${each.kind}${each.open ? " open" : ""}${each.depth ? " inner" : ""}`;
      return svg("g", {}, svg("title", {}, `${each.name}, ${each.who}: ${duration(each.to - each.from)}`),
        svg("text", { x: each.depth * 10, y: i * row + 15, class: "span-name" }, each.name.replace(/ \S+\.(retry\.\d+|dead)$/, " $1")),
        svg("rect", { x: left, y: i * row + 5, width: wide, height: 13, rx: 3, class: kind }),
        svg("text", { x: Math.min(left + wide + 5, 384), y: i * row + 15, class: "span-time" }, `${duration(each.to - each.from)}${each.open ? "…" : ""}`));
    }));
}

function pretty(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

