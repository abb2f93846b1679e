// The picture's geometry: state in, boxes, arrows and cards with their positions out.
//
// Pure: it measures nothing and draws nothing, so a table of states tests it. Wide pictures have columns (clients,
// accountservice, exchange and queues, vipservice, offers), narrow ones the same boxes from top to bottom.

import { at, inFlight } from "./state.js";
import { brokerWhy, queueWhy, taskWhy } from "./words.js";

export const CARD = { w: 40, h: 18, gap: 4 };
/** Below this width the columns become rows. */
export const NARROW = 760;
export const OFFER_ROWS = 12;
const PAD = 10;
const TASK_LIMIT = 10;
/** Cards and the broker's polled numbers may differ for this time after a card has moved. */
const POLL_MS = 1500;

/** Services with a place of their own; all others are drawn beside the bus. */
export const ROLES = { accountservice: "account", vipservice: "vip", rabbitmq: "broker", configserver: "config" };

/** Returns `{width, height, boxes, arrows, cards, anchor(key)}`. `system` says which broker it is. */
export function layout(state, { width, system = {} }) {
  const picture = { width, height: 0, boxes: [], arrows: [], cards: [], anchors: new Map() };
  const tasks = [...state.tasks.values()].sort((a, b) => order(a.node, b.node) || a.slot - b.slot);
  const of = (role) => tasks.filter((each) => (ROLES[each.service] ?? "other") === role);
  const parts = {
    clients: (x, y, w) => clients(picture, state, x, y, w),
    account: (x, y, w, columns) => column(picture, state, "accountservice", of("account"), x, y, w, columns),
    broker: (x, y, w) => brokerBox(picture, state, system, of("broker"), x, y, w),
    vip: (x, y, w, columns) => column(picture, state, "vipservice", of("vip"), x, y, w, columns),
    offers: (x, y, w) => offers(picture, state, x, y, w),
  };
  const side = [...of("config"), ...of("other")];
  if (width < NARROW) narrow(picture, parts);
  else wide(picture, parts);
  picture.height = band(picture, state, side, 0, picture.height + 22, width) + 2;
  arrows(picture, width < NARROW);
  picture.anchor = (key) => anchor(picture, key);
  return picture;
}

function order(a = "", b = "") {
  return a < b ? -1 : Number(a > b);
}

function wide(picture, parts) {
  const gap = Math.max(30, picture.width * 0.036);
  const free = picture.width - 4 * gap;
  const shares = { clients: 0.085, account: 0.2, broker: 0.3, vip: 0.2, offers: 0.215 };
  const columns = {};
  let x = 0;
  for (const [name, share] of Object.entries(shares)) {
    const from = picture.boxes.length;
    const cards = picture.cards.length;
    const bottom = parts[name](x, 0, free * share, 1);
    columns[name] = { from, to: picture.boxes.length, cards: [cards, picture.cards.length], bottom };
    x += free * share + gap;
  }
  picture.height = Math.max(...Object.values(columns).map((each) => each.bottom));
  for (const each of Object.values(columns)) {
    const shift = Math.round((picture.height - each.bottom) / 2);
    for (const box of picture.boxes.slice(each.from, each.to)) box.y += shift;
    for (const card of picture.cards.slice(...each.cards)) card.y += shift;
  }
}

function narrow(picture, parts) {
  let y = 0;
  for (const name of ["clients", "account", "broker", "vip", "offers"]) y = parts[name](0, y, picture.width, 2) + 26;
  picture.height = y - 26;
}

function clients(picture, state, x, y, w) {
  const reads = state.totals.reads;
  const silent = reads === 0 && state.messages.size > 0;
  const note = silent ? "hops 1 to 3 are not logged (level debug)" : reads === 0 ? "no read yet" : `${reads} read${reads === 1 ? "" : "s"} seen`;
  const h = picture.width < NARROW ? 52 : 84;
  picture.boxes.push({ key: "clients", kind: "clients", x, y, w, h, title: "clients", note });
  return y + h;
}

