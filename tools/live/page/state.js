// The state of the system, from events: where each message is, what each task, queue and the broker do.
//
// Pure: no clock, no browser. Hops of one message come in any order, because each replica has a log of its own, so a
// message keeps its history sorted by the events' own times, and its place follows from the whole history each time.
// Everything is bounded: finished messages, open ones, requests, history, log.

export const FINISHED_LIMIT = 5000;
export const OPEN_LIMIT = 50_000;
const REQUEST_LIMIT = 10_000;
const HISTORY_LIMIT = 200;
const LOG_LIMIT = 300;
const MOVE_LIMIT = 2000;
/** A published message whose confirm is not logged counts as queued after this time. */
const WIRE_MS = 1000;
/** The broker's numbers are polled, so a dead letter must be this old before an empty queue says that it has left. */
const STALE_MS = 2000;
/** A task that is gone stays in the picture for this time. */
const GONE_MS = 4000;

const DEAD_TASK = new Set(["waiting", "failed", "gone"]);
const FINAL = new Set(["done", "declined", "dropped", "left"]);

/** Creates the state in which nothing is known. */
export function create() {
  return {
    now: 0,
    messages: new Map(),
    places: new Map(),
    timed: new Set(),
    due: Infinity,
    movedAt: 0,
    finished: new Set(),
    requests: new Map(),
    tasks: new Map(),
    deaths: new Map(),
    queues: new Map(),
    broker: { up: null, address: "", text: "", since: 0, downs: [] },
    bus: [],
    log: [],
    moves: [],
    totals: { reads: 0, done: 0, duplicates: 0, returned: 0, deadLettered: 0, declined: 0, untracked: 0, skipped: 0 },
  };
}

/** Copies a state, so that the copy can be played on from there. */
export const clone = (state) => structuredClone(state);

/** Returns an event's time in milliseconds, with the microseconds as a fraction. */
export function time(at) {
  const micros = /\.\d{3}(\d{1,6})/.exec(at);
  return Date.parse(at) + (micros ? Number(`0.${micros[1]}`) : 0);
}

/** Applies one event. Events may come in any order, and the same event may come twice. */
export function apply(state, event) {
  const t = event.t ?? time(event.at);
  tick(state, t);
  switch (event.kind) {
    case "hop": return hop(state, event, t);
    case "end": return end(state, event, t);
    case "task": return task(state, event, t);
    case "outbox": return void Object.assign(taskOf(state, event.task), { outbox: event.waiting });
    case "queue": return queue(state, event, t);
    case "broker": return broker(state, event, t);
    case "bus": return bus(state, event, t);
    case "answer": return answer(state, event, t);
    case "log": return note(state, t, event.task, event.text, event.level === "error" ? "bad" : "warn", event.id);
    case "skipped": return void (state.totals.skipped += event.skipped);
    case "reset": return event.lost.forEach((id) => lose(state, id, t));
  }
}

/** Moves on what only time moves: messages in a retry queue, on the wire, and tasks that are gone. */
export function tick(state, now) {
  if (now <= state.now) return;
  state.now = now;
  if (now >= state.due) {
    state.due = Infinity;
    for (const id of state.timed) {
      const message = state.messages.get(id);
      if (message.place.until <= now) settle(state, message);
      else state.due = Math.min(state.due, message.place.until);
    }
  }
  for (const [name, each] of state.tasks) {
    if (each.state === "gone" && now - each.since > GONE_MS) state.tasks.delete(name);
  }
}

/** Returns the ids of the messages at a place, oldest first. */
export const at = (state, key) => state.places.get(key) ?? new Set();

/** Returns the queue that messages are consumed from: the message's own, or the broker's only work queue. */
export function workQueue(state, message) {
  if (message?.queue) return message.queue;
  for (const each of state.queues.values()) if (each.role === "work") return each.name;
  return "vip_queue";
}

/** Returns the number of messages taken from the work queue `name` that have not ended. */
export function inFlight(state, name) {
  let count = 0;
  for (const [key, ids] of state.places) {
    if (key.startsWith("task:")) for (const id of ids) if (workQueue(state, state.messages.get(id)) === name) count += 1;
  }
  return count;
}

