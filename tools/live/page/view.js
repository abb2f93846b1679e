// The picture: draws the layout as SVG and lets cards travel with Web Animations.
//
// A box is built again only when what it shows has changed. At most 50 cards a second are animated; the others appear
// at their place and are counted there, so the picture stays calm under any load.

import { byId, fit, svg } from "./dom.js";
import { CARD, layout } from "./layout.js";
import { stateWord } from "./state.js";
import { clock, placeWords, shortId } from "./words.js";

const DRAWN_PER_SECOND = 50;
const TRAVEL_MS = 620;

export class View {
  constructor({ onQueue, onMessage, onTask }) {
    this.on = { onQueue, onMessage, onTask };
    this.stage = byId("stage");
    this.layers = Object.fromEntries(["frames", "arrows", "boxes", "cards", "sparks"].map((name) => [name, this.stage.appendChild(svg("g", { class: name }))]));
    this.boxes = new Map();
    this.cards = new Map();
    this.arrows = new Map();
    this.budget = DRAWN_PER_SECOND;
    this.drawn = 0;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
  }

  /** Draws a state; `still` says that cards must not travel. */
  draw(state, system, still) {
    const time = performance.now();
    this.budget = Math.min(DRAWN_PER_SECOND, this.budget + ((time - this.drawn) * DRAWN_PER_SECOND) / 1000);
    this.drawn = time;
    const width = Math.max(300, Math.floor(this.stage.parentElement.clientWidth));
    const picture = layout(state, { width, system });
    still ||= this.calm.matches || width !== this.width;
    this.width = width;
    this.stage.setAttribute("viewBox", `0 0 ${width} ${Math.ceil(picture.height)}`);
    this.stage.setAttribute("height", Math.ceil(picture.height));
    this.drawArrows(picture);
    this.drawBoxes(picture);
    const moves = state.moves.splice(0);
    this.drawCards(picture, state, moves, still);
    if (!still) this.sparks(picture, moves);
  }

  drawArrows(picture) {
    const seen = new Set();
    for (const arrow of picture.arrows) {
      seen.add(arrow.key);
      let path = this.arrows.get(arrow.key);
      if (!path) this.arrows.set(arrow.key, (path = this.layers.arrows.appendChild(svg("path", { class: "arrow" }))));
      if (path.getAttribute("d") !== arrow.d) path.setAttribute("d", arrow.d);
    }
    for (const [key, path] of this.arrows) if (!seen.has(key)) path.remove(), this.arrows.delete(key);
  }

  drawBoxes(picture) {
    const seen = new Set();
    let last = null;
    for (const box of picture.boxes) {
      seen.add(box.key);
      const signature = JSON.stringify(box);
      let known = this.boxes.get(box.key);
      const back = ["broker", "node"].includes(box.kind);
      if (!known) {
        known = { g: svg("g", {}) };
        // The Tab key follows the order of the elements, so a new box goes behind the one before it in the picture.
        if (back) this.layers.frames.append(known.g);
        else last ? last.after(known.g) : this.layers.boxes.prepend(known.g);
        this.boxes.set(box.key, known);
        this.listen(known, box);
      }
      if (!back) last = known.g;
      if (known.signature === signature) continue;
      known.signature = signature;
      known.box = box;
      known.g.setAttribute("class", `box ${box.kind}`);
      known.g.setAttribute("transform", `translate(${box.x} ${box.y})`);
      setData(known.g, box);
      known.g.replaceChildren(...(DRAW[box.kind] ?? drawEmpty)(box));
    }
    for (const [key, { g }] of this.boxes) if (!seen.has(key)) g.remove(), this.boxes.delete(key);
  }

