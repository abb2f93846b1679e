// The picture in words: why a box is empty, what happened to a message, and the spans of its waterfall.
//
// Pure: every function turns state into text or numbers.

/** Returns the time of day, as `15:25:44`, or with milliseconds. */
export function clock(t, millis = false) {
  const at = new Date(t);
  const two = (n) => String(n).padStart(2, "0");
  const day = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return millis ? `${day}.${String(at.getMilliseconds()).padStart(3, "0")}` : day;
}

/** Returns a log line without the body that hop 7 logs: bodies are shown on request only. */
export const withoutBody = (text) => text.replace(/^(got a message): .*$/s, "$1");

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
  if (broker.up !== false) return "";
  return `${broker.text || `no broker at ${broker.address}`} since ${clock(broker.since)}`;
}

/** Explains why a queue shows no card. */
export function queueWhy(queue, state) {
  const away = brokerWhy(state.broker);
  if (away) return away;
  if (queue.role === "retry") return "empty";
  if (queue.role === "dead") return "no message has failed for good";
  if (queue.role === "stream") return "no offer yet: read a VIP's account";
  if (state.totals.reads === 0 && state.messages.size === 0) return "nothing is published yet: read a VIP's account";
  return queue.consumers === 0 ? "empty, and nobody consumes it" : "empty: all are taken";
}

/** Explains why a replica has no message in flight. */
export function taskWhy(task, state) {
  switch (task.state) {
    case "starting": return "starting: takes nothing yet";
    case "running": return "alive, but not ready";
    case "paused": return "frozen: does nothing until it is thawed";
    case "stopping": return "stopping: takes nothing more";
    case "waiting": return `starts again${task.error ? `: ${task.error}` : " in a moment"}`;
    case "failed": return `failed${task.error ? `: ${task.error}` : ""}`;
    case "gone": return "gone";
    default: return state.broker.up === false ? "ready, but there is no broker" : "waits for a message";
  }
}

/** Explains where a message is. */
export function placeWords(message) {
  const { place } = message;
  switch (place.kind) {
    case "outbox": return `in the outbox of ${place.task}`;
    case "wire": return `on the way from ${place.task} to the broker`;
    case "queue": return `${place.returned ? "back" : "waiting"} in ${place.queue}`;
    case "task": return `in flight at ${place.task}`;
    case "retry": return `waiting in ${place.queue} for its next attempt`;
    case "dead": return `dead-lettered, in ${place.queue}`;
    case "done": return `done: the offer of ${place.task} is in the stream`;
    case "declined": return `done: ${place.task} made no offer`;
    case "dropped": return `dropped by ${place.task}`;
    default: return "gone: redriven, discarded, or ended while events were skipped";
  }
}

/** Returns the spans of a message's waterfall: `{name, who, from, to, open}`, in the order of their start. */
export function spans(message, request, now) {
  const list = [];
  const add = (name, who, from, to, kind, depth = 0) => {
    if (from !== undefined) list.push({ name, who, from, to: Math.max(from, to ?? now), open: to === undefined, kind, depth });
  };
  const steps = message.history;
  const first = (hop) => steps.find((each) => each.hop === hop);
  const hops = request?.hops ?? {};
  const start = hops[1] ?? hops[2] ?? hops[3];
  add("request", start?.task, start?.t, first(4)?.t ?? hops[3]?.t, "account");
  if (request?.answer && start) add("answer", start.task, request.answer.t - request.answer.ms, request.answer.t, "account", 1);
  add("outbox", first(4)?.task, first(4)?.t, first(5)?.t ?? first(7)?.t, "account");
  add("publish", first(5)?.task, first(5)?.t, first(6)?.t ?? first(7)?.t, "broker");
  let waits = first(6)?.t ?? first(5)?.t;
  let waitsIn = message.queue ?? "the queue";
  let open = null;
  for (const step of steps) {
    if (step.hop === 7) {
      if (open === null && waits !== undefined) add(`wait in ${waitsIn}`, "broker", Math.min(waits, step.t), step.t, "broker");
      open = step;
      waits = undefined;
      const after = steps.slice(steps.indexOf(step) + 1);
      const until = after.find((each) => each.hop === 9 || each.step === "end" || each.hop === 7 || (each.step === "returned" && (each.task === undefined || each.task === step.task)));
      const offer = after.find((each) => each.hop === 8 && each.t <= (until?.t ?? Infinity));
      const deliveries = steps.filter((each) => each.hop === 7);
      const which = deliveries.length > 1 ? ` ${deliveries.indexOf(step) + 1}` : "";
      const lost = until?.step === "returned" || until?.hop === 7 ? ", lost" : "";
      add(`consume${which}${lost}`, step.task, step.t, until?.t, "vip");
      if (offer) {
        add("offer", step.task, step.t, offer.t, "vip", 1);
        if (until?.hop === 9) add("append", step.task, offer.t, until.t, "vip", 1);
      }
    } else if (step.step === "end" || (step.step === "returned" && open && (step.task === undefined || step.task === open.task))) {
      waits = ["retried", "dead-lettered"].includes(step.outcome) || step.step === "returned" ? step.t : undefined;
      waitsIn = step.queue ?? message.queue ?? "the queue";
      open = null;
    } else if (step.hop === 9) open = null;
  }
  if (open === null && waits !== undefined && ["queue", "retry", "dead"].includes(message.place.kind)) {
    add(`wait in ${waitsIn}`, "broker", waits, undefined, "broker");
  }
  return list;
}

/** Tells a message's history in sentences. */
export function story(message, request) {
  const lines = [];
  let last;
  const say = (t, text) => {
    lines.push({ t, text: last === undefined ? text : `${duration(Math.max(0, t - last))} later ${text}` });
    last = t;
  };
  const hops = request?.hops ?? {};
  if (hops[1]) say(hops[1].t, `${hops[1].task} got ${hops[1].text}.`);
  for (const step of message.history) {
    const who = step.task;
    if (step.hop === 4) say(step.t, `${who} had written the notification to its outbox, on disk.`);
    else if (step.hop === 5) say(step.t, `the relay of ${who} published it${step.queue ? ` to ${step.queue}` : ""}.`);
    else if (step.hop === 6) say(step.t, "the broker confirmed that it has the message.");
    else if (step.hop === 7) say(step.t, `${who} took it from the queue${step.attempt > 1 ? `, attempt ${step.attempt}` : ""}.`);
    else if (step.hop === 8) say(step.t, `${who} decided: ${step.text}.`);
    else if (step.hop === 9) say(step.t, `${who} had appended the offer to the stream.`);
    else if (step.step === "returned") say(step.t, step.task ? `${step.task} was gone; the broker put the message back into the queue.` : "the broker was gone; what was in flight is delivered again.");
    else if (step.outcome === "retried") say(step.t, `${who} sent it to ${step.queue}; it comes back after ${duration(step.delayMs)}.`);
    else if (step.outcome === "dead-lettered") say(step.t, `${who} dead-lettered it: ${step.text}.`);
    else if (step.step === "end") say(step.t, `${who} ended the delivery: ${step.text || step.outcome}.`);
    else say(step.t, "it was gone: redriven, discarded, or ended while events were skipped.");
  }
  if (message.duplicates > 0) lines.push({ text: `The stream has ${count(message.duplicates, "duplicate")} of the offer; every replica's view shows it once.` });
  return lines;
}

/** Fills a command's template; values that a shell would read as more than a word are quoted. */
export function command(template, values) {
  if (!template) return "";
  return template.replace(/\{(\w+)\}/g, (_, name) => {
    const value = String(values[name] ?? "");
    return /^[\w.:@/-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`;
  });
}
