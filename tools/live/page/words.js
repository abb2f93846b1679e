// The picture in words: why a box is empty, what an event says, and the spans of a message's waterfall.
//
// Pure: every function turns state into text or numbers.

/** Returns the time of day, as `15:25:44`, or with milliseconds. */
export const clock = (t, millis = false) =>
  new Date(t - new Date(t).getTimezoneOffset() * 60_000).toISOString().slice(11, millis ? 23 : 19);

/** Returns a duration in the largest fitting unit, with two or three digits. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "until it is taken";
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** Returns `1 message`, `2 messages`. */
export const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

/** Returns the part of an id that fits a card: ids of one moment differ at their end. */
export const shortId = (id) => [...String(id)].slice(-4).join("");

/** Returns the sentence that explains a broker that is away, or an empty text. */
export function brokerWhy(broker) {
  return broker.up === false ? `${broker.text || `no broker at ${broker.address}`} since ${clock(broker.since)}` : "";
}

/** Explains why a queue shows no card. */
export function queueWhy({ role, consumers }, { broker, messages }) {
  const taken = consumers === 0 ? "nobody consumes it" : "empty";
  const work = messages.size === 0 ? "nothing is published yet: read a VIP's account" : taken;
  const [dead, stream] = ["no message has failed for good", "no offer yet: read a VIP's account"];
  return brokerWhy(broker) || { work, retry: "empty", dead, stream }[role];
}

/** Returns a task's state in the words of the page. */
export const stateWord = (state) => ({ running: "alive", paused: "frozen", waiting: "starts again" })[state] ?? state;

const IDLE = {
  starting: "takes nothing yet", running: "but not ready", paused: "does nothing",
  stopping: "takes nothing more", waiting: "in a moment",
};

/** Explains why a replica has no message in flight. */
export function taskWhy({ state, error }, broker) {
  if (state === "ready") return broker.up === false ? "there is no broker" : "waits for a message";
  return error ?? IDLE[state] ?? state;
}

/** Explains where a message is. */
export function placeWords({ kind, task, queue, returned }) {
  switch (kind) {
    case "outbox": return `in the outbox of ${task}`;
    case "wire": return `on the way from ${task} to the broker`;
    case "queue": return `${returned ? "back" : "waiting"} in ${queue}`;
    case "task": return `in flight at ${task}${returned ? ", again after its replica was gone" : ""}`;
    case "retry": return `waiting in ${queue} for its next attempt`;
    case "dead": return `dead-lettered, in ${queue}`;
    case "done": return `done: the offer of ${task} is in the stream`;
    case "declined": return `done: ${task} made no offer`;
    case "dropped": return `dropped by ${task}`;
    default: return "gone: discarded, or ended while events were skipped";
  }
}

/** Returns the last entry of the stream of changes that a replica has read; `last` is the last change that any has. */
export function positionWords(position, last) {
  if (!position || position.offset < last.offset) return `${position?.offset ?? "none"}: behind`;
  return `${position.offset}: ${changeWords(position.change ?? last)}`;
}

/** Returns what became of a change. */
export const changeWords = ({ account, version, step }) =>
  `account ${account}, ${step === "rejected" ? step : `version ${version}`}`;

/** Sentences of events that have no text of their own, or need more than it. */
const SENTENCES = {
  hop({ hop, text, attempt, redelivered }) {
    return `hop ${hop}: ${text}${attempt > 1 ? `, attempt ${attempt}` : ""}${redelivered ? ", redelivered" : ""}`;
  },
  returned: ({ task }) => task
    ? `${task} was gone; the broker put the message back into its queue`
    : "the broker was gone; what was in flight is delivered again",
  redriven: () => "the message was redriven to its queue",
  left: () => placeWords({}),
  task: ({ state, error }) => `${stateWord(state)}${error ? `: ${error}` : ""}`,
  answer: ({ status, ms, account }) => `answer ${status} after ${ms} ms for account ${account}`,
};

