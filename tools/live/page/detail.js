// The panel beside the picture: what waits in a queue, and what happened to one message.
//
// Its upper part follows the state, its lower part is what the server has answered. Bodies are shown only on request.
// In a saved recording there is no API, so the panel shows what follows from the events.

import { byId, h, link, setText, sync } from "./dom.js";
import { at, CHANGES, lastChange } from "./state.js";
import { clock, count, duration, placeWords, positionWords, queueWhy, spans, story } from "./words.js";

const LIST_LIMIT = 100;

export class Detail {
  constructor({ api, state }) {
    Object.assign(this, { api, state, shown: null, panel: byId("detail") });
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    this.part(".close").addEventListener("click", () => this.close());
  }

  part = (selector) => this.panel.querySelector(selector);

  open(kind, name) {
    if (!this.shown) this.opener = document.activeElement;
    this.shown = { kind, name };
    this.part(".kind").textContent = kind;
    this.part("h2").textContent = name;
    for (const each of [".now", ".waiting", ".asked"]) this.part(each).replaceChildren();
    this.panel.hidden = false;
    this.panel.scrollTop = 0;
    this.update();
    this.panel.focus();
    this.ask();
  }

  close() {
    if (!this.shown) return;
    this.shown = null;
    this.panel.hidden = true;
    this.opener?.focus();
  }

  /** Shows the state's present content; built again only when it differs, so that a selection stays. */
  update() {
    if (!this.shown) return;
    const { kind, name } = this.shown;
    const fresh = h("div", {}, ...(kind === "queue" ? this.queue(name) : this.message(name)));
    if (this.part(".now").innerHTML !== fresh.outerHTML) this.part(".now").replaceChildren(fresh);
  }

  queue(name) {
    const state = this.state();
    if (name === CHANGES) return replicas(state.positions, lastChange(state));
    const queue = state.queues.get(name) ?? { role: "work", ready: 0, consumers: 0 };
    const ids = queue.role === "stream" ? [...at(state, "done")].reverse() : [...at(state, `queue:${name}`)];
    const items = ids.slice(0, LIST_LIMIT).map((id) => ({ key: id, ...state.messages.get(id) }));
    const item = ({ id }) => h("li", {}, link(id, () => this.open("message", id)), h("span"));
    const words = ({ account = "?", place, attempts }) =>
      `account ${account}, since ${clock(place.since)}, ${count(attempts, "attempt")}`;
    sync(this.part(".waiting"), items, item, (element, each) => setText(element.lastChild, words(each)));
    const numbers = `${queue.ready} ready by the broker's count, ${count(queue.consumers, "consumer")}`;
    return [h("p", {}, `${ids.length ? count(ids.length, "card") : queueWhy(queue, state)}; ${numbers}.`),
      ids.length > LIST_LIMIT && faint(`The first ${LIST_LIMIT} of ${ids.length} are:`)];
  }

  message(id) {
    const state = this.state();
    const message = state.messages.get(id);
    if (!message) return [h("p", {}, "It is not in this recording at this moment.")];
    const { account, request: name, attempts, returned, duplicates, history, place } = message;
    const request = state.requests.get(name);
    const replicas = [...new Set(history.map((each) => each.task).filter(Boolean))].join(", ");
    const redelivered = history.some((each) => each.redelivered);
    return [h("p", {}, `${placeWords(place)}.`),
      facts({ account, request: name, attempts, replicas, redelivered, returned, duplicates }),
      h("h3", {}, "Waterfall"), waterfall(spans(message, request, state.now)),
      !request?.hops[1] && faint("Hops 1 to 3 are logged at level debug, or were before this recording."),
      h("h3", {}, "In words"),
      h("ol", { class: "lines" }, ...story(message, request).map((each) => line(each, h("small", {}, each.gap))))];
  }

