// The state of the system, from events: where each message is, what each task, queue and the broker do.
//
// Pure: no clock, no browser. Hops of one message come in any order, because each replica has a log of its own, so a
// message keeps its events sorted by their own times, and its place follows from all of them. Everything is bounded.

/** The stream of changes to accounts. */
export const CHANGES = "account_changes";
export const FINISHED_LIMIT = 5000;
const LIMITS = { open: 50_000, requests: 10_000, history: 200, log: 300, moves: 2000, deaths: 100 };
/** A published message whose confirm is not logged counts as queued after this time. */
const WIRE_MS = 1000;
/** The broker's numbers are polled, so a card must be this old before an empty queue says that it has left. */
const STALE_MS = 2000;
/** A command logs a redrive when the broker has confirmed it: at most this long after a replica has taken the message. */
const REDRIVE_MS = 5000;
/** A task that is gone stays in the picture for this time. */
const GONE_MS = 4000;

const DEAD_TASK = new Set(["waiting", "failed", "gone"]);
const FINAL = new Set(["done", "declined", "dropped", "left"]);
/** What is counted for each message, and in total. */
const COUNTED = ["done", "duplicates", "returned", "deadLettered"];

/** Creates the state in which nothing is known. */
export function create() {
  return {
    now: 0, messages: new Map(), requests: new Map(), finished: new Set(), places: new Map(),
    /** Ids of the messages that time moves on, and when it moves the next one. */
    timed: new Set(), due: Infinity,
    tasks: new Map(), outboxes: new Map(), positions: new Map(), queues: new Map(), broker: { up: null, since: 0 }, deaths: [], change: null,
    log: [], moves: [], movedAt: 0,
    totals: { reads: 0, done: 0, duplicates: 0, returned: 0, deadLettered: 0 },
  };
}

/** Returns an event's time in milliseconds, with the microseconds as a fraction. */
export const time = (at) => Date.parse(at) + Number(`0.${at.slice("2026-11-29T15:25:44.961".length, -1) || 0}`);

/** Applies one event. Events may come in any order, and the same event may come twice. */
export function apply(state, event) {
  const timed = event.t === undefined ? { ...event, t: time(event.at) } : event;
  tick(state, timed.t);
  HANDLERS[event.kind]?.(state, timed);
}