function toneOf({ kind, hop, up, state, level, step, outcome = "declined", status = 200 }) {
  if (hop === 9 || up || kind === "bus" || step === "applied") return "good";
  if (step === "rejected") return "warn";
  if (up === false || level === "ERROR" || ["waiting", "failed", "gone"].includes(state)) return "bad";
  return kind === "returned" || level === "WARN" || !["declined", "redriven"].includes(outcome) || status !== 200 ? "warn" : "";
}

/** Tells an event: `{t, who, text, tone}`. Log, story and timeline use the same words. */
export function told(event) {
  const { t, id, kind, task } = event;
  const who = kind === "answer" ? "client" : kind === "returned" ? "broker" : task ?? "broker";
  const said = SENTENCES[kind]?.(event) ?? event.text ?? kind;
  const text = said.includes(id) ? said.replaceAll(id, () => shortId(id)) : `${said}${id ? ` (${shortId(id)})` : ""}`;
  return { t, who, text, tone: toneOf(event) };
}

/** Tells a message's history: `{t, who, text, tone, gap}`, where `gap` is the time since the step before. */
export function story(message, request) {
  const steps = [1, 2, 3].flatMap((hop) => request?.hops[hop] ?? []).concat(message.history);
  const gap = (i) => (i > 0 ? `+${duration(Math.max(0, steps[i].t - steps[i - 1].t))}` : "");
  return steps.map((each, i) => ({ ...told(each), gap: gap(i) }));
}

/** Returns the spans of a message's waterfall, in the order of their start; those of `depth` 1 are parts of another. */
export function spans(message, request, now) {
  const list = [];
  const add = (name, who, from, to, kind, depth = 0) => {
    const open = to === undefined;
    if (from !== undefined) list.push({ name, who, from, to: Math.max(from, to ?? now), open, kind, depth });
  };
  const steps = message.history;
  const first = (hop) => steps.find((each) => each.hop === hop);
  const { hops = {}, answer } = request ?? {};
  const start = hops[1] ?? hops[2] ?? hops[3];
  add("request", start?.task, start?.t, first(4)?.t ?? hops[3]?.t, "account");
  if (answer && start) add("answer", start.task, answer.t - answer.ms, answer.t, "account", 1);
  add("outbox", first(4)?.task, first(4)?.t, (first(5) ?? first(7))?.t, "account");
  add("publish", first(5)?.task, first(5)?.t, (first(6) ?? first(7))?.t, "broker");

  const many = steps.filter((each) => each.hop === 7).length > 1;
  let waits = first(6) ?? first(5);
  let delivery = null;
  let offer = null;
  let attempt = 0;
  const wait = (to) => add(`wait in ${waits.queue ?? message.queue ?? "the queue"}`, "broker", waits.t, to, "broker");
  const consume = (last) => {
    const lost = last && last.hop !== 9 && last.kind !== "end" ? ", lost" : "";
    add(`consume${many ? ` ${attempt}` : ""}${lost}`, delivery.task, delivery.t, last?.t, "vip");
    if (offer) add("offer", delivery.task, delivery.t, offer.t, "vip", 1);
    if (offer && last?.hop === 9) add("append", delivery.task, offer.t, last.t, "vip", 1);
    delivery = offer = null;
  };
  for (const step of steps) {
    const returned = step.kind === "returned" && (step.task === undefined || step.task === delivery?.task);
    if (step.hop === 7) {
      if (delivery) consume(step);
      else if (waits) wait(Math.max(waits.t, step.t));
      delivery = step;
      attempt += 1;
    } else if (step.hop === 8) offer = delivery && step;
    else if (step.hop === 9 || step.kind === "end" || returned) {
      if (delivery) consume(step);
      waits = returned || ["retried", "dead-lettered"].includes(step.outcome) ? step : null;
    }
  }
  if (delivery) consume();
  else if (waits && message.place.queue !== undefined) wait();
  return list;
}

/** Fills a command's template; values that a shell would read as more than a word are quoted. */
export function command(template = "", values) {
  return template.replace(/\{(\w+)\}/g, (_, name) => {
    const value = String(values[name] ?? "");
    return /^[\w.:@/-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`;
  });
}