  listen(known, box) {
    const open = () => {
      if (known.box.kind === "task" || known.box.kind === "broker") this.on.onTask(known.box.task);
      else this.on.onQueue(known.box.queue);
    };
    if (!box.queue && !box.task) return;
    known.g.setAttribute("tabindex", "0");
    known.g.setAttribute("role", "button");
    known.g.addEventListener("click", open);
    known.g.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      open();
    });
  }

  drawCards(picture, state, moves, still) {
    const paths = new Map();
    for (const each of moves) if (each.id !== undefined && each.to !== "duplicate") paths.set(each.id, [...(paths.get(each.id) ?? [each.from]), each.to]);
    const seen = new Set();
    for (const card of picture.cards) {
      seen.add(card.id);
      const message = state.messages.get(card.id);
      let known = this.cards.get(card.id);
      const fresh = !known;
      if (fresh) this.cards.set(card.id, (known = { g: this.card(card.id), x: null }));
      this.dress(known, message);
      const path = paths.get(card.id);
      paths.delete(card.id);
      if (known.x === card.x && known.y === card.y) continue;
      const from = fresh ? [this.place(picture, path?.[0] ?? "")] : this.whereabouts(known);
      const via = (path ?? []).slice(1, -1).map((key) => this.place(picture, key));
      this.go(known, [...from, ...via, card].filter(Boolean), still || (fresh && !path) || (path && !this.spend()));
    }
    for (const [id, path] of paths) this.leave(picture, state, id, path, still);
    for (const [id, known] of this.cards) if (!seen.has(id) && !known.leaving) known.g.remove(), this.cards.delete(id);
  }

  /** Lets a card that has no seat any more travel to where it went, and takes it away. */
  leave(picture, state, id, path, still) {
    let known = this.cards.get(id);
    const message = state.messages.get(id);
    if (still || !message || !this.spend()) return;
    const from = known ? this.whereabouts(known) : [this.place(picture, path[0])].filter(Boolean);
    const to = path.slice(1).map((key) => this.place(picture, key)).filter(Boolean);
    if (from.length === 0) return;
    if (!known) this.cards.set(id, (known = { g: this.card(id) }));
    this.dress(known, message);
    known.leaving = true;
    const end = to.at(-1) ?? { x: from.at(-1).x, y: from.at(-1).y + 26 };
    known.x = end.x;
    known.y = end.y;
    const frames = [...from, ...to].map((p) => ({ transform: translate(p), opacity: 1 }));
    known.motion = known.g.animate([...frames, { transform: translate(end), opacity: 0 }], { duration: TRAVEL_MS + 250, easing: "ease-in-out" });
    known.motion.onfinish = () => {
      if (this.cards.get(id) === known && known.leaving) this.cards.delete(id), known.g.remove();
    };
  }

  place(picture, key) {
    return key ? picture.anchor(key) : null;
  }

  spend() {
    if (this.budget < 1) return false;
    this.budget -= 1;
    return true;
  }

  /** Returns where a card is seen now and, if it is still travelling, where to: its next way begins there. */
  whereabouts(known) {
    const target = { x: known.x, y: known.y };
    if (known.motion?.playState !== "running") return [target];
    const { m41: x, m42: y } = new DOMMatrix(getComputedStyle(known.g).transform);
    return [{ x, y }, target];
  }

  go(known, points, still) {
    const end = points.at(-1);
    known.motion?.cancel();
    known.leaving = false;
    known.x = end.x;
    known.y = end.y;
    known.g.style.transform = translate(end);
    if (still || points.length < 2) return;
    const frames = points.map((p) => ({ transform: translate(p) }));
    known.motion = known.g.animate(frames, { duration: TRAVEL_MS + 160 * (points.length - 2), easing: "cubic-bezier(.45,.05,.25,1)" });
  }

  card(id) {
    const g = svg("g", { class: "card", "data-id": id, onclick: () => this.on.onMessage(id) }, svg("title"), ...face(id));
    return this.layers.cards.appendChild(g);
  }

  dress(known, message) {
    const { place } = message;
    const who = place.task ?? message.history[0]?.task ?? "";
    const tones = { outbox: "account", wire: "account", queue: "broker", retry: "broker", dead: "dead" };
    const tone = tones[place.kind] ?? "vip";
    const text = `${placeWords(message)}${message.returned ? ", came back after its replica was gone" : ""}`;
    const signature = `${tone} ${who} ${text} ${message.duplicates}`;
    if (known.signature === signature) return;
    known.signature = signature;
    const { g } = known;
    g.setAttribute("class", `card ${tone}${place.returned ? " returned" : ""}${place.kind === "retry" ? " retry" : ""}`);
    g.setAttribute("data-slot", tone === "vip" || tone === "account" ? shade(who) : 0);
    g.setAttribute("data-place", place.kind);
    if (message.request !== undefined) g.setAttribute("data-card-request", message.request);
    g.firstChild.textContent = `${message.id}\naccount ${message.account ?? "unknown"}\n${text}`;
  }

  /** Draws what has no card: requests and answers, settings on the bus, and duplicates that the view drops. */
  sparks(picture, moves) {
    for (const each of moves) {
      if (each.to !== "duplicate" && each.id !== undefined) continue;
      const from = this.place(picture, each.from);
      const to = this.place(picture, each.to);
      if (!from || !to || !this.spend()) continue;
      const center = { x: CARD.w / 2, y: CARD.h / 2 };
      const shape = each.to === "duplicate"
        ? svg("g", { class: "card vip duplicate" }, ...face(each.id), svg("line", { x1: 3, y1: CARD.h / 2, x2: CARD.w - 3, y2: CARD.h / 2 }))
        : svg("circle", { class: each.bus ? "spark bus" : "spark", r: 5, cx: center.x, cy: center.y });
      this.layers.sparks.append(shape);
      const [start, stop] = [from, to].map((p) => ({ transform: translate(p), opacity: 1 }));
      const frames = [start, { ...stop, offset: 0.8 }, { ...stop, opacity: 0 }];
      const duration = each.to === "duplicate" ? 1600 : TRAVEL_MS;
      shape.animate(frames, { duration, easing: "ease-in-out" }).onfinish = () => shape.remove();
    }
  }
}