function column(picture, state, service, tasks, x, y, w, columns) {
  const role = ROLES[service];
  picture.boxes.push({ key: `title:${service}`, kind: "title", x, y, w, h: 22, title: service, role, note: replicas(tasks) });
  y += 26;
  if (tasks.length === 0) {
    const note = role === "vip" ? "no replica: messages wait in the queue" : "no replica: nobody answers reads";
    picture.boxes.push({ key: `none:${service}`, kind: "empty", x, y, w, h: 60, title: "", note });
    return y + 60;
  }
  const h = tasks.length > 5 ? 56 : 74;
  const shown = tasks.slice(0, TASK_LIMIT);
  const gap = 10;
  const cell = (w - gap * (columns - 1)) / columns;
  let i = 0;
  let node;
  for (const each of shown) {
    if (each.node && each.node !== node) {
      if (i % columns) y += h + gap;
      i = 0;
      node = each.node;
      picture.boxes.push({ key: `node:${service}:${node}`, kind: "node", x, y, w, h: 16, title: `node ${node}` });
      y += 20;
    }
    taskBox(picture, state, each, role, x + (i % columns) * (cell + gap), y, cell, h);
    i += 1;
    if (i % columns === 0) y += h + gap;
  }
  if (i % columns) y += h + gap;
  if (tasks.length > shown.length) {
    const rest = tasks.slice(TASK_LIMIT);
    const cards = rest.reduce((sum, each) => sum + at(state, `task:${each.task}`).size + at(state, `outbox:${each.task}`).size, 0);
    picture.boxes.push({ key: `more:${service}`, kind: "empty", x, y, w, h: 34, title: "", note: `and ${rest.length} more replicas with ${cards} cards` });
    y += 34 + gap;
  }
  return y - gap;
}

function replicas(tasks) {
  const ready = tasks.filter((each) => each.state === "ready").length;
  return tasks.length === 0 ? "" : `${ready} of ${tasks.length} ready`;
}

function taskBox(picture, state, task, role, x, y, w, h) {
  const key = `${role === "account" ? "outbox" : "task"}:${task.task}`;
  const ids = at(state, key);
  const box = {
    key: `box:${task.task}`, kind: "task", role, x, y, w, h, task: task.task, slot: task.slot, title: task.task, state: task.state,
    side: task.image ? task.image.replace(/^.*:/, "").slice(0, 12) : task.pid ? `pid ${task.pid}` : "", error: task.error, count: ids.size, outbox: task.outbox,
  };
  if (role === "account") {
    box.label = "outbox";
    const differs = task.outbox !== undefined && task.outbox !== ids.size;
    box.note = differs ? `${task.outbox} by its own count` : ids.size ? "" : task.state === "ready" ? "outbox is empty" : taskWhy(task, state);
  } else box.note = ids.size ? "" : taskWhy(task, state);
  picture.boxes.push(box);
  lane(picture, box, key, ids, { x: x + PAD, y: y + h - CARD.h - 8, w: w - 2 * PAD, rows: 1 });
}

/** Puts cards into a lane, as many as fit; the rest is counted. */
function lane(picture, box, key, ids, { x, y, w, rows }) {
  const perRow = Math.max(1, Math.floor((w + CARD.gap) / (CARD.w + CARD.gap)));
  const room = perRow * rows;
  const spare = w - perRow * (CARD.w + CARD.gap) > 18;
  const shown = ids.size <= room ? ids.size : spare ? room : room - 1;
  picture.anchors.set(key, { box, dx: x - box.x, dy: y - box.y });
  let i = 0;
  for (const id of ids) {
    if (i === shown) break;
    picture.cards.push({ id, key, x: x + (i % perRow) * (CARD.w + CARD.gap), y: y + Math.floor(i / perRow) * (CARD.h + CARD.gap) });
    i += 1;
  }
  if (ids.size > shown) {
    const column = shown === room ? perRow : shown % perRow;
    box.more = { dx: x - box.x + column * (CARD.w + CARD.gap), dy: y - box.y + (rows - 1) * (CARD.h + CARD.gap), n: ids.size - shown };
  }
}

