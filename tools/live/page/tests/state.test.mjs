// Where messages are, from events in any order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { apply, at, create, FINISHED_LIMIT, inFlight, lastChange, tick, time } from "../state.js";
import { interleave, Simulation } from "./simulation.mjs";

const START = Date.UTC(2026, 10, 29, 15);
const when = (ms) => new Date(START + ms).toISOString();
const hop = (number, ms, more = {}) => ({ kind: "hop", hop: number, at: when(ms), id: number > 3 ? "m" : undefined, request: "r", account: "10000", task: number < 7 ? "accountservice.1" : "vipservice.1", text: `hop ${number}`, ...more });
const end = (outcome, ms, more = {}) => ({ kind: "end", outcome, at: when(ms), id: "m", task: "vipservice.1", text: outcome, ...more });
const task = (state, ms, more = {}) => ({ kind: "task", task: "vipservice.1", service: "vipservice", slot: 1, state, process: "p1", at: when(ms), ...more });
const NINE = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((number) => hop(number, number));

function after(events, now) {
  const state = create();
  for (const event of events) apply(state, event);
  if (now !== undefined) tick(state, START + now);
  return state;
}

const place = (state, id = "m") => state.messages.get(id)?.key;

function* permutations(list, n = list.length) {
  if (n <= 1) yield list;
  else for (let i = 0; i < n; i += 1) {
    yield* permutations(list, n - 1);
    const j = n % 2 ? 0 : i;
    [list[n - 1], list[j]] = [list[j], list[n - 1]];
  }
}

test("a message moves from the outbox over the wire and the queue to a replica and the stream", () => {
  const places = ["outbox:accountservice.1", "wire:accountservice.1", "queue:vip_queue", "task:vipservice.1", "task:vipservice.1", "done"];
  const state = create();
  NINE.forEach((event, i) => {
    apply(state, event);
    assert.equal(place(state), places[i - 3]);
  });
  assert.equal(state.totals.done, 1);
  assert.equal(state.totals.reads, 1);
});

test("the nine hops end as done in each of their 362,880 orders", () => {
  const NINE_WITH_TIMES = NINE.map((event) => ({ ...event, t: time(event.at) }));
  let count = 0;
  for (const order of permutations([...NINE_WITH_TIMES])) {
    const state = create();
    for (const event of order) apply(state, event);
    const message = state.messages.get("m");
    if (message.key !== "done" || message.attempts !== 1 || message.duplicates !== 0 || state.totals.done !== 1) assert.fail(order.map((each) => each.hop).join());
    count += 1;
  }
  assert.equal(count, 362_880);
});

test("a line of hop 4 that is written after those of hops 5 and 6 takes no message back to the outbox", () => {
  for (const order of permutations([hop(5, 10), hop(6, 20), hop(4, 30)])) assert.equal(place(after(order)), "queue:vip_queue");
});

test("hop 9 that is read before hop 5 leaves no ghost in the queue", () => {
  const state = after([...NINE.slice(6), ...NINE.slice(0, 6)]);
  assert.equal(place(state), "done");
  assert.equal(at(state, "queue:vip_queue").size, 0);
});