  /** Asks the server for what events do not say, with bodies if `body` is set. */
  async ask(body = "") {
    const { shown } = this;
    const { messages, queues } = this.state();
    const isQueue = shown.kind === "queue";
    const queue = isQueue ? shown.name : messages.get(shown.name)?.place.queue;
    const show = (...parts) => this.shown === shown && this.part(".asked").replaceChildren(...parts);
    if (!this.api) return show(faint("A recording has no properties and no bodies."));
    try {
      const hasList = queue !== undefined && queues.get(queue)?.role !== "stream";
      const list = hasList && (await this.api.get(`/api/queues/${encodeURIComponent(queue)}/messages${body}`));
      const known = !isQueue && (await this.api.get(`/api/messages/${encodeURIComponent(shown.name)}`));
      const chosen = list ? list.messages.filter(({ id }) => isQueue || id === shown.name) : [];
      const more = list && `The broker showed ${list.messages.length}, which stay in the queue; ${list.more} more.`;
      show(h("h3", {}, "As the broker has it"), faint(more || "It can be seen while it waits in a queue."),
        ...chosen.map((each) => properties(each, isQueue)), button("Look again", () => this.ask()),
        button("Show bodies", () => this.ask("?body=1")), known ? h("h3", {}, "Log lines of its request") : "",
        known ? h("ol", { class: "lines" }, ...known.lines.map(ofLine)) : "");
    } catch (error) {
      show(faint(error.message));
    }
  }
}

function replicas(positions, last) {
  if (!last) return [faint("No change at this moment.")];
  const words = [...positions].sort().map(([task, each]) => [task, `entry ${positionWords(each, last)}`]);
  return [h("p", {}, "The last entry that each replica has read:"), facts(Object.fromEntries(words))];
}

/** Makes the line of something that happened. */
export const line = ({ t, who, text, tone = "" }, more = "") =>
  h("li", { class: tone }, h("time", {}, clock(t, true)), h("b", {}, who), h("span", {}, text, " ", more));
const ofLine = ({ at: t, task: who, text }) => line({ t: Date.parse(t), who, text });
const button = (text, onclick) => h("button", { type: "button", onclick }, text);
const faint = (text) => h("p", { class: "faint" }, text);

function properties({ id = "(no id)", properties: known, headers, bytes, attempt, body }, isFolded) {
  const more = body === undefined ? "" : h("pre", {}, body);
  const open = !isFolded || more !== "";
  return h("details", { open }, h("summary", {}, id), facts({ ...known, ...headers, bytes, attempt }), more);
}

/** Lists names and values; undefined ones are left out. */
function facts(values) {
  const known = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  return h("dl", {}, ...known.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, text(value))]));
}

/** Draws spans as bars. A walk takes milliseconds and a wait may take hours, so long gaps are drawn shortened. */
function waterfall(list) {
  const times = [...new Set(list.flatMap((each) => [each.from, each.to]))].sort((a, b) => a - b);
  const x = new Map([[times[0], 0]]);
  // The root keeps the order and shows 0.1 ms beside minutes.
  const step = (from, to) => Math.sqrt(Math.min(to - from, 60_000)) + 0.02;
  times.slice(1).forEach((to, i) => x.set(to, x.get(times[i]) + step(times[i], to)));
  const scale = 236 / Math.max(0.001, x.get(times.at(-1)) ?? 0);
  const row = 24;
  const words = list.map(({ name, who, from, to }) => `${name} at ${who}: ${duration(to - from)}`);
  const bars = list.map(({ name, from, to, kind, depth, open }, i) => {
    const left = 140 + x.get(from) * scale;
    const width = Math.max(2, (x.get(to) - x.get(from)) * scale);
    const [y, text] = [i * row + 15, `${duration(to - from)}${open ? "…" : ""}`];
    const bar = { x: left, y: y - 10, width, height: 13, rx: 3, class: `span ${kind}${depth || open ? " part" : ""}` };
    const short = name.replace(/ \S+\.(retry\.\d+|dead)$/, " $1");
    return h("svg:g", {}, h("svg:title", {}, words[i]), h("svg:text", { x: depth * 10, y }, short), h("svg:rect", bar),
      h("svg:text", { x: Math.min(left + width + 5, 384), y, class: "span-time" }, text));
  });
  const viewBox = `0 0 440 ${list.length * row}`;
  return h("svg:svg", { class: "waterfall", role: "img", "aria-label": words.join("; "), viewBox }, ...bars);
}
