// A small simulated system: the same hops, retries, kills and outages as the real one, with events as the server sends
// them, and the truth about where each message is. Its randomness comes from a seed, so every run can be repeated.

export class Simulation {
  constructor(seed = 1, { vips = 1, start = Date.UTC(2026, 10, 29, 15, 0, 0) } = {}) {
    this.seed = seed;
    this.now = start;
    this.todo = [];
    this.events = [];
    this.truth = new Map();
    this.work = [];
    this.held = new Map();
    this.outbox = [];
    this.tasks = new Map();
    this.up = true;
    this.serial = 0;
    this.process = 100;
    this.emit({ kind: "broker", up: true, address: "127.0.0.1:5672", text: "connected" });
    for (const [name, role] of [["vip_queue", "work"], ["vip_queue.retry.1000", "retry"], ["vip_queue.retry.5000", "retry"], ["vip_queue.retry.30000", "retry"], ["vip_queue.dead", "dead"], ["offers", "stream"]]) {
      this.emit({ kind: "queue", name, role, ready: 0, unacked: 0, consumers: role === "work" ? vips : 0 });
    }
    for (const task of ["accountservice.1", "accountservice.2", "configserver.1", "rabbitmq.1"]) this.task(task, "ready", true);
    for (let n = 1; n <= vips; n += 1) this.task(`vipservice.${n}`, "ready", true);
  }

  random() {
    // mulberry32
    this.seed = (this.seed + 0x6d2b79f5) | 0;
    let z = Math.imul(this.seed ^ (this.seed >>> 15), 1 | this.seed);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
  }

  emit(event) {
    this.now += 0.003;
    const at = new Date(this.now).toISOString().replace("Z", `${String(Math.floor((this.now % 1) * 1000)).padStart(3, "0")}Z`);
    this.events.push({ seq: this.events.length + 1, at, ...event });
  }

  after(ms, run) {
    const t = this.now + ms;
    let i = this.todo.length;
    while (i > 0 && this.todo[i - 1].t > t) i -= 1;
    this.todo.splice(i, 0, { t, run });
  }

  run(ms) {
    const until = this.now + ms;
    while (this.todo.length && this.todo[0].t <= until) {
      const { t, run } = this.todo.shift();
      this.now = Math.max(this.now, t);
      run();
    }
    this.now = Math.max(this.now, until);
  }

  task(task, state, fresh = false, more = {}) {
    const [service, slot] = task.split(".");
    const known = this.tasks.get(task) ?? {};
    const process = fresh ? (this.process += 1) : known.process;
    this.tasks.set(task, { service, state, process });
    this.emit({ kind: "task", task, service, slot: Number(slot), process: String(process), state, pid: process, image: `hops/${service}:1.4.0`, ...more });
  }

  vips(state) {
    return [...this.tasks].filter(([, each]) => each.service === "vipservice" && (!state || each.state === state)).map(([name]) => name);
  }

  read(account = "10000", behavior = {}) {
    const request = `r-${(this.serial += 1)}`;
    const id = behavior.id ?? `01a1f96d-6636-7439-ba94-${(this.serial * 7919 + 0xc8cf44e4f).toString(16).slice(-12)}`;
    const task = `accountservice.${1 + Math.floor(this.random() * 2)}`;
    const hop = (n, text) => this.emit({ kind: "hop", hop: n, task, request, trace: `t-${request}`, account, text, id: n > 3 ? id : undefined });
    hop(1, `GET /accounts/${account}`);
    this.after(0.3, () => hop(2, `${account} is an account id`));
    this.after(0.5, () => hop(3, `looked for account ${account}`));
    this.after(2.1, () => {
      hop(4, `account ${account} is a VIP: notification ${id} is in the outbox`);
      this.truth.set(id, `outbox:${task}`);
      this.outbox.push({ id, task, request, account, behavior });
      this.after(0.8, () => this.relay());
    });
    this.after(2.6, () => this.emit({ kind: "answer", request, account, status: 200, ms: 2.6 }));
    return { id, request };
  }

  relay() {
    while (this.up && this.outbox.length) {
      const message = this.outbox.shift();
      const publish = (n, text) => this.emit({ kind: "hop", hop: n, task: message.task, request: message.request, id: message.id, queue: "vip_queue", text });
      publish(5, `the relay publishes ${message.id} to vip_queue`);
      this.truth.set(message.id, "queue:vip_queue");
      this.work.push(message);
      publish(6, `vip_queue has ${message.id}: the broker has confirmed it`);
      this.after(0.6 + this.random(), () => this.deliver());
    }
  }

  deliver() {
    const ready = this.vips("ready").filter((task) => (this.held.get(task)?.length ?? 0) < 5);
    while (this.up && this.work.length && ready.length) {
      const task = ready[Math.floor(this.random() * ready.length)];
      const message = this.work.shift();
      const { process } = this.tasks.get(task);
      this.held.set(task, [...(this.held.get(task) ?? []), message]);
      message.attempt = (message.attempt ?? 0) + 1;
      this.truth.set(message.id, `task:${task}`);
      this.emit({ kind: "hop", hop: 7, task, request: message.request, id: message.id, queue: "vip_queue", attempt: message.failures ? message.failures + 1 : 1, redelivered: message.attempt > 1, text: `got a message: {"accountId":"${message.account}"}` });
      const token = (message.token = {});
      this.after(message.behavior.slow ?? 0.4 + this.random() * 2, () => this.handle(task, process, message, token));
      if (this.held.get(task).length >= 5) ready.splice(ready.indexOf(task), 1);
    }
  }

  alive(task, process, message, token) {
    const each = this.tasks.get(task);
    return this.up && each?.process === process && message.token === token && !["waiting", "gone"].includes(each.state);
  }