function brokerBox(picture, state, system, tasks, x, y, w) {
  const task = tasks[0];
  const frame = {
    key: "broker", kind: "broker", x, y, w, h: 0, task: task?.task, state: state.broker.up === false ? "gone" : task?.state ?? (state.broker.up ? "ready" : "starting"),
    title: system.brokerName ?? "broker", note: brokerWhy(state.broker) || state.broker.address || system.broker || "", away: state.broker.up === false,
  };
  picture.boxes.push(frame);
  const inner = { x: x + PAD, w: w - 2 * PAD };
  let top = y + 46;
  picture.boxes.push({ key: "exchange", kind: "exchange", ...inner, y: top, h: 24, title: "default exchange", note: "by queue name" });
  top += 24 + 18;
  const all = [...state.queues.values()].sort((a, b) => delay(a) - delay(b) || order(a.name, b.name));
  const work = all.filter((each) => each.role === "work");
  if (all.length === 0) {
    const note = brokerWhy(state.broker) || "the broker's queues are not known yet";
    picture.boxes.push({ key: "none:queues", kind: "empty", ...inner, y: top, h: 60, title: "", note });
    top += 60 + PAD;
  }
  for (const each of work) {
    queueBox(picture, state, each, inner.x, top, inner.w, 102, 2, each.name);
    top += 102 + 12;
    const retry = all.filter((other) => other.role === "retry" && other.name.startsWith(`${each.name}.`));
    const gap = 8;
    const cell = (inner.w - gap * (Math.max(1, retry.length) - 1)) / Math.max(1, retry.length);
    retry.forEach((other, i) => queueBox(picture, state, other, inner.x + i * (cell + gap), top, cell, 74, 1, `${cell < 88 ? "" : "retry "}${delay(other) / 1000} s`));
    if (retry.length) top += 74 + 12;
  }
  for (const each of all.filter((other) => other.role === "dead")) {
    queueBox(picture, state, each, inner.x, top, inner.w, 72, 1, "dead letters");
    top += 72 + 12;
  }
  frame.h = top - y;
  return top;
}

const delay = (queue) => Number(/\.retry\.(\d+)$/.exec(queue.name)?.[1] ?? 0);

function queueBox(picture, state, queue, x, y, w, h, rows, title) {
  const key = `queue:${queue.name}`;
  const ids = at(state, key);
  const flight = queue.role === "work" ? inFlight(state, queue.name) : 0;
  const box = {
    key: `box:${queue.name}`, kind: "queue", role: queue.role, x, y, w, h, queue: queue.name, title, waiting: ids.size, flight,
    cards: ids.size + flight, ready: queue.ready, unacked: queue.unacked ?? 0, broker: queue.ready + (queue.unacked ?? 0),
    consumers: queue.consumers, note: ids.size ? "" : queueWhy(queue, state), small: w < 150,
  };
  box.differs = box.cards !== box.broker && state.now - Math.max(state.movedAt, queue.t) > POLL_MS;
  picture.boxes.push(box);
  const inset = box.small ? 8 : PAD;
  lane(picture, box, key, ids, { x: x + inset, y: y + h - rows * (CARD.h + CARD.gap) - 4, w: w - 2 * inset, rows });
}

function offers(picture, state, x, y, w) {
  const stream = [...state.queues.values()].find((each) => each.role === "stream") ?? { name: "offers", role: "stream" };
  const ids = [...at(state, "done")].slice(-OFFER_ROWS).reverse();
  const step = 24;
  const rows = picture.width < NARROW ? Math.max(3, Math.min(6, ids.length)) : OFFER_ROWS;
  const box = {
    key: "offers", kind: "stream", x, y, w, h: 58 + rows * step, queue: stream.name, title: "offers", done: state.totals.done, entries: stream.ready,
    duplicates: state.totals.duplicates, note: ids.length ? "" : queueWhy(stream, state), rows: [],
  };
  picture.boxes.push(box);
  ids.slice(0, rows).forEach((id, i) => {
    const message = state.messages.get(id);
    const card = { id, key: "done", x: x + PAD, y: y + 52 + i * step };
    picture.cards.push(card);
    const made = message.place.task;
    box.rows.push({ id, request: message.request, account: message.account, task: made, slot: state.tasks.get(made)?.slot ?? (Number(/\.(\d+)$/.exec(made)?.[1]) || 1), dy: 52 + i * step, t: message.place.since });
  });
  picture.anchors.set("done", { box, dx: PAD, dy: 52 });
  picture.anchors.set("duplicate", { box, dx: PAD, dy: 30 });
  return y + box.h;
}