function hop(state, event, t) {
  const request = event.request && requestOf(state, event.request);
  if (request) {
    request.hops[event.hop] ??= { t, task: event.task, text: event.text };
    request.account ??= event.account;
    if (event.hop === 1 && !request.seen) {
      request.seen = true;
      state.totals.reads += 1;
      move(state, { request: event.request, from: "clients", to: `entry:${event.task}`, t });
    }
  }
  if (event.hop < 4 || event.id === undefined) return;
  const message = messageOf(state, event);
  if (!message) return;
  if (event.queue && event.hop < 8 && !/\.(retry\.\d+|dead)$/.test(event.queue)) message.queue = event.queue;
  if (event.redelivered) message.redelivered = true;
  const step = { step: "hop", hop: event.hop, t, task: event.task, queue: event.queue, attempt: event.attempt, text: event.text };
  if (!insert(message, step)) return;
  if (event.hop === 5 || event.hop === 7) {
    // The task or the broker may have died already in what was read first.
    for (const died of state.deaths.get(event.task) ?? []) {
      if (died >= t && event.hop === 7) insert(message, { step: "returned", t: died, task: event.task });
    }
    for (const down of state.broker.downs) if (down >= t) insert(message, { step: "returned", t: down });
  }
  settle(state, message);
  // Hop 7 logs the message's body, which is shown on request only.
  const text = event.hop === 7 ? `got ${event.id}${event.redelivered ? " again" : ""}${event.attempt > 1 ? `, attempt ${event.attempt}` : ""}` : event.text;
  if (event.hop !== 5 && event.hop !== 8) note(state, t, event.task, `hop ${event.hop}: ${text}`, event.hop === 9 ? "good" : "", event.id);
}

function end(state, event, t) {
  const message = event.id === undefined ? null : messageOf(state, event);
  if (!message) return;
  const delayMs = event.delayMs ?? Number(/\.retry\.(\d+)$/.exec(event.queue ?? "")?.[1] ?? Infinity);
  const step = { step: "end", t, task: event.task, outcome: event.outcome, queue: event.queue, delayMs, attempt: event.attempt, text: event.text };
  if (!insert(message, step)) return;
  settle(state, message);
  note(state, t, event.task, event.text || `${event.outcome}: ${event.id}`, event.outcome === "declined" ? "" : "warn", event.id);
}

function task(state, event, t) {
  const known = state.tasks.has(event.task);
  const each = taskOf(state, event.task);
  if (known && t < each.since) return;
  const replaced = each.process && event.process && each.process !== event.process;
  const died = known && !DEAD_TASK.has(each.state) && (DEAD_TASK.has(event.state) || replaced);
  const changed = each.state !== event.state || replaced;
  Object.assign(each, {
    service: event.service, slot: event.slot, state: event.state, process: event.process ?? each.process, pid: event.pid,
    image: event.image ?? each.image, node: event.node ?? each.node, error: event.error, since: changed ? t : each.since,
  });
  if (changed && known) note(state, t, event.task, `is ${stateWord(event.state)}${event.error ? `: ${event.error}` : ""}`, died ? "bad" : "");
  if (!died) return;
  keep(state.deaths, event.task, [...(state.deaths.get(event.task) ?? []), t].slice(-20), 1000);
  for (const id of [...at(state, `task:${event.task}`)]) giveBack(state, id, t, event.task);
}

function queue(state, event, t) {
  const each = { ...state.queues.get(event.name), ...event, t };
  if (event.gone) return void state.queues.delete(event.name);
  state.queues.set(event.name, each);
  if (each.role !== "dead" || each.ready + (each.unacked ?? 0) > 0) return;
  for (const id of [...at(state, `queue:${event.name}`)]) {
    if (state.messages.get(id).place.since < t - STALE_MS) lose(state, id, t);
  }
}

