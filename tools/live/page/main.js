// Wires the page: events go into the player, the player's state into the picture, the tables and the log.
//
// A saved recording has its events inside and no API; then only what plays is shown.

import { Actions } from "./actions.js";
import { Api, takeToken } from "./api.js";
import { Detail } from "./detail.js";
import { byId, html, svg } from "./dom.js";
import { Player, SPEEDS } from "./player.js";
import { download, saved } from "./save.js";
import { at, inFlight, stateWord } from "./state.js";
import { View } from "./view.js";
import { brokerWhy, clock, count, duration, placeWords, shortId } from "./words.js";

/** Events of the last moment may still be missing, since the server merges several logs. */
const HOLD_BACK_MS = 300;
const TABLE_ROWS = 50;
const LOG_ROWS = 60;
const BUCKETS = 120;

const recording = byId("recording") && JSON.parse(byId("recording").textContent);
const player = new Player({ limit: recording ? Infinity : undefined });
const api = recording ? null : new Api(takeToken());
let system = recording?.system ?? {};
let clockOffset = 0;
let connection = { state: "connecting", text: "connecting…" };
let still = true;
let slow = 0;
let told = 0;
let drawn = 0;

const detail = new Detail({ api, state: () => player.state, choose: (task, service) => actions?.choose(task, service) });
const view = new View({
  onQueue: (name) => detail.open("queue", name),
  onMessage: (id) => detail.open("message", id),
  onTask: (name) => detail.open("task", name),
});
const actions = recording ? null : new Actions((name, body) => api.act(name, body));

function now() {
  return recording ? player.end : Date.now() - clockOffset - HOLD_BACK_MS;
}

function connect() {
  api.follow({
    snapshot(data) {
      system = data.system;
      clockOffset = Date.now() - Date.parse(data.now);
      player.snapshot(data);
      actions.setSystem(system);
      still = true;
    },
    events: (list) => player.push(list),
    skipped: (n) => (player.state.totals.skipped += n),
    status(state, text) {
      connection = { state, text };
      refresh();
    },
  });
}

// Time ----------------------------------------------------------------------------------------------------------------

function controls() {
  byId("speed").append(...SPEEDS.map((each) => html("option", { value: 1 / each }, `1/${each}`)));
  byId("speed").addEventListener("change", (event) => {
    player.speed = event.target.value === "auto" ? "auto" : Number(event.target.value);
  });
  byId("play").addEventListener("click", togglePlay);
  byId("step").addEventListener("click", () => stepped(player.step()));
  byId("back").addEventListener("click", () => stepped(player.back(), true));
  byId("live").addEventListener("click", () => {
    if (recording) player.seek(player.start - 1);
    player.paused = false;
    if (!recording) player.live();
    byId("speed").value = player.speed;
    still = true;
  });
  byId("timeline").addEventListener("input", (event) => {
    player.paused = true;
    player.seek(player.start + (event.target.value / 1000) * (player.end - player.start));
    stepped(null, true);
  });
  byId("save").addEventListener("click", async () => {
    if (!recording) download(`hops-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.html`, await saved(player.events, system));
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea, button, [role=button], pre") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { " ": togglePlay, ".": () => stepped(player.step()), ",": () => stepped(player.back(), true), l: () => byId("live").click() }[event.key];
    if (act) event.preventDefault(), act();
  });
}

function togglePlay() {
  player.paused = !player.paused;
  if (recording && !player.paused && player.pending === 0) player.seek(player.start - 1);
  refresh();
}

function stepped(event, silent = false) {
  if (silent) still = true;
  byId("now-playing").textContent = event ? `${event.task ?? event.kind}: ${event.text ?? event.state ?? event.kind}` : "";
  refresh();
}

function timePanel() {
  const length = player.end - player.start;
  const timeline = byId("timeline");
  timeline.value = length > 0 ? Math.round(((Math.min(player.position, player.end) - player.start) / length) * 1000) : 1000;
  timeline.setAttribute("aria-valuetext", clock(player.position, true));
  const counts = player.histogram(BUCKETS);
  const signature = counts.join();
  const most = Math.max(1, ...counts);
  const histogram = byId("histogram");
  if (histogram.dataset.signature !== signature) {
    const heights = counts.map((n) => (n ? 3 + 25 * Math.sqrt(n / most) : 0));
    histogram.replaceChildren(...heights.map((height, i) => svg("rect", { x: i * 2, width: 1.6, y: 28 - height, height, rx: 0.6 })));
  }
  histogram.dataset.signature = signature;
  const live = !player.paused && player.pending === 0;
  const pace = player.pace >= 1 ? `${player.pace}/1` : `1/${Math.round(1 / player.pace)}`;
  const rest = duration(Math.max(0, player.end - player.position));
  const mode = player.paused ? "paused" : live ? (recording ? "end" : "live") : `${pace} · ${rest} left`;
  byId("moment").textContent = `${clock(player.position, !live)} · ${mode}`;
  if (!player.paused) byId("now-playing").textContent = "";
  byId("time").dataset.mode = player.paused ? "paused" : live ? "live" : "playing";
  byId("play").dataset.icon = player.paused ? "play" : "pause";
  byId("play").setAttribute("aria-label", player.paused ? "Play" : "Pause");
}

// In words ------------------------------------------------------------------------------------------------------------

