// The picture: draws the layout as SVG and lets cards travel with Web Animations.
//
// A box is built again only when what it shows has changed; its text is HTML, so that CSS shortens and wraps it.
// At most 50 cards a second are animated; the others appear at their place, so the picture stays calm under any load.

import { byId, h, sync } from "./dom.js";
import { CARD, layout } from "./layout.js";
import { placeWords, shortId } from "./words.js";

const DRAWN_PER_SECOND = 50;
const TRAVEL_MS = 620;
const FADE_MS = 250;
/** Properties of a box that its element carries as data attributes. */
const DATA = ["task", "state", "queue", "cards", "broker", "waiting", "flight"];
/** Colors of cards by their place: those of a service say which of its replicas has them. */
const TONES = { outbox: "account", wire: "account", queue: "broker", retry: "broker", dead: "dead" };

export class View {
  constructor({ onQueue, onMessage, onTask }) {
    Object.assign(this, { budget: DRAWN_PER_SECOND, drawn: 0 });
    this.stage = byId("stage");
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    const open = (event) => {
      if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      const { id, queue, task } = event.target.closest("[data-id], [data-queue], [data-task]")?.dataset ?? {};
      (id !== undefined ? onMessage : queue !== undefined ? onQueue : onTask)?.(id ?? queue ?? task);
    };
    for (const type of ["click", "keydown"]) this.stage.addEventListener(type, open);
  }

  /** Draws a state. */
  draw(state, system) {
    const time = performance.now();
    this.budget = Math.min(DRAWN_PER_SECOND, this.budget + ((time - this.drawn) * DRAWN_PER_SECOND) / 1000);
    this.drawn = time;
    const width = Math.max(300, Math.floor(this.stage.parentElement.clientWidth));
    this.still = this.calm.matches || width !== this.width;
    this.width = width;
    this.picture = layout(state, { width, system });
    this.stage.setAttribute("viewBox", `0 0 ${width} ${this.picture.height}`);
    this.stage.setAttribute("height", this.picture.height);
    const setPath = (path, { d }) => path.getAttribute("d") === d || path.setAttribute("d", d);
    sync(byId("arrows"), this.picture.arrows, () => h("svg:path"), setPath);
    sync(byId("boxes"), this.picture.boxes, () => h("svg:foreignObject"), drawBox);
    this.drawCards(state, state.moves.splice(0));
  }

  drawCards(state, moves) {
    const paths = new Map();
    for (const { id, from, to, bus } of moves) {
      if (to === "duplicate") this.fly(() => duplicate(id), [from, to], 1000);
      else if (id === undefined) this.fly(() => spark(bus), [from, to]);
      else paths.set(id, [...(paths.get(id) ?? [from]), to]);
    }
    const seats = this.picture.cards.map((each) => ({ ...each, key: each.id })).sort((a, b) => (a.id < b.id ? -1 : 1));
    sync(byId("cards"), seats, ({ id }) => face(id), (card, seat) => {
      dress(card, state.messages.get(seat.id));
      this.seat(card, seat, paths.get(seat.id));
      paths.delete(seat.id);
    });
    // A card without a seat travels to where it went, and is only counted there.
    for (const [id, path] of paths) {
      if (state.messages.has(id)) this.fly(() => dress(face(id), state.messages.get(id)), path);
    }
  }

  /** Puts a card on its seat; it travels there from where it is seen now, over the places of its path. */
  seat(card, { x, y }, path = []) {
    if (card.seat?.x === x && card.seat.y === y) return;
    const { m41, m42 } = new DOMMatrix(getComputedStyle(card).transform);
    const start = card.seat ? { x: m41, y: m42 } : this.anchor(path[0]);
    card.motion?.cancel();
    card.seat = { x, y };
    card.style.transform = translate(card.seat);
    const points = [start, ...path.slice(1, -1).map(this.anchor), card.seat].filter(Boolean);
    const frames = points.map((each) => ({ transform: translate(each) }));
    const travels = !this.still && frames.length > 1 && (path.length === 0 || this.spend());
    if (travels) card.motion = card.animate(frames, timing(frames));
  }