test("each of these ends where it should, in order and in reverse order", () => {
  const sent = [4, 5, 6].map((number) => hop(number, number));
  const table = [
    ["published, never confirmed", [hop(4, 4), hop(5, 5)], 2000, "queue:vip_queue"],
    ["on the wire when the broker goes", [hop(4, 4), hop(5, 5), { kind: "broker", up: true, at: when(0) }, { kind: "broker", up: false, at: when(9) }], 2000, "outbox:accountservice.1"],
    ["first seen at hop 7", [hop(7, 7)], 10, "task:vipservice.1"],
    ["declined", [...sent, hop(7, 7), hop(8, 8), end("declined", 9)], 10, "declined"],
    ["dropped", [...sent, hop(7, 7), end("dropped", 9)], 10, "dropped"],
    ["waits for a retry", [...sent, hop(7, 7), end("retried", 8, { queue: "vip_queue.retry.1000", delayMs: 1000 })], 900, "queue:vip_queue.retry.1000"],
    ["back from a retry", [...sent, hop(7, 7), end("retried", 8, { queue: "vip_queue.retry.1000", delayMs: 1000 })], 1100, "queue:vip_queue"],
    ["attempt 2", [...sent, hop(7, 7), end("retried", 8, { queue: "vip_queue.retry.1000", delayMs: 1000 }), hop(7, 1010, { attempt: 2 })], 1100, "task:vipservice.1"],
    ["dead-lettered", [...sent, hop(7, 7), end("dead-lettered", 8, { queue: "vip_queue.dead" })], 90_000, "queue:vip_queue.dead"],
    ["redriven", [...sent, hop(7, 7), end("dead-lettered", 8, { queue: "vip_queue.dead" }), hop(7, 9000), hop(8, 9001), hop(9, 9002)], 9100, "done"],
    ["redriven by a logged command", [...sent, hop(7, 7), end("dead-lettered", 8, { queue: "vip_queue.dead" }), end("redriven", 9000, { task: "vipservice.dead-letters", queue: "vip_queue" })], 9100, "queue:vip_queue"],
    ["redriven, and taken before that is logged", [...sent, hop(7, 7), end("dead-lettered", 8, { queue: "vip_queue.dead" }), hop(7, 9000), end("redriven", 9001, { task: "vipservice.dead-letters", queue: "vip_queue" })], 9100, "task:vipservice.1"],
    ["dead-lettered again before the redrive is logged", [...sent, hop(7, 7), end("dead-lettered", 8, { queue: "vip_queue.dead" }), hop(7, 9000), end("dead-lettered", 9001, { queue: "vip_queue.dead" }), end("redriven", 9002, { task: "vipservice.dead-letters", queue: "vip_queue" })], 9100, "queue:vip_queue.dead"],
    ["redriven for the second time", [...sent, hop(7, 7), end("dead-lettered", 8, { queue: "vip_queue.dead" }), hop(7, 9000), end("dead-lettered", 9001, { queue: "vip_queue.dead" }), end("redriven", 19_000, { task: "vipservice.dead-letters", queue: "vip_queue" })], 19_100, "queue:vip_queue"],
    ["killed in flight", [task("ready", 0), ...sent, hop(7, 7), task("waiting", 20)], 30, "queue:vip_queue"],
    ["killed and delivered elsewhere first", [task("ready", 0), ...sent, hop(7, 7), hop(7, 9, { task: "vipservice.2" }), task("waiting", 20)], 30, "task:vipservice.2"],
    ["in flight at a frozen replica", [task("ready", 0), ...sent, hop(7, 7), task("paused", 20)], 90_000, "task:vipservice.1"],
    ["a new process in its place", [task("ready", 0), ...sent, hop(7, 7), task("starting", 20, { process: "p2" })], 30, "queue:vip_queue"],
    ["done, then its replica is killed", [task("ready", 0), ...sent, hop(7, 7), hop(8, 8), hop(9, 9), task("waiting", 20)], 30, "done"],
    ["broker gone in flight", [...sent, hop(7, 7), { kind: "broker", up: true, at: when(0) }, { kind: "broker", up: false, at: when(9) }], 30, "queue:vip_queue"],
  ];
  for (const [name, events, now, expected] of table) {
    assert.equal(place(after(events, now)), expected, name);
    const tasksFirst = events.filter((each) => each.kind !== "hop" && each.kind !== "end");
    const rest = events.filter((each) => each.kind === "hop" || each.kind === "end").reverse();
    assert.equal(place(after([...tasksFirst, ...rest], now)), expected, `${name}, reversed`);
  }
});

test("a card that came back says so, and so does the count", () => {
  const state = after([task("ready", 0), ...NINE.slice(3, 7), task("waiting", 20)]);
  assert.equal(state.messages.get("m").place.returned, true);
  assert.equal(state.totals.returned, 1);
});

test("a card that is delivered again while in flight travels over the queue", () => {
  const state = after([...NINE.slice(3, 7), hop(7, 9, { task: "vipservice.2", redelivered: true })]);
  assert.deepEqual(state.moves.map((each) => each.to).slice(-2), ["queue:vip_queue", "task:vipservice.2"]);
  assert.equal(state.totals.returned, 1);
  assert.equal(state.messages.get("m").place.returned, true);
});

