// The picture's geometry: state in, boxes, arrows and cards with their positions out.
//
// Pure: it measures nothing and draws nothing, so a table of states tests it. Five parts (clients, accountservice,
// broker, vipservice, offers) are lists of rows; wide pictures put them side by side, narrow ones below each other.

import { at, CHANGES, inFlight, lastChange } from "./state.js";
import { brokerWhy, changeWords, count, positionWords, queueWhy, stateWord, taskWhy, told } from "./words.js";

export const CARD = { w: 40, h: 18 };
/** Below this width the columns become rows. */
const NARROW = 760;
const STEP = { x: 44, y: 22 };
const OFFER_STEP = 24;
const GAP = 10;
/** Cards and the broker's polled numbers may differ for this time after a card has moved. */
const POLL_MS = 1500;
const SHARES = [0.085, 0.2, 0.3, 0.2, 0.215];

/** Services with a place of their own; all others are drawn beside the bus. */
const ROLES = { accountservice: "account", vipservice: "vip", rabbitmq: "broker", configserver: "config" };

/** Returns `{width, height, boxes, arrows, cards, anchor(key)}`. `system` says which broker it is. */
export function layout(state, { width, system = {} }) {
  const narrow = width < NARROW;
  const byName = (a, b) => order(a.node, b.node) || order(a.service, b.service) || a.slot - b.slot;
  const tasks = [...state.tasks.values()].sort(byName).map((each) => taskBox(state, each));
  const of = (...roles) => tasks.filter((each) => roles.includes(each.role));
  const isSilent = state.totals.reads === 0 && state.messages.size > 0;
  const seen = isSilent ? "hops 1 to 3 are not logged (level debug)" : `${count(state.totals.reads, "read")} seen`;
  const parts = [
    [{ key: "clients", kind: "clients", h: narrow ? 52 : 84, title: "clients", note: seen }],
    service("accountservice", of("account"), narrow ? 2 : 1),
    [broker(state, system, of("broker")[0])],
    service("vipservice", of("vip"), narrow ? 2 : 1),
    [offers(state, narrow)],
  ];
  const picture = { width, tasks, boxes: [], arrows: [], cards: [] };
  const bottom = narrow ? stack(picture.boxes, parts.flat(), 0, 0, width) : beside(picture, parts);
  picture.height = band(picture, state, of("config", "other"), bottom + 2 * GAP, narrow) + 2;
  for (const box of picture.boxes) seat(picture, state, box);
  picture.anchor = (key) => anchor(picture.boxes, key);
  return picture;
}

const order = (a = "", b = "") => (a < b ? -1 : Number(a > b));

/** Puts rows below each other; the boxes of a row share its width, and a box may have rows inside. Returns the end. */
function stack(boxes, rows, x, y, w) {
  for (const row of rows) {
    const cells = [row].flat();
    const cell = (w - GAP * (cells.length - 1)) / cells.length;
    for (const [i, box] of cells.entries()) {
      if (!box) continue;
      Object.assign(box, { x: Math.round(x + i * (cell + GAP)), y, w: Math.floor(cell) });
      boxes.push(box);
      if (box.inside) box.h = stack(boxes, box.inside, box.x + GAP, y + box.h, box.w - 2 * GAP) + GAP - y;
      delete box.inside;
    }
    y += cells[0].h + GAP;
  }
  return y - GAP;
}

function beside(picture, parts) {
  const space = Math.max(30, picture.width * 0.036);
  let x = 0;
  const columns = parts.map((part, i) => {
    const boxes = [];
    const w = (picture.width - 4 * space) * SHARES[i];
    const bottom = stack(boxes, part, x, 0, w);
    x += w + space;
    return { bottom, boxes };
  });
  const height = Math.max(...columns.map((each) => each.bottom));
  for (const { boxes, bottom } of columns) for (const box of boxes) box.y += Math.round((height - bottom) / 2);
  picture.boxes.push(...columns.flatMap((each) => each.boxes));
  arrows(picture);
  return height;
}

function service(name, tasks, columns) {
  const role = ROLES[name];
  const ready = tasks.filter((each) => each.state === "ready").length;
  const corner = tasks.length ? `${ready} of ${tasks.length} ready` : "";
  const rows = [{ key: `title:${name}`, kind: "title", role, h: 24, title: name, corner }];
  const note = role === "vip" ? "no replica: messages wait in the queue" : "no replica: nobody answers reads";
  if (tasks.length === 0) rows.push({ key: `none:${name}`, kind: "empty", h: 60, note });
  for (const node of new Set(tasks.map((each) => each.node))) {
    if (node) rows.push({ key: `node:${name}:${node}`, kind: "node", h: 16, title: `node ${node}` });
    rows.push(...chunks(tasks.filter((each) => each.node === node), columns));
  }
  return rows;
}