function band(picture, state, tasks, x, y, w) {
  const small = w < NARROW;
  const cell = small ? (w - 10) / 2 : 176;
  tasks.forEach((task, i) => {
    const bx = small ? x + (i % 2) * (cell + 10) : x;
    const by = small ? y + Math.floor(i / 2) * 52 : y + i * 52;
    picture.boxes.push({
      key: `box:${task.task}`, kind: "task", role: ROLES[task.service] ?? "other", x: bx, y: by, w: cell, h: 44, task: task.task, slot: task.slot,
      title: task.task, state: task.state, side: task.pid ? `pid ${task.pid}` : "", note: "", flat: true, count: 0, error: task.error,
    });
  });
  const deep = small ? Math.ceil(tasks.length / 2) * 52 : 0;
  const bx = small || tasks.length === 0 ? x : x + cell + 30;
  const last = state.bus.at(-1);
  const listeners = [...state.queues.values()].filter((each) => each.exchange === "springCloudBus").length;
  picture.boxes.push({
    key: "bus", kind: "bus", x: bx, y: y + deep, w: x + w - bx, h: 44, title: "springCloudBus", listeners,
    note: last ? `${last.task}: ${last.text}` : brokerWhy(state.broker) || "no settings change yet: save a file in config-repo",
  });
  return y + deep + Math.max(44, small ? 0 : tasks.length * 52 - 8);
}

function arrows(picture, small) {
  const box = (key) => picture.boxes.find((each) => each.key === key);
  const add = (key, from, to) => from && to && picture.arrows.push({ key, d: small ? down(from, to) : across(from, to) });
  const exchange = box("exchange");
  const tasks = picture.boxes.filter((each) => each.kind === "task" && !each.flat);
  const queues = picture.boxes.filter((each) => each.kind === "queue");
  for (const each of queues.filter((other) => other.role === "retry")) {
    picture.arrows.push({ key: `retry>${each.queue}`, d: `M${mid(each)},${each.y} v-11` });
  }
  if (small) {
    add("clients", box("clients"), box("title:accountservice"));
    add("publish", tasks.filter((each) => each.role === "account").at(-1), box("broker"));
    add("consume", box("broker"), box("title:vipservice"));
    add("append", tasks.filter((each) => each.role === "vip").at(-1), box("offers"));
    return;
  }
  for (const each of tasks.filter((other) => other.role === "account")) {
    add(`clients>${each.task}`, box("clients"), each);
    add(`${each.task}>exchange`, each, exchange);
  }
  for (const queue of queues.filter((each) => each.role === "work")) {
    picture.arrows.push({ key: `exchange>${queue.queue}`, d: `M${mid(exchange)},${exchange.y + exchange.h} L${mid(exchange)},${queue.y - 2}` });
    for (const each of tasks.filter((other) => other.role === "vip")) add(`${queue.queue}>${each.task}`, queue, each);
  }
  for (const each of tasks.filter((other) => other.role === "vip")) add(`${each.task}>offers`, each, box("offers"));
}

const mid = (box) => Math.round(box.x + box.w / 2);

function across(from, to) {
  const [x1, y1] = [from.x + from.w, from.y + from.h / 2];
  const [x2, y2] = [to.x - 3, to.y + to.h / 2];
  const bend = (x2 - x1) / 2;
  return `M${round(x1)},${round(y1)} C${round(x1 + bend)},${round(y1)} ${round(x2 - bend)},${round(y2)} ${round(x2)},${round(y2)}`;
}

function down(from, to) {
  const x = Math.round(from.x + Math.min(from.w, to.w) / 2);
  return `M${x},${round(from.y + from.h)} L${x},${round(to.y - 2)}`;
}

const round = (n) => Math.round(n * 10) / 10;

/** Returns where a card at the place `key` is drawn when it has no seat of its own. */
function anchor(picture, key) {
  const known = picture.anchors.get(key);
  if (known) return { x: known.box.x + known.dx, y: known.box.y + known.dy };
  const [kind, ...rest] = key.split(":");
  const name = rest.join(":");
  const box = picture.boxes.find((each) => each.key === `box:${name}` || (each.task === name && name)) ?? picture.boxes.find((each) => each.key === kind);
  if (kind === "wire") {
    const exchange = picture.boxes.find((each) => each.key === "exchange");
    return { x: exchange.x - (picture.width < NARROW ? 0 : 6), y: exchange.y + 3 };
  }
  if (kind === "declined" || kind === "dropped" || kind === "left") return null;
  return box ? { x: box.x + box.w / 2 - CARD.w / 2, y: box.y + box.h / 2 - CARD.h / 2 } : null;
}