  /** Lets a shape travel once, and fade where it arrives. */
  fly(make, keys, more = FADE_MS) {
    const points = keys.map(this.anchor).filter(Boolean);
    if (this.still || points.length === 0 || !this.spend()) return;
    if (points.length === 1) points.push({ x: points[0].x, y: points[0].y + 26 });
    const shape = byId("flights").appendChild(make());
    const frames = points.map((each) => ({ transform: translate(each), opacity: 1 }));
    frames.push({ ...frames.at(-1), opacity: 0 });
    shape.animate(frames, timing(points, more)).onfinish = () => shape.remove();
  }

  anchor = (key) => key && this.picture.anchor(key);

  /** Takes one from the animations that are left for this second, if there is one. */
  spend() {
    if (this.budget < 1) return false;
    this.budget -= 1;
    return true;
  }
}

const { w, h: high } = CARD;
const translate = ({ x, y }) => `translate(${x}px, ${y}px)`;
const timing = (frames, more = 0) =>
  ({ duration: TRAVEL_MS + 160 * (frames.length - 2) + more, easing: "cubic-bezier(.45,.05,.25,1)" });
/** Returns which of a service's four shades a replica has. */
const shade = (task) => ((Number(/\.(\d+)$/.exec(task)?.[1]) || 1) - 1) % 4;
const shape = (id) => [h("svg:rect", { width: w, height: high, rx: 4 }),
  h("svg:text", { x: w / 2, y: 12.5 }, shortId(id))];
const face = (id) => h("svg:g", { "data-id": id }, h("svg:title"), ...shape(id));
const spark = (bus) => h("svg:circle", { class: bus ? "spark bus" : "spark", r: 5, cx: w / 2, cy: high / 2 });

function duplicate(id) {
  const line = h("svg:line", { x1: 3, y1: high / 2, x2: w - 3, y2: high / 2 });
  return h("svg:g", { class: "card vip duplicate" }, ...shape(id), line);
}

function dress(face, { id, account, request, place, history }) {
  const { kind, task = history[0].task, returned } = place;
  const title = `${id}\naccount ${account ?? "unknown"}, request ${request ?? "unknown"}\n${placeWords(place)}`;
  if (face.firstChild.textContent === title) return face;
  face.firstChild.textContent = title;
  face.setAttribute("class", `card ${TONES[kind] ?? "vip"}${returned ? " returned" : ""}`);
  face.setAttribute("data-slot", shade(task));
  face.setAttribute("data-place", kind);
  if (request !== undefined) face.setAttribute("data-card-request", request);
  return face;
}

function drawBox(element, box) {
  const signature = JSON.stringify(box);
  if (element.signature === signature) return;
  element.signature = signature;
  const { x, y, w: width, h: height, kind, role = "", flat, title = "", corner = "", note = "", side = "", position = "" } = box;
  const label = [title, corner, note, side, position && `entry ${position}`].filter((each) => each !== "").join(", ");
  const attributes = { x, y, width, height, class: `box ${kind} ${role}${flat ? " flat" : ""}`, "aria-label": label };
  if (kind === "stream") attributes.id = box.key;
  if (box.queue ?? box.task) Object.assign(attributes, { tabindex: 0, role: "button" });
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const name of DATA) if (box[name] !== undefined) element.dataset[name] = box[name];
  element.dataset.slot = shade(box.task);
  element.replaceChildren(h("div", { class: "panel" },
    h("p", {}, h("b", {}, title), h("span", { class: "corner" }, corner)),
    h("p", { class: "second" }, h("span", {}, note), h("span", { class: box.differs ? "differs" : "side" }, side)),
    position && h("p", { class: "second" }, h("span", { class: box.late ? "position differs" : "position" }, position), h("span")),
    ...(box.offers ?? []).map(offer), box.more && h("span", { class: "more" }, `+${box.more.n}`)));
}

const offer = ({ id, request = "", account = "?", task }) =>
  h("p", { class: "offer", "data-request": request, "data-id": id, "data-made-by": task },
    h("code", {}, account), h("span", {}, task));