const face = (id) => [svg("rect", { width: CARD.w, height: CARD.h, rx: 4 }), svg("text", { x: CARD.w / 2, y: 12.5 }, shortId(id))];
const translate = ({ x, y }) => `translate(${x}px, ${y}px)`;
const shade = (task) => ((Number(/\.(\d+)$/.exec(task)?.[1]) || 1) - 1) % 4;

function setData(g, box) {
  const data = {};
  if (box.kind === "task" || (box.kind === "broker" && box.task)) Object.assign(data, { task: box.task, state: box.state });
  if (box.kind === "queue") {
    const { queue, cards, broker, waiting, flight, ready, unacked } = box;
    Object.assign(data, { queue, cards, broker, waiting, flight, ready, unacked });
  }
  if (box.kind === "stream") {
    g.id = "offers";
    Object.assign(data, { queue: box.queue, cards: box.done, broker: box.entries ?? "" });
  }
  for (const [name, value] of Object.entries(data)) g.setAttribute(`data-${name}`, value);
  const numbers = `${box.waiting} waiting, ${box.flight} in flight; by the broker ${box.ready} ready, ${box.unacked} unacknowledged`;
  const label = [box.title, box.state && stateWord(box.state), box.kind === "queue" && numbers, box.note];
  g.setAttribute("aria-label", label.filter(Boolean).join(", "));
}

const text = (x, y, cls, content, more = {}) => svg("text", { x, y, class: cls, ...more }, content);
const RIGHT = { "text-anchor": "end" };
const panel = (box, cls, more = {}) => svg("rect", { class: cls, width: Math.max(1, box.w), height: Math.max(1, box.h), rx: 9, ...more });
const overflow = (box) => box.more && text(box.more.dx + 4, box.more.dy + 13, "more", `+${box.more.n}`);