function broker(state, event, t) {
  const was = state.broker.up;
  if (was !== event.up) {
    state.broker.since = t;
    if (was !== null) note(state, t, "broker", event.text || (event.up ? "the broker is back" : "no broker"), event.up ? "good" : "bad");
  }
  Object.assign(state.broker, { up: event.up, address: event.address ?? state.broker.address, text: event.text ?? "" });
  if (event.up || was === false) return;
  state.broker.downs = [...state.broker.downs, t].slice(-20);
  for (const [key, ids] of [...state.places]) {
    if (/^(task|wire):/.test(key)) for (const id of [...ids]) giveBack(state, id, t);
  }
}

function bus(state, event, t) {
  state.bus = [...state.bus, { ...event, t }].slice(-20);
  move(state, { bus: event.step, from: "bus", to: `entry:${event.task}`, t });
  note(state, t, event.task, event.text, "good");
}

function answer(state, event, t) {
  const request = requestOf(state, event.request);
  request.answer = { t, status: event.status, ms: event.ms };
  request.account ??= event.account;
  move(state, { request: event.request, from: `entry:${request.hops[1]?.task}`, to: "clients", t });
  note(state, t, "client", `answer ${event.status} after ${event.ms} ms for account ${event.account}`, event.status === 200 ? "" : "warn");
}

/** Takes away a message that has ended while events were skipped. */
function lose(state, id, t) {
  const message = state.messages.get(id);
  if (message && !state.finished.has(id) && insert(message, { step: "left", t })) settle(state, message);
}

function giveBack(state, id, t, name) {
  const message = state.messages.get(id);
  if (!insert(message, { step: "returned", t, task: name })) return;
  const was = message.key;
  settle(state, message);
  if (was.startsWith("task:") && message.key !== was) note(state, t, was.slice(5), `had ${id} in flight: it is back in ${workQueue(state, message)}`, "warn", id);
}

/** Derives a message's place from its history, and moves its card there. */
function settle(state, message) {
  const { place, ...facts } = fold(state, message);
  const { totals } = state;
  totals.duplicates += facts.duplicates - message.duplicates;
  totals.returned += facts.returned - message.returned;
  totals.deadLettered += facts.deadLettered - message.deadLettered;
  totals.done += Number(facts.done) - Number(message.done);
  totals.declined += Number(place.kind === "declined") - Number(message.place?.kind === "declined");
  Object.assign(message, facts, { place });
  if (place.until === undefined) state.timed.delete(message.id);
  else {
    state.timed.add(message.id);
    state.due = Math.min(state.due, place.until);
  }
  const key = keyOf(place);
  if (facts.duplicates > message.shown) {
    message.shown = facts.duplicates;
    move(state, { id: message.id, from: message.key, to: "duplicate", t: state.now });
  }
  if (key === message.key) return;
  const from = message.key;
  state.places.get(from)?.delete(message.id);
  if (!state.places.get(from)?.size) state.places.delete(from);
  if (!state.places.has(key)) state.places.set(key, new Set());
  state.places.get(key).add(message.id);
  message.key = key;
  state.movedAt = state.now;
  const back = from?.startsWith("task:") && key.startsWith("task:");
  if (back) move(state, { id: message.id, from, to: `queue:${workQueue(state, message)}`, t: state.now });
  move(state, { id: message.id, from, to: key, t: state.now });
  if (!FINAL.has(place.kind)) return void state.finished.delete(message.id);
  state.finished.add(message.id);
  if (state.finished.size > FINISHED_LIMIT) forget(state, state.finished.values().next().value);
}