  release(task, message) {
    this.held.set(task, (this.held.get(task) ?? []).filter((each) => each !== message));
    this.after(0.2, () => this.deliver());
  }

  handle(task, process, message, token) {
    if (!this.alive(task, process, message, token)) return;
    if (this.tasks.get(task).state === "paused") return this.after(50, () => this.handle(task, process, message, token));
    const { id, request, behavior } = message;
    const ended = (outcome, more) => this.emit({ kind: "end", id, task, request, outcome, ...more });
    if (behavior.poison || behavior.fails > (message.failures ?? 0)) {
      message.failures = (message.failures ?? 0) + 1;
      const delayMs = behavior.poison ? undefined : [1000, 5000, 30000][message.failures - 1];
      this.release(task, message);
      if (!delayMs) {
        this.truth.set(id, "queue:vip_queue.dead");
        this.dead = [...(this.dead ?? []), message];
        return ended("dead-lettered", { queue: "vip_queue.dead", attempt: message.failures, text: `message goes to vip_queue.dead: it cannot be handled` });
      }
      this.truth.set(id, `queue:vip_queue.retry.${delayMs}`);
      ended("retried", { queue: `vip_queue.retry.${delayMs}`, delayMs, attempt: message.failures, text: `message goes to vip_queue.retry.${delayMs}: it cannot be handled yet` });
      return this.after(delayMs, () => {
        this.truth.set(id, "queue:vip_queue");
        this.work.push(message);
        this.after(0.4, () => this.deliver());
      });
    }
    this.emit({ kind: "hop", hop: 8, task, request, id, text: behavior.declined ? "no offer: the account holder has one already" : `an offer for account ${message.account}` });
    if (behavior.declined) {
      this.release(task, message);
      this.truth.set(id, "declined");
      return ended("declined", { text: "acknowledged without an offer" });
    }
    this.after(behavior.append ?? 1, () => {
      if (!this.alive(task, process, message, token)) return;
      this.emit({ kind: "hop", hop: 9, task, request, id, text: `offer ${id} for account ${message.account} is in the stream` });
      if (behavior.unacked && !message.repeated) {
        // The offer is appended, and the replica dies before its acknowledgment.
        message.repeated = true;
        return this.kill(task);
      }
      this.truth.set(id, "done");
      this.release(task, message);
    });
  }

  giveBack(task) {
    const held = this.held.get(task) ?? [];
    this.held.set(task, []);
    for (const message of held) {
      message.token = null;
      this.truth.set(message.id, "queue:vip_queue");
    }
    this.work.unshift(...held);
    this.after(1, () => this.deliver());
  }

  kill(task) {
    if (["waiting", undefined].includes(this.tasks.get(task)?.state)) return;
    Object.assign(this.tasks.get(task), { state: "waiting" });
    this.giveBack(task);
    // The page hears of it a little later than the broker does.
    this.after(20, () => this.tasks.has(task) && this.task(task, "waiting", false, { error: "killed by signal 9" }));
    this.after(600, () => this.tasks.has(task) && this.task(task, "starting", true));
    this.after(900, () => this.tasks.has(task) && (this.task(task, "ready"), this.deliver()));
  }

  scale(count) {
    for (const task of this.vips()) {
      if (Number(task.split(".")[1]) <= count) continue;
      this.task(task, "stopping");
      this.giveBack(task);
      this.task(task, "gone");
      this.tasks.delete(task);
    }
    for (let n = 1; n <= count; n += 1) {
      const task = `vipservice.${n}`;
      if (this.tasks.has(task)) continue;
      this.task(task, "starting", true);
      this.after(300, () => this.tasks.has(task) && (this.task(task, "ready"), this.deliver()));
    }
  }

  pause(task) {
    if (this.tasks.get(task)?.state === "ready") this.task(task, "paused");
  }

  unpause(task) {
    if (this.tasks.get(task)?.state !== "paused") return;
    this.task(task, "ready");
    this.after(1, () => this.deliver());
  }

  brokerDown(ms = 1500) {
    if (!this.up) return;
    this.up = false;
    for (const task of this.held.keys()) this.giveBack(task);
    this.emit({ kind: "broker", up: false, address: "127.0.0.1:5672", text: "no broker at 127.0.0.1:5672" });
    this.after(ms, () => {
      this.up = true;
      this.emit({ kind: "broker", up: true, address: "127.0.0.1:5672", text: "connected to the broker at 127.0.0.1:5672" });
      this.relay();
      this.deliver();
    });
  }

  redrive() {
    for (const message of this.dead ?? []) {
      message.failures = 0;
      message.behavior = { poison: this.random() < 0.5 };
      this.truth.set(message.id, "queue:vip_queue");
      this.work.push(message);
      // Of half of them there is a log line, which may come after the message is dead-lettered again.
      const redriven = { kind: "end", id: message.id, task: "vipservice.dead-letters", outcome: "redriven", queue: "vip_queue" };
      if (this.random() < 0.5) this.after(this.random() * 10, () => this.emit(redriven));
    }
    this.dead = [];
    this.after(1, () => this.deliver());
  }

  depth(name) {
    return [...this.truth.values()].filter((place) => place === `queue:${name}`).length;
  }
}

/** Merges events as the server does, but from logs that are read at different times: each task's log stays in order. */
export function interleave(events, random, spread = 400) {
  const late = new Map();
  return events
    .map((event, i) => {
      const source = event.task && ["hop", "end", "log"].includes(event.kind) ? event.task : event.kind;
      const moment = Math.max(late.get(source) ?? 0, i + random() * spread);
      late.set(source, moment);
      return { event, moment, i };
    })
    .sort((a, b) => a.moment - b.moment || a.i - b.i)
    .map(({ event }) => event);
}
