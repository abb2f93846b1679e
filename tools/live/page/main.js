// Wires the page: events go into the player, the player's state into the picture, the tables and the log.
//
// A saved recording has its events inside and no API; then only what plays is shown.

import { Actions } from "./actions.js";
import { Api } from "./api.js";
import { Detail, line } from "./detail.js";
import { byId, h, link, setText, sync } from "./dom.js";
import { Player } from "./player.js";
import { save } from "./save.js";
import { View } from "./view.js";
import { brokerWhy, clock, duration, placeWords, told } from "./words.js";

/** Events of the last moment may still be missing, since the server merges several logs. */
const HOLD_BACK_MS = 300;
/** All but the picture is refreshed after this time, and a screen reader hears one sentence after that. */
const REFRESH_MS = 250;
const ANNOUNCE_MS = 2000;
const ROWS = 50;

const recording = byId("recording") && JSON.parse(byId("recording").textContent);
const player = new Player({ limit: recording ? Infinity : undefined });
const api = recording ? null : new Api();
const actions = recording ? null : new Actions(api.act);
const detail = new Detail({ api, state: () => player.state });
const onMessage = (id) => detail.open("message", id);
const onQueue = (name) => detail.open("queue", name);
const onTask = actions && ((name) => player.state.tasks.has(name) && actions.choose(player.state.tasks.get(name)));
const view = new View({ onMessage, onQueue, onTask });
let system = recording?.system ?? {};
let connection = recording ? { state: "connected", text: "" } : { state: "connecting", text: "connecting…" };
let clockOffset = 0;
let skipped = 0;
let stepped = null;
let logged = null;
let announced = null;

function play() {
  player.paused = !player.paused;
  if (recording && player.pending === 0) player.seek(player.start - 1);
}

function seek() {
  player.paused = true;
  player.seek(player.start + byId("timeline").value * (player.end - player.start));
}

function listen() {
  const on = (id, act, type = "click") => byId(id).addEventListener(type, () => {
    stepped = act();
    refresh();
  });
  on("play", play);
  on("step", () => player.step());
  on("back", () => player.back());
  on("live", () => player.live());
  on("save", () => void save(player.events, system));
  on("timeline", seek, "input");
  on("speed", () => void (player.speed = Number(byId("speed").value) || "auto"), "change");
  document.addEventListener("keydown", (event) => {
    const isTyped = event.target.closest("input, select, button, [role=button], summary");
    const button = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (isTyped || event.ctrlKey || event.metaKey || event.altKey || !button) return;
    event.preventDefault();
    button.click();
  });
}

function timePanel() {
  const { start, end, position, paused, pace } = player;
  const isLive = !paused && player.pending === 0;
  const rest = `1/${Math.round(1 / pace) || 1} · ${duration(Math.max(0, end - position))} left`;
  const mode = paused ? "paused" : isLive ? (recording ? "end" : "live") : rest;
  byId("moment").textContent = `${clock(position, !isLive)} · ${mode}`;
  byId("timeline").value = end > start ? (position - start) / (end - start) : 1;
  byId("timeline").setAttribute("aria-valuetext", clock(position, true));
  const bar = (n, i) => (n ? `M${2 * i + 1},28 v${-3 - Math.min(25, 5 * Math.sqrt(n))}` : "");
  byId("histogram").setAttribute("d", player.histogram().map(bar).join(""));
  setText(byId("now-playing"), stepped ? `${told(stepped).who} ${told(stepped).text}` : "");
  if (byId("speed").value !== String(player.speed)) byId("speed").value = player.speed;
  byId("time").dataset.mode = paused ? "paused" : isLive ? "live" : "playing";
  byId("play").setAttribute("aria-label", paused ? "Play" : "Pause");
}