/** Moves on what only time moves: messages in a retry queue, on the wire, and tasks that are gone. */
export function tick(state, now) {
  if (now <= state.now) return;
  state.now = now;
  if (now >= state.due) {
    state.due = Infinity;
    for (const message of [...state.timed].map((id) => state.messages.get(id))) {
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

/** Returns the queue that a message is consumed from: its own, or the broker's first work queue. */
export const workQueue = (state, message) =>
  message.queue ?? [...state.queues.values()].find((each) => each.role === "work")?.name ?? "vip_queue";

/** Returns the number of messages taken from the work queue `name` that have not ended. */
export function inFlight(state, name) {
  const taken = [...state.places].filter(([key]) => key.startsWith("task:")).flatMap(([, ids]) => [...ids]);
  return taken.filter((id) => workQueue(state, state.messages.get(id)) === name).length;
}

/** Returns the last change that a replica has read: `{offset, account, version, step}`, or undefined before the first one. */
export function lastChange({ positions }) {
  const changes = [...positions.values()].flatMap(({ change }) => change ?? []);
  return changes.reduce((last, each) => (last?.offset >= each.offset ? last : each), undefined);
}

const HANDLERS = {
  hop(state, event) {
    const { hop, id, t, task } = event;
    if (event.request !== undefined) {
      const request = requestOf(state, event);
      if (hop === 1 && !request.hops[1]) {
        state.totals.reads += 1;
        move(state, { from: "clients", to: `entry:${task}` });
      }
      request.hops[hop] ??= event;
    }
    if (hop < 4 || id === undefined) return;
    const message = messageOf(state, event);
    if (!message || !insert(message, event)) return;
    if (event.queue !== undefined) message.queue = event.queue;
    // The task or the broker may have died already in what was read first.
    for (const died of state.deaths) {
      const concerns = died.task === undefined ? hop === 5 || hop === 7 : hop === 7 && died.task === task;
      if (concerns && died.t >= t) insert(message, died);
    }
    settle(state, message);
    if (hop !== 5 && hop !== 8) note(state, event);
  },
  end(state, event) {
    const message = messageOf(state, event);
    if (message && record(state, message, event)) note(state, event);
  },
  task(state, event) {
    const known = state.tasks.get(event.task) ?? { since: 0 };
    const replaced = known.process !== undefined && known.process !== event.process;
    // The end of a process may be told after the start of the next one.
    if (event.t < known.since || (replaced && event.state === "gone")) return;
    const changed = known.state !== event.state || replaced;
    const since = changed ? event.t : known.since;
    state.tasks.set(event.task, { ...event, since });
    if (changed && known.state) note(state, event);
    const died = !DEAD_TASK.has(known.state) && (replaced || DEAD_TASK.has(event.state));
    if (died) die(state, { kind: "returned", t: event.t, task: event.task });
  },
  outbox: (state, event) => keep(state.outboxes, event.task, event.waiting),
  queue(state, event) {
    state.queues.set(event.name, event);
    if (event.gone) state.queues.delete(event.name);
    if (event.ready + (event.unacked ?? 0) === 0) emptied(state, event);
  },
  broker(state, event) {
    const { up, since } = state.broker;
    state.broker = { ...event, since: up === event.up ? since : event.t };
    if (up !== null && up !== event.up) note(state, event);
    if (up !== false && !event.up) die(state, { kind: "returned", t: event.t });
  },
  bus(state, event) {
    state.change = event;
    move(state, { bus: true, from: "bus", to: `entry:${event.task}` });
    note(state, event);
  },
  change(state, event) {
    const { step, task, offset, t } = event;
    if (step === "append") move(state, { from: `entry:${task}`, to: `queue:${CHANGES}` });
    if (step !== "caught-up") note(state, event);
    const known = state.positions.get(task) ?? { since: 0 };
    if (offset === undefined || t < known.since) return;
    // A change behind the end of the stream was in another stream, which is lost.
    const before = known.change?.offset > offset ? undefined : known.change;
    const change = step === "caught-up" ? before : event;
    keep(state.positions, task, { offset, since: t, change });
    if (change === event) move(state, { from: `queue:${CHANGES}`, to: `entry:${task}` });
  },
  answer(state, event) {
    const request = requestOf(state, event);
    request.answer = event;
    move(state, { from: `entry:${request.hops[1]?.task}`, to: "clients" });
    note(state, event);
  },
  log: (state, event) => note(state, event),
  /** Takes away the messages that have ended while events were skipped. */
  reset(state, { lost, t }) {
    const open = lost.filter((id) => state.messages.has(id) && !state.finished.has(id));
    for (const id of open) record(state, state.messages.get(id), { kind: "left", t });
  },
};

/** Gives back what was in flight at a task, or at all of them and on the wire when the broker is gone. */
function die(state, died) {
  push(state.deaths, died, LIMITS.deaths);
  for (const [key, ids] of [...state.places]) {
    if (died.task === undefined ? !/^(task|wire):/.test(key) : key !== `task:${died.task}`) continue;
    for (const message of [...ids].map((id) => state.messages.get(id))) {
      if (record(state, message, died) && message.place.returned) note(state, { ...died, id: message.id });
    }
  }
}

/**
 * Follows the messages that have left a dead-letter queue without a log line, as with a command whose log nobody reads: as
 * many as the work queue has beyond its cards were redriven, the others discarded. Where the work queue is empty, too, none
 * of those is there.
 */
function emptied(state, { name, role, t }) {
  for (const message of [...at(state, `queue:${name}`)].map((id) => state.messages.get(id))) {
    const { since, redriven } = message.place;
    if (since > t - STALE_MS || !(role === "dead" || redriven)) continue;
    const work = workQueue(state, message);
    const isRedriven = role === "dead" && state.queues.get(work)?.ready > at(state, `queue:${work}`).size;
    record(state, message, { kind: isRedriven ? "redriven" : "left", t });
  }
}

/** Adds a step to a message, and moves its card to where it then is; returns false for a step that is there already. */
function record(state, message, step) {
  const isNew = insert(message, step);
  if (isNew) settle(state, message);
  return isNew;
}

/** Derives a message's place from its history, and moves its card there. */
function settle(state, message) {
  const { id, key: from } = message;
  const facts = fold(state, message);
  for (const name of COUNTED) state.totals[name] += facts[name] - message[name];
  if (facts.duplicates > message.duplicates) move(state, { id, from, to: "duplicate" });
  const { until, kind } = facts.place;
  state.timed[until === undefined ? "delete" : "add"](id);
  state.due = Math.min(state.due, until ?? Infinity);
  const to = keyOf(facts.place);
  Object.assign(message, facts, { key: to });
  if (to === from) return;
  at(state, from).delete(id);
  if (at(state, from).size === 0) state.places.delete(from);
  state.places.set(to, at(state, to).add(id));
  state.movedAt = state.now;
  // From one replica to another it goes back to the queue in between.
  const via = from?.startsWith("task:") && to.startsWith("task:") ? [`queue:${workQueue(state, message)}`] : [];
  [from, ...via].forEach((each, i) => move(state, { id, from: each, to: via[i] ?? to }));
  state.finished[FINAL.has(kind) ? "add" : "delete"](message.id);
  if (state.finished.size <= FINISHED_LIMIT) return;
  const [oldest] = state.finished;
  at(state, state.messages.get(oldest).key).delete(oldest);
  for (const each of [state.finished, state.messages]) each.delete(oldest);
}

function fold(state, message) {
  const work = workQueue(state, message);
  let place = { kind: "queue", queue: work, since: message.history[0].t };
  let [taken, sent, attempts, appended, returned, deadLettered] = [false, 0, 0, 0, 0, 0];
  let takenFromDead = -Infinity;
  for (const { kind, hop, t: since, task, queue, outcome, delayMs = Infinity, attempt = 1 } of message.history) {
    taken ||= kind === "end" || hop === 7 || hop === 9;
    const isRedriven = kind === "redriven" || outcome === "redriven";
    if (place.kind === "dead" && !isRedriven && (kind === "hop" || kind === "end")) takenFromDead = since;
    if (kind === "returned" && place.kind === "task" && (task === undefined || place.task === task)) {
      place = { kind: "queue", queue: work, since, returned: true };
      returned += 1;
    } else if (kind === "returned" && place.kind === "wire" && since < place.until) {
      place = { kind: "outbox", task: place.task, since };
    } else if (isRedriven) {
      // By then a replica may have taken the message already, and may have dead-lettered it again.
      const isLate = outcome !== undefined && since < takenFromDead + REDRIVE_MS;
      if (place.kind === "dead" && !isLate) place = { kind: "queue", queue: work, since, redriven: true };
    } else if (kind === "left" && !FINAL.has(place.kind)) place = { kind: "left", since };
    else if (kind === "end") {
      attempts = Math.max(attempts, attempt);
      deadLettered ||= Number(outcome === "dead-lettered");
      if (outcome === "retried") place = { kind: "retry", queue: queue ?? work, since, until: since + delayMs };
      else if (outcome === "dead-lettered") place = { kind: "dead", queue: queue ?? `${work}.dead`, since };
      else place = { kind: outcome, task, since };
    } else if (hop === 9) {
      appended += 1;
      place = { kind: "done", task, since };
    } else if (hop === 7 || (hop === 8 && !taken)) {
      // A delivery while one is open: the broker has put the message back and delivered it again.
      if (place.kind === "task") returned += 1;
      taken = true;
      attempts += 1;
      place = { kind: "task", task, since, returned: returned > 0 };
    } else if (!taken && hop >= sent) {
      // Under load the relay can be quicker than the line of hop 4, which then takes nothing back.
      sent = hop;
      if (hop === 4) place = { kind: "outbox", task, since };
      else if (hop === 5) place = { kind: "wire", task, since, until: since + WIRE_MS };
      else place = { kind: "queue", queue: queue ?? work, since };
    }
  }
  if (place.until <= state.now) place = { kind: "queue", queue: work, since: place.until };
  const duplicates = Math.max(0, appended - 1);
  return { place, attempts, returned, deadLettered, duplicates, done: Math.min(1, appended) };
}

const keyOf = ({ kind, task, queue }) =>
  queue !== undefined ? `queue:${queue}` : FINAL.has(kind) ? kind : `${kind}:${task}`;

/** Puts a step into the history by its time; returns false for one that is there already. */
function insert({ history }, step) {
  const rank = (each) => each.hop ?? { end: 10, returned: 11 }[each.kind] ?? 12;
  const order = (a, b) => a.t - b.t || rank(a) - rank(b);
  let i = history.length;
  while (i > 0 && order(history[i - 1], step) > 0) i -= 1;
  for (let j = i - 1; j >= 0 && order(history[j], step) === 0; j -= 1) if (history[j].task === step.task) return false;
  history.splice(i, 0, step);
  if (history.length > LIMITS.history) history.splice(LIMITS.history / 2, 1);
  return true;
}

function messageOf(state, { id, request, account }) {
  const { messages, finished } = state;
  if (!messages.has(id) && messages.size - finished.size >= LIMITS.open) return null;
  const fresh = { id, history: [], done: 0, duplicates: 0, returned: 0, deadLettered: 0 };
  const message = messages.get(id) ?? messages.set(id, fresh).get(id);
  message.request ??= request;
  message.account ??= account ?? state.requests.get(request)?.account;
  return message;
}

function requestOf(state, { request: id, account }) {
  if (!state.requests.has(id)) keep(state.requests, id, { hops: {} });
  const request = state.requests.get(id);
  request.account ??= account;
  return request;
}

function keep(map, key, value) {
  map.set(key, value);
  if (map.size > LIMITS.requests) map.delete(map.keys().next().value);
}

function push(list, item, limit) {
  list.push(item);
  if (list.length > limit) list.shift();
}

const move = (state, each) => push(state.moves, each, LIMITS.moves);
const note = (state, event) => push(state.log, event, LIMITS.log);