test("a second hop 9 is a duplicate, which the view drops", () => {
  const state = after([task("ready", 0), ...NINE, task("waiting", 20), hop(7, 30, { task: "vipservice.2", redelivered: true })]);
  assert.equal(place(state), "task:vipservice.2");
  for (const number of [8, 9]) apply(state, hop(number, 24 + number, { task: "vipservice.2" }));
  assert.equal(place(state), "done");
  assert.equal(state.messages.get("m").duplicates, 1);
  assert.deepEqual([state.totals.done, state.totals.duplicates], [1, 1]);
  assert.equal(state.moves.filter((each) => each.to === "duplicate").length, 1);
});

test("an event that comes twice changes nothing", () => {
  const once = after(NINE);
  const twice = after([...NINE, ...NINE]);
  assert.deepEqual(twice.messages.get("m").history, once.messages.get("m").history);
  assert.deepEqual(twice.totals, once.totals);
});

test("a message that is redriven and dead-lettered again counts once", () => {
  const dead = (ms) => [hop(7, ms), end("dead-lettered", ms + 1, { queue: "vip_queue.dead" })];
  const redriven = end("redriven", 5000, { task: "vipservice.dead-letters", queue: "vip_queue" });
  const state = after([...NINE.slice(3, 6), ...dead(7), redriven, ...dead(5002)], 9000);
  assert.equal(place(state), "queue:vip_queue.dead");
  assert.equal(state.messages.get("m").deadLettered, 1);
  assert.equal(state.totals.deadLettered, 1);
});

test("an emptied dead-letter queue takes its cards along, a number from before the card does not", () => {
  const dead = (ms) => ({ kind: "queue", name: "vip_queue.dead", role: "dead", ready: 0, at: when(ms) });
  const events = [...NINE.slice(3, 7), end("dead-lettered", 8, { queue: "vip_queue.dead" })];
  assert.equal(place(after([...events, dead(50)])), "queue:vip_queue.dead");
  assert.equal(place(after([...events, dead(5000)])), "left");
});

test("dead letters that were redriven wait in the work queue, and not longer than the broker has them there", () => {
  const queue = (name, role, ready, ms) => ({ kind: "queue", name, role, ready, at: when(ms) });
  const dead = ["m", "n"].map((id) => end("dead-lettered", 8, { id, queue: "vip_queue.dead" }));
  const state = after([...NINE.slice(3, 7), ...dead, queue("vip_queue", "work", 1, 5000), queue("vip_queue.dead", "dead", 0, 5000)]);
  assert.deepEqual([place(state, "m"), place(state, "n")], ["queue:vip_queue", "left"]);
  apply(state, queue("vip_queue", "work", 0, 6000));
  assert.equal(place(state), "queue:vip_queue");
  apply(state, queue("vip_queue", "work", 0, 9000));
  assert.equal(place(state), "left");
});

test("the end of a process that is told after the start of the next one changes nothing", () => {
  const state = after([task("ready", 0), task("starting", 10, { process: "p2" }), task("gone", 11)]);
  assert.equal(state.tasks.get("vipservice.1").state, "starting");
});

test("messages without a request and with any id are followed", () => {
  const id = "</script><img src=x onerror=alert(1)>";
  const state = after([hop(7, 7, { id, request: undefined, account: undefined }), end("dead-lettered", 8, { id, queue: "vip_queue.dead" })]);
  assert.equal(place(state, id), "queue:vip_queue.dead");
  for (const strange of ["__proto__", "constructor", "", "a:b"]) assert.equal(place(after([hop(7, 7, { id: strange })]), strange), "task:vipservice.1");
});

test("finished messages are forgotten, oldest first, and open ones never", () => {
  const state = create();
  apply(state, hop(6, 1, { id: "open" }));
  for (let n = 0; n < FINISHED_LIMIT + 10; n += 1) apply(state, hop(9, n + 2, { id: `m${n}` }));
  assert.equal(state.finished.size, FINISHED_LIMIT);
  assert.equal(state.messages.size, FINISHED_LIMIT + 1);
  assert.equal(place(state, "m0"), undefined);
  assert.equal(place(state, "open"), "queue:vip_queue");
  assert.equal(state.totals.done, FINISHED_LIMIT + 10);
});

test("what ended while events were skipped is gone, unless its end is known", () => {
  const lost = { kind: "reset", at: when(50), lost: ["m", "n"] };
  assert.equal(place(after([...NINE.slice(3, 6), lost])), "left");
  assert.equal(place(after([...NINE, lost])), "done");
  assert.equal(place(after([...NINE.slice(0, 8), lost, NINE[8]])), "done");
});