function tables() {
  const { messages, finished, broker } = player.state;
  const open = [...messages.keys()].filter((id) => !finished.has(id));
  const ids = [...open.slice(0, ROWS), ...[...finished].slice(-ROWS).reverse()].slice(0, ROWS);
  const messageRow = ({ id, account = "?", place, attempts, request }) =>
    ({ key: id, request, cells: [account, placeWords(place), clock(place.since), attempts] });
  const queueRow = ({ queue: key, cards, broker: count, note }) => ({ key, cells: [cards, count, note] });
  const taskRow = ({ task: key, corner, note, side, position }) =>
    ({ key, cells: [corner, position ? `${note}; entry ${position}` : note, side] });
  const queues = view.picture.boxes.filter((each) => each.queue !== undefined);
  table("messages", onMessage, ids.map((id) => messageRow(messages.get(id))), "no message yet: read a VIP's account");
  table("queues", onQueue, queues.map(queueRow), brokerWhy(broker) || "no queue is known yet");
  table("replicas", onTask, view.picture.tasks.map(taskRow), connection.text || "no replica is known yet");
}

function table(id, onclick, items, empty) {
  const { tBodies: [body], caption } = byId(id);
  setText(caption.lastElementChild, items.length ? "" : empty);
  const name = (key) => h("th", { scope: "row" }, onclick ? link(key, () => onclick(key)) : key);
  const make = ({ key, cells }) => h("tr", {}, name(key), ...cells.map(() => h("td")));
  sync(body, items, make, (row, { request, cells }) => {
    if (request !== undefined) row.dataset.request = request;
    cells.forEach((cell, i) => setText(row.cells[i + 1], cell));
  });
}

function logPanel() {
  const { log } = player.state;
  if (log.at(-1) === logged) return;
  logged = log.at(-1);
  byId("log").replaceChildren(...log.slice(-ROWS).reverse().map((event) => line(told(event))));
}

/** Lets a screen reader say what was most important since the last time. */
function announce() {
  const { log } = player.state;
  const fresh = log.slice(log.indexOf(announced) + 1).map(told);
  if (fresh.length === 0) return;
  announced = log.at(-1);
  const { who, text } = fresh.findLast((each) => each.tone) ?? fresh.at(-1);
  byId("announce").textContent = `${who}: ${text}${fresh.length > 1 ? ` (and ${fresh.length - 1} more)` : ""}`;
}

function statusLine() {
  const { totals: { reads, done: offers, duplicates, deadLettered }, broker, messages, finished } = player.state;
  const unfinished = messages.size - finished.size;
  const numbers = { reads, offers, unfinished, duplicates, "dead-lettered": deadLettered, "events skipped": skipped };
  const shown = Object.entries(numbers).filter(([, n], i) => n > 0 || i < 2);
  const counted = shown.map(([word, n]) => `${word} ${n}`).join(" · ");
  const savedAt = recording ? `recorded ${new Date(recording.savedAt).toLocaleString()} · ` : "";
  const { state, text } = connection;
  const isAway = state === "connected" && broker.up === false;
  byId("status").dataset.state = isAway ? "away" : state;
  setText(byId("status"), savedAt + (text || brokerWhy(broker) || counted));
}

function refresh() {
  timePanel();
  tables();
  logPanel();
  statusLine();
  actions?.update(player.state);
  detail.update();
}

let before = performance.now();
let refreshed = 0;
let drawn = -1;
function loop(time) {
  const now = recording ? player.end : Date.now() - clockOffset - HOLD_BACK_MS;
  player.advance(Math.min(500, Math.max(0, time - before)), now);
  before = time;
  const isDue = time - refreshed > REFRESH_MS;
  // Nothing to draw is the usual case, and then the page costs next to nothing.
  if (isDue || player.index !== drawn) view.draw(player.state, system);
  drawn = player.index;
  if (isDue) {
    refreshed = time;
    refresh();
  }
  requestAnimationFrame(loop);
}

listen();
if (recording) {
  document.body.dataset.saved = "";
  for (const event of recording.events) player.add(event);
  player.seek(player.start - 1);
} else {
  api.follow({
    snapshot(data) {
      system = data.system;
      clockOffset = Date.now() - Date.parse(data.now);
      player.snapshot(data);
      actions.refresh(system);
    },
    events: (list) => player.push(list),
    skipped: (n) => (skipped += n),
    status: (state, text) => (connection = { state, text }),
  });
}
setInterval(announce, ANNOUNCE_MS);
requestAnimationFrame(loop);