const DRAW = {
  title: (box) => [
    svg("rect", { class: `dot ${box.role}`, width: 10, height: 10, x: 0, y: 5, rx: 3 }),
    text(16, 14, "heading", box.title),
    text(box.w, 14, "faint", box.w < 170 && box.note.length > 8 ? box.note.replace(" ready", "") : box.note, RIGHT),
  ],
  node: (box) => [svg("line", { class: "rule", x1: 0, y1: 8, x2: box.w, y2: 8 }), text(8, 12, "node-name", fit(box.title, box.w - 20, 11))],
  clients: (box) => box.h > 60
    ? [panel(box, "panel"), text(box.w / 2, 34, "heading", box.title, { "text-anchor": "middle" }), ...wrap(box.note, box.w / 2, 54, box.w - 12, "faint", { "text-anchor": "middle" })]
    : [panel(box, "panel"), text(12, 30, "heading", box.title), text(box.w - 12, 30, "faint", fit(box.note, box.w - 90), RIGHT)],
  task: (box) => {
    const word = box.state === "ready" && box.w < 200 ? "" : stateWord(box.state);
    const note = box.label && box.count ? box.label : box.note;
    return [
      panel(box, "panel"),
      svg("rect", { class: `stripe ${box.role}`, "data-slot": (box.slot - 1) % 4, x: 0, y: 8, width: 4, height: box.h - 16, rx: 2 }),
      text(14, 19, "name", fit(box.title, box.w - 24 - word.length * 6.5, 12)),
      svg("circle", { class: "lamp", cx: box.w - 12, cy: 15, r: 4 }),
      text(box.w - 21, 19, "state", fit(word, box.w * 0.45, 11), RIGHT),
      box.flat || box.h > 60 ? text(14, 35, "faint", fit(box.flat ? box.side : note, box.w - 24, 11)) : null,
      !box.flat && box.h > 60 && box.count < 3 ? text(box.w - 10, box.h - 12, "faint", fit(box.side, 80, 11), RIGHT) : null,
      overflow(box),
    ];
  },
  broker: (box) => [
    panel(box, box.away ? "zone away" : "zone"),
    svg("rect", { class: "dot broker", width: 10, height: 10, x: 12, y: 12, rx: 3 }),
    text(28, 21, "heading", fit(box.title, box.w - 40, 13)),
    text(28, 37, box.away ? "alarm" : "faint", fit(box.note, box.w - 38, 11)),
  ],
  exchange: (box) => [panel(box, "panel exchange", { rx: 12 }), text(12, 16, "state", box.title), text(box.w - 12, 16, "faint", box.w > 180 ? box.note : "", RIGHT)],
  queue: (box) => {
    const { differs } = box;
    const broker = box.small ? `broker ${box.broker}` : `broker: ${box.ready}${box.role === "work" ? ` + ${box.unacked}` : ""}`;
    const cards = box.role === "work" ? `${box.waiting}${box.w < 260 ? " +" : " waiting,"} ${box.flight} in flight` : `${box.waiting}`;
    const tall = box.h > 90;
    const left = box.small ? 8 : 12;
    return [
      panel(box, `panel ${box.role}`),
      text(left, 20, box.small ? "small-name" : "name", box.title),
      text(box.w - left, box.small ? 20 : 23, box.small ? "name" : "number", `${box.waiting}`, RIGHT),
      tall ? text(12, 38, "faint", box.note && box.flight === 0 ? fit(box.note, box.w - 110, 11) : cards) : null,
      text(box.small ? left : box.w - left, box.small ? 36 : 38, differs ? "differs" : "faint", broker, box.small ? {} : RIGHT),
      !tall && !box.small ? text(12, 38, "faint", box.note ? fit(box.note, box.w - 110, 11) : "waits for a person") : null,
      box.small && box.note ? text(left, 60, "faint", fit(box.note, box.w - 14, 11)) : null,
      overflow(box),
    ];
  },
  stream: (box) => [
    panel(box, "panel stream"),
    text(12, 20, "name", `${box.title} (stream)`),
    text(box.w - 12, 23, "number", box.done, RIGHT),
    text(12, 38, "faint", box.note || (box.entries === undefined ? "newest first" : box.duplicates && box.w < 260 ? "" : `broker: ${box.entries}`)),
    box.duplicates ? text(box.w - 12, 38, "differs", `${box.duplicates} duplicate${box.duplicates === 1 ? "" : "s"} dropped`, RIGHT) : null,
    ...box.rows.map((row) => svg("g", { class: "row", "data-request": row.request ?? "", "data-id": row.id, "data-made-by": row.task, "data-slot": (row.slot - 1) % 4 },
      svg("title", {}, `offer ${row.id} for account ${row.account}, made by ${row.task} at ${clock(row.t, true)}`),
      text(58, row.dy + 13, "row-text", fit(row.account ?? "?", box.w > 230 ? 70 : 52, 12)),
      text(box.w - 12, row.dy + 13, "row-by", box.w < 215 ? row.task.replace(/^.*\.(?=\d+$)/, "replica ") : fit(row.task, box.w - 122, 11), RIGHT))),
  ],
  bus: (box) => [
    svg("line", { class: "bus-line", x1: 0, y1: 22, x2: box.w, y2: 22 }),
    svg("rect", { class: "bus-label", x: 14, y: 2, width: 132, height: 40, rx: 8 }),
    text(24, 19, "name", box.title),
    text(24, 34, "faint", `${box.listeners} listener${box.listeners === 1 ? "" : "s"}`),
    text(158, 15, "faint", fit(box.note, box.w - 162, 11)),
  ],
};

function drawEmpty(box) {
  return [panel(box, "empty-frame"), ...wrap(box.note, box.w / 2, box.h / 2 + 4, box.w - 16, "faint", { "text-anchor": "middle" })];
}

/** Breaks a text into lines. */
function wrap(content, x, y, width, cls, more) {
  const room = Math.floor(width / 6.2);
  const lines = [""];
  for (const word of content.split(" ")) {
    if ((lines.at(-1) + word).length > room && lines.at(-1)) lines.push("");
    lines[lines.length - 1] += `${lines.at(-1) ? " " : ""}${word}`;
  }
  return lines.slice(0, 3).map((line, i) => text(x, y + i * 15 - (lines.length > 1 && y < 40 ? 8 : 0), cls, line, more));
}