test("a random system leaves no ghost and loses no card, whatever the order in which its logs are read", () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const system = new Simulation(seed, { vips: 3 });
    for (let round = 0; round < 60; round += 1) {
      const dice = system.random();
      const any = `vipservice.${1 + Math.floor(system.random() * 3)}`;
      if (dice < 0.55) for (let n = 0; n < 1 + system.random() * 12; n += 1) system.read();
      else if (dice < 0.63) system.read("10000", { fails: 1 + Math.floor(system.random() * 4), poison: system.random() < 0.3 });
      else if (dice < 0.68) system.read("10001", { declined: true });
      else if (dice < 0.72) system.read("10000", { unacked: true });
      else if (dice < 0.8) system.kill(any);
      else if (dice < 0.85) system.pause(any);
      else if (dice < 0.9) system.unpause(any);
      else if (dice < 0.94) system.scale(Math.floor(system.random() * 4));
      else if (dice < 0.97) system.brokerDown();
      else system.redrive();
      system.run(system.random() * 1500);
    }
    // Thaw and start everything; then wait until only retries, dead letters or a queue without a consumer are left.
    for (const name of system.vips()) system.unpause(name);
    system.scale(seed % 3 === 0 ? 0 : 2);
    system.run(4000);
    const state = create();
    for (const event of interleave(system.events, () => system.random())) apply(state, event);
    tick(state, system.now);
    let unknown = 0;
    for (const [id, truth] of system.truth) {
      const message = state.messages.get(id);
      // Whether a killed replica had acknowledged is not logged: hop 9 counts as the end until the next hop 7.
      if (truth === "queue:vip_queue" && message?.done) {
        unknown += 1;
        continue;
      }
      assert.ok(message, `seed ${seed}: ${id} is missing, should be at ${truth}`);
      assert.equal(message.key, truth, `seed ${seed}: ${id}: ${JSON.stringify(message.history)}`);
    }
    assert.equal(state.messages.size, system.truth.size, `seed ${seed}`);
    assert.equal(at(state, "queue:vip_queue").size, system.depth("vip_queue") - unknown);
    assert.equal(inFlight(state, "vip_queue"), [...system.truth.values()].filter((each) => each.startsWith("task:")).length);
  }
});

const change = (step, ms, number, offset, version) =>
  ({ kind: "change", step, at: when(ms), task: `accountservice.${number}`, id: offset && `k${offset}`, account: offset && "7", offset, version, text: step });

test("the position of a replica is its last entry, and the last change is that of whoever has read most", () => {
  const positions = (state) => Object.fromEntries([...state.positions].map(([task, { offset }]) => [task.slice(-1), offset]));
  const first = [change("caught-up", 1, 1, 99), change("caught-up", 1, 2, 99)];
  assert.equal(lastChange(after(first)), undefined);
  const events = [...first, change("append", 2, 1), change("applied", 4, 2, 100, 2), change("applied", 3, 1, 100, 2), change("rejected", 5, 1, 101, 2)];
  for (const order of [events, [...events].reverse()]) {
    const state = after(order);
    assert.deepEqual(positions(state), { 1: 101, 2: 100 });
    assert.equal(lastChange(state).step, "rejected");
    assert.equal(state.messages.size, 0);
  }
  const state = after(events);
  // A dot from the writer to the stream, and one to each replica.
  assert.deepEqual(state.moves.map(({ from, to }) => `${from} ${to}`), ["entry:accountservice.1 queue:account_changes",
    "queue:account_changes entry:accountservice.2", "queue:account_changes entry:accountservice.1", "queue:account_changes entry:accountservice.1"]);
  assert.deepEqual(state.log.map(({ step }) => step), ["append", "applied", "applied", "rejected"]);
});

test("a replica that starts again keeps its last change, unless the stream is another one", () => {
  const changed = [change("applied", 1, 1, 100, 2), change("applied", 1, 2, 100, 2)];
  assert.equal(lastChange(after([...changed, change("caught-up", 2, 1, 105), change("caught-up", 2, 2, 105)])).offset, 100);
  assert.equal(lastChange(after([...changed, change("caught-up", 2, 1, 3), change("caught-up", 2, 2, 3)])), undefined);
  assert.equal(lastChange(after([...changed, change("applied", 2, 1, 3, 2), change("caught-up", 2, 2, 3)])).offset, 3);
});