/** Splits a list into rows of `n`, the last one with empty places. */
function chunks(list, n) {
  const rows = Math.ceil(list.length / n);
  return Array.from({ length: rows }, (_, i) => Array.from({ length: n }, (__, j) => list[n * i + j]));
}

function taskBox(state, task) {
  const role = ROLES[task.service] ?? "other";
  const place = `${role === "account" ? "outbox" : "task"}:${task.task}`;
  const cards = at(state, place).size;
  const outbox = state.outboxes.get(task.task) ?? cards;
  const differs = role === "account" && outbox !== cards;
  const busy = role === "vip" ? `${cards} in flight` : `${outbox} in its outbox${differs ? " by its own count" : ""}`;
  const calm = { account: "its outbox is empty", vip: taskWhy(task, state.broker) }[role] ?? "";
  const idle = task.state === "ready" ? calm : taskWhy(task, state.broker);
  const last = role === "account" ? lastChange(state) : undefined;
  const position = last && positionWords(state.positions.get(task.task), last);
  return {
    key: `box:${task.task}`, kind: "task", h: last ? 90 : 74, rows: 1, position,
    late: position?.endsWith("behind"), role, place, task: task.task, node: task.node, differs,
    title: task.task, state: task.state, corner: stateWord(task.state), note: cards || differs ? busy : idle,
    side: task.image ? task.image.replace(/^.*:/, "").slice(0, 12) : task.pid ? `pid ${task.pid}` : "",
  };
}

function broker(state, system, task) {
  const away = brokerWhy(state.broker);
  const delay = ({ name }) => Number(/\.retry\.(\d+)$/.exec(name)?.[1] ?? 0);
  const queues = [...state.queues.values()].sort((a, b) => delay(a) - delay(b) || order(a.name, b.name));
  const of = (role) => queues.filter((each) => each.role === role);
  const rows = [{ key: "exchange", kind: "exchange", h: 24, title: "default exchange", corner: "by queue name" }];
  for (const each of of("work")) {
    rows.push(queueBox(state, each, each.name, 2));
    const retries = of("retry").filter((other) => other.name.startsWith(`${each.name}.`));
    if (retries.length) rows.push(retries.map((other) => queueBox(state, other, `${delay(other) / 1000} s retry`, 1)));
  }
  for (const each of of("dead")) rows.push(queueBox(state, each, "dead letters", 1));
  const last = lastChange(state);
  if (last) rows.push(changes(state, last));
  const note = away || "the broker's queues are not known yet";
  if (queues.length === 0) rows.push({ key: "none:queues", kind: "empty", h: 60, note });
  return {
    key: "broker", kind: "broker", h: 46, inside: rows, task: task?.task, state: away ? "gone" : task?.state ?? "ready",
    title: system.brokerName ?? "broker", note: away || state.broker.address || system.broker || "",
  };
}

function queueBox(state, { name, role, t, ready, unacked = 0, consumers }, title, rows) {
  const waiting = at(state, `queue:${name}`).size;
  const flight = role === "work" ? inFlight(state, name) : 0;
  const [cards, broker] = [waiting + flight, ready + unacked];
  const busy = { work: `${waiting} waiting, ${flight} in flight`, dead: "waits for a person" }[role] ?? "";
  return {
    key: `box:${name}`, kind: "queue", role, h: 54 + rows * STEP.y, rows, place: `queue:${name}`, queue: name,
    waiting, flight, cards, broker, title, corner: waiting, note: cards ? busy : queueWhy({ role, consumers }, state),
    side: `broker: ${ready}${role === "work" ? ` ready${unacked ? `, ${unacked} unacked` : ""}` : ""}`,
    differs: cards !== broker && state.now - Math.max(state.movedAt, t) > POLL_MS,
  };
}

/** The stream of changes to accounts: which entry is the last one, and how many replicas have read it. */
function changes({ tasks, positions, queues }, last) {
  const replicas = [...tasks.values()].filter(({ service }) => ROLES[service] === "account");
  const there = replicas.filter(({ task }) => positions.get(task)?.offset >= last.offset).length;
  return {
    key: `box:${CHANGES}`, kind: "queue", role: "stream", h: 54, queue: CHANGES, cards: `entry ${last.offset}`,
    broker: queues.get(CHANGES)?.ready, waiting: 0, title: `${CHANGES} (stream)`, corner: last.offset, note: changeWords(last),
    side: `at ${there} of ${count(replicas.length, "replica")}`, differs: there < replicas.length,
  };
}