function fold(state, message) {
  const work = workQueue(state, message);
  let place = { kind: "queue", queue: work, since: message.history[0].t };
  let taken = false;
  let attempts = 0;
  let appended = 0;
  let returned = 0;
  let deadLettered = 0;
  for (const { step, hop: number, t, task: name, queue: to, ...more } of message.history) {
    if (step === "returned") {
      if (place.kind === "task" && (name === undefined || place.task === name)) {
        place = { kind: "queue", queue: work, since: t, returned: true };
        returned += 1;
      } else if (place.kind === "wire" && t < place.until) place = { kind: "outbox", task: place.task, since: t };
    } else if (step === "left") {
      if (!FINAL.has(place.kind)) place = { kind: "left", since: t };
    } else if (step === "end") {
      taken = true;
      attempts = Math.max(attempts, more.attempt ?? 1);
      if (more.outcome === "retried") place = { kind: "retry", queue: to ?? work, since: t, until: t + more.delayMs };
      else if (more.outcome === "dead-lettered") {
        place = { kind: "dead", queue: to ?? `${work}.dead`, since: t };
        deadLettered += 1;
      } else place = { kind: more.outcome, task: name, since: t };
    } else if (number === 9) {
      taken = true;
      appended += 1;
      place = { kind: "done", task: name, since: t };
    } else if (number === 7 || (number === 8 && !taken)) {
      // A delivery while one is open: the broker has put the message back and delivered it again.
      if (place.kind === "task") returned += 1;
      taken = true;
      attempts += 1;
      place = { kind: "task", task: name, since: t, returned: returned > 0 };
    } else if (!taken && number === 4) place = { kind: "outbox", task: name, since: t };
    else if (!taken && number === 5) place = { kind: "wire", task: name, since: t, until: t + WIRE_MS };
    else if (!taken && number === 6) place = { kind: "queue", queue: to ?? work, since: t };
  }
  if (place.until <= state.now) place = { kind: "queue", queue: work, since: place.kind === "wire" ? place.since : place.until };
  return { place, attempts, returned, deadLettered, done: appended > 0, duplicates: Math.max(0, appended - 1) };
}

function keyOf(place) {
  switch (place.kind) {
    case "outbox": return `outbox:${place.task}`;
    case "wire": return `wire:${place.task}`;
    case "task": return `task:${place.task}`;
    case "queue": case "retry": case "dead": return `queue:${place.queue}`;
    default: return place.kind;
  }
}

/** Puts a step into the history by its time; returns false for one that is there already. */
function insert(message, step) {
  const { history } = message;
  const rank = (s) => s.hop ?? { end: 10, returned: 11, left: 12 }[s.step];
  let i = history.length;
  while (i > 0 && (history[i - 1].t > step.t || (history[i - 1].t === step.t && rank(history[i - 1]) > rank(step)))) i -= 1;
  for (let j = i - 1; j >= 0 && history[j].t === step.t; j -= 1) {
    if (rank(history[j]) === rank(step) && history[j].task === step.task) return false;
  }
  history.splice(i, 0, step);
  if (history.length > HISTORY_LIMIT) history.splice(HISTORY_LIMIT / 2, 1);
  return true;
}

function messageOf(state, event) {
  let message = state.messages.get(event.id);
  if (!message) {
    if (state.messages.size - state.finished.size >= OPEN_LIMIT) return void (state.totals.untracked += 1);
    const counts = { attempts: 0, returned: 0, deadLettered: 0, duplicates: 0, shown: 0 };
    message = { id: event.id, history: [], done: false, redelivered: false, ...counts };
    state.messages.set(event.id, message);
  }
  message.request ??= event.request;
  message.account ??= event.account ?? state.requests.get(event.request)?.account;
  return message;
}

function forget(state, id) {
  const message = state.messages.get(id);
  state.finished.delete(id);
  state.timed.delete(id);
  state.places.get(message.key)?.delete(id);
  state.messages.delete(id);
}

function requestOf(state, id) {
  if (!state.requests.has(id)) keep(state.requests, id, { request: id, hops: {} }, REQUEST_LIMIT);
  return state.requests.get(id);
}

function taskOf(state, name) {
  if (!state.tasks.has(name)) {
    const [, service, slot] = /^(.*?)\.?(\d*)$/.exec(name);
    state.tasks.set(name, { task: name, service, slot: Number(slot) || 1, state: "running", since: 0 });
  }
  return state.tasks.get(name);
}

function keep(map, key, value, limit) {
  map.set(key, value);
  if (map.size > limit) map.delete(map.keys().next().value);
}

function move(state, each) {
  state.moves.push(each);
  if (state.moves.length > MOVE_LIMIT) state.moves.shift();
}

function note(state, t, who, text, tone, id) {
  state.log.push({ t, who, text, tone, id });
  if (state.log.length > LOG_LIMIT) state.log.shift();
}

/** Returns a task state in the words of the page. */
export const stateWord = (word) => ({ paused: "frozen", waiting: "restarts", running: "running, not ready" })[word] ?? word;