function tables() {
  const { state } = player;
  const open = [...state.messages.values()].filter((each) => !state.finished.has(each.id));
  const ended = [...state.finished].slice(-TABLE_ROWS).reverse().map((id) => state.messages.get(id));
  const list = [...open.slice(0, TABLE_ROWS), ...ended].slice(0, TABLE_ROWS);
  rows("messages", list.map((each) => ({
    key: each.id,
    request: each.request,
    cells: [each.id, each.account ?? "unknown", placeWords(each), clock(each.place.since), String(each.attempts)],
    open: () => detail.open("message", each.id),
  })), "no message yet: read a VIP's account");
  rows("queues", [...state.queues.values()].filter((each) => each.role !== "other").map((each) => {
    const work = each.role === "work";
    const waiting = at(state, `queue:${each.name}`).size;
    const cards = each.role === "stream" ? String(state.totals.done) : work ? `${waiting} waiting, ${inFlight(state, each.name)} in flight` : String(waiting);
    const broker = work ? `${each.ready} + ${each.unacked ?? 0}` : String(each.ready);
    return { key: each.name, cells: [each.name, cards, broker, String(each.consumers ?? "")], open: () => detail.open("queue", each.name) };
  }), brokerWhy(state.broker) || "the broker's queues are not known yet");
  rows("replicas", [...state.tasks.values()].sort((a, b) => (a.task < b.task ? -1 : 1)).map((each) => ({
    key: each.task,
    cells: [
      each.task, stateWord(each.state), String(at(state, `task:${each.task}`).size + at(state, `outbox:${each.task}`).size),
      [each.pid && `pid ${each.pid}`, each.image?.replace(/^.*\//, ""), each.node].filter(Boolean).join(", "),
    ],
    open: () => detail.open("task", each.task),
  })), connection.text || "no replica is known");
}

/** Fills a table; rows and buttons stay the same elements, so that focus stays where it is. */
function rows(id, list, empty) {
  const body = byId(id).tBodies[0];
  const known = new Map([...body.rows].map((each) => [each.dataset.key, each]));
  const fresh = list.map(({ key, request, cells, open }) => {
    let row = known.get(key);
    if (!row) {
      const button = html("button", { type: "button", class: "link", onclick: open }, cells[0]);
      row = html("tr", { "data-key": key }, html("th", { scope: "row" }, button), ...cells.slice(1).map(() => html("td")));
    }
    if (request !== undefined) row.dataset.request = request;
    cells.slice(1).forEach((cell, i) => {
      if (row.cells[i + 1].textContent !== cell) row.cells[i + 1].textContent = cell;
    });
    return row;
  });
  if (fresh.length === 0) fresh.push(html("tr", {}, html("td", { class: "faint", colspan: 5 }, empty)));
  if (fresh.length !== body.rows.length || fresh.some((each, i) => body.rows[i] !== each)) body.replaceChildren(...fresh);
}

function logPanel() {
  const { log } = player.state;
  const list = log.slice(-LOG_ROWS).reverse();
  const panel = byId("log");
  const signature = `${list.length} ${list[0]?.t} ${list[0]?.text}`;
  if (panel.dataset.signature === signature) return;
  panel.dataset.signature = signature;
  const lines = list.map(({ t, who, text, tone, id }) => {
    return html("li", { class: tone }, html("time", {}, clock(t, true)), html("b", {}, who), html("span", {}, id ? text.replaceAll(id, shortId(id)) : text));
  });
  panel.replaceChildren(...(lines.length ? lines : [html("li", { class: "faint" }, "Nothing has happened yet: read an account.")]));
  // A screen reader hears one sentence every two seconds at most.
  if (Date.now() - told < 2000) return;
  const since = log.filter((each) => each.t > (panel.dataset.told ?? 0));
  if (since.length === 0) return;
  told = Date.now();
  panel.dataset.told = since.at(-1).t;
  const important = since.findLast((each) => each.tone) ?? since.at(-1);
  byId("announce").textContent = `${important.who}: ${important.text}${since.length > 1 ? ` (and ${count(since.length - 1, "other event")})` : ""}`;
}

function statusLine() {
  const { state } = player;
  const line = byId("status");
  const away = brokerWhy(state.broker);
  const { totals } = state;
  const numbers = [
    count(totals.reads, "read"), count(totals.done, "offer"), totals.duplicates && count(totals.duplicates, "duplicate"),
    totals.deadLettered && `${totals.deadLettered} dead-lettered`, totals.untracked && `${totals.untracked} events of messages that are not followed`,
    totals.skipped && `${totals.skipped} events skipped`,
  ].filter(Boolean).join(" · ");
  const live = connection.state === "connected" ? away || numbers : connection.text;
  const text = recording ? `a recording of ${new Date(recording.savedAt).toLocaleString()}: ${numbers}` : live;
  line.dataset.state = recording ? "recording" : connection.state === "connected" && away ? "away" : connection.state;
  if (line.textContent !== text) line.textContent = text;
}

function refresh() {
  timePanel();
  tables();
  logPanel();
  statusLine();
  actions?.update(player.state);
  detail.update();
}

// Start ---------------------------------------------------------------------------------------------------------------

let before = performance.now();
function loop(at) {
  const ms = Math.min(500, Math.max(0, at - before));
  before = at;
  player.advance(ms, now());
  slow += ms;
  // Nothing to draw is the usual case, and then the page costs next to nothing.
  if (still || slow > 250 || player.index !== drawn) view.draw(player.state, system, still);
  still = false;
  drawn = player.index;
  if (slow > 250) {
    slow = 0;
    refresh();
  }
  requestAnimationFrame(loop);
}

controls();
if (recording) {
  document.body.dataset.saved = "";
  for (const event of recording.events) player.add(event);
  player.seek(player.start - 1);
  byId("live").textContent = "From the start";
  byId("save").hidden = byId("actions").hidden = true;
} else if (api.token) connect();
else connection = { state: "refused", text: "this address has no token: open the one that `cargo hops live` prints" };
refresh();
requestAnimationFrame(loop);