function offers(state, narrow) {
  const unknown = { name: "offers", role: "stream" };
  // Not the first stream: that of changes to accounts is no stop of a read.
  const stream = state.queues.get(unknown.name) ?? unknown;
  const rows = narrow ? 6 : 12;
  const ids = [...at(state, "done")].slice(-rows).reverse();
  const { done, duplicates } = state.totals;
  const offer = ({ id, request, account, place }) => ({ id, request, account, task: place.task });
  return {
    key: "offers", kind: "stream", h: 54 + rows * OFFER_STEP, rows, step: OFFER_STEP, columns: 1, queue: stream.name,
    cards: done, broker: stream.ready, title: `${stream.name} (stream)`, corner: done, differs: duplicates > 0,
    note: ids.length ? `broker: ${stream.ready ?? "?"}` : queueWhy(stream, state),
    side: duplicates ? count(duplicates, "duplicate") : "", offers: ids.map((id) => offer(state.messages.get(id))),
  };
}

function band(picture, state, tasks, y, narrow) {
  const flat = tasks.map((each) => ({ ...each, flat: true, h: 44, note: each.side, side: "", rows: undefined }));
  const listeners = [...state.queues.values()].filter((each) => each.exchange === "springCloudBus").length;
  const { who, text } = state.change ? told(state.change) : { who: "settings", text: "not changed yet" };
  const note = brokerWhy(state.broker) || `${who}: ${text}`;
  const bus = { key: "bus", kind: "bus", h: 44, title: "springCloudBus", corner: count(listeners, "listener"), note };
  if (narrow) return stack(picture.boxes, [...chunks(flat, 2), bus], 0, y, picture.width);
  return Math.max(stack(picture.boxes, flat, 0, y, 176), stack(picture.boxes, [bus], 206, y, picture.width - 206));
}

function arrows({ boxes, arrows }) {
  const of = (kind, role) => boxes.filter((each) => each.kind === kind && each.role === role);
  const [accounts, work, vips] = [of("task", "account"), of("queue", "work"), of("task", "vip")];
  const links = [[of("clients"), accounts], [accounts, of("exchange")], [work, vips], [vips, of("stream")]];
  for (const [froms, tos] of links) {
    for (const from of froms) for (const to of tos) arrows.push({ key: `${from.key} ${to.key}`, d: curve(from, to) });
  }
  for (const each of [...work, ...of("queue", "retry")]) {
    arrows.push({ key: each.key, d: `M${Math.round(each.x + each.w / 2)},${each.y} v${-GAP}` });
  }
}

function curve(from, to) {
  const [y1, y2] = [from.y + from.h / 2, to.y + to.h / 2];
  const bend = Math.round((from.x + from.w + to.x) / 2);
  return `M${from.x + from.w},${y1} C${bend},${y1} ${bend},${y2} ${to.x - 3},${y2}`;
}

/** Seats the cards of a box in rows at its lower end; those that find no seat are counted. */
function seat({ cards }, state, box) {
  const { rows, place: key = "done", offers, step = STEP.y } = box;
  if (!rows) return;
  const space = box.w - 2 * GAP + STEP.x - CARD.w;
  const columns = box.columns ?? Math.floor(space / STEP.x);
  const room = columns * rows - Number(space % STEP.x < 20);
  const ids = offers ? offers.map((each) => each.id) : [...at(state, key)];
  const shown = ids.length <= columns * rows ? ids.length : room;
  box.lane = box.h - rows * step - 4;
  if (ids.length > shown) box.more = { n: ids.length - shown };
  ids.slice(0, shown).forEach((id, i) => cards.push({
    id, key, x: box.x + GAP + (i % columns) * STEP.x, y: box.y + box.lane + Math.floor(i / columns) * step,
  }));
}

/** Returns where a card at the place `key` is drawn when it has no seat of its own. */
function anchor(boxes, key) {
  const [, kind, name] = /^(\w+):?(.*)$/s.exec(key);
  const wanted = { wire: "exchange", done: "offers", duplicate: "offers" }[kind] ?? (name ? `box:${name}` : kind);
  const { x, y, w, h, lane } = boxes.find((each) => each.key === wanted) ?? {};
  if (x === undefined) return null;
  if (kind === "entry" || !lane) return { x: x + (w - CARD.w) / 2, y: y + (h - CARD.h) / 2 };
  return { x: x + GAP, y: y + lane };
}
