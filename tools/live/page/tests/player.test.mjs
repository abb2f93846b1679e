// Time: slow motion, catching up, steps in both directions, and a bounded recording.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Player } from "../player.js";
import { Simulation } from "./simulation.mjs";

const START = Date.UTC(2026, 10, 29, 15);
const when = (ms) => new Date(START + ms).toISOString();
const hop = (number, ms, id = "m") => ({ seq: number, kind: "hop", hop: number, at: when(ms), id, request: "r", task: number < 7 ? "accountservice.1" : "vipservice.1", text: "" });
const WALK = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((number) => hop(number, number));

function playing(events, now = START) {
  const player = new Player();
  player.snapshot({ seq: 0, now: new Date(now).toISOString(), events: [] });
  player.push(events);
  return player;
}

/** Lets real time pass in frames, until nothing is pending; returns how long it took. */
function drain(player, now, limit = 60_000) {
  let ms = 0;
  while (player.pending && ms < limit) {
    player.advance(16, now);
    ms += 16;
  }
  return ms;
}

const key = (player) => player.state.messages.get("m")?.key;

test("a walk of nine milliseconds takes about two seconds when it is all that happens", () => {
  const player = playing(WALK);
  const took = drain(player, START + 20);
  assert.equal(player.pace, 1 / 200);
  assert.ok(took > 1600 && took < 2900, `${took} ms`);
  assert.equal(key(player), "done");
});

test("a fixed speed is kept, and long pauses are shortened in slow motion only", () => {
  for (const [speed, least, most] of [[1 / 500, 4000, 7000], [1 / 100, 800, 2900], [1, 0, 40]]) {
    const player = playing(WALK);
    player.speed = speed;
    const took = drain(player, START + 20);
    assert.ok(took >= least && took <= most, `${speed}: ${took} ms`);
  }
  const pause = [...WALK.slice(0, 6), hop(7, 10_000)];
  const slow = playing(pause);
  slow.speed = 1 / 100;
  assert.ok(drain(slow, START) < 4000);
  const real = playing(pause);
  real.speed = 1;
  assert.ok(drain(real, START) >= 9900);
});

test("auto speeds up for a burst and catches up under load", () => {
  const system = new Simulation(3, { vips: 3 });
  for (let n = 0; n < 10; n += 1) system.read();
  system.run(100);
  const burst = playing(system.events, system.now - 110);
  assert.ok(drain(burst, system.now) < 9000);

  const load = new Simulation(4, { vips: 3 });
  const player = playing([], load.now);
  for (let frame = 0; frame < 1500; frame += 1) {
    if (frame < 1000) for (let n = 0; n < 8; n += 1) load.read();
    const sent = load.events.length;
    load.run(16);
    player.push(load.events.slice(sent));
    player.advance(16, load.now);
    assert.ok(player.end - player.position < 12_000);
  }
  load.run(60_000);
  player.push(load.events.slice(player.lastSeq));
  drain(player, load.now);
  assert.equal(player.state.totals.done, 8000);
});

test("when nothing is pending, time follows the system's clock and retries come back", () => {
  const player = playing([...WALK.slice(3, 7), { seq: 20, kind: "end", outcome: "retried", at: when(8), id: "m", task: "vipservice.1", queue: "vip_queue.retry.1000", delayMs: 1000 }]);
  drain(player, START + 10);
  assert.equal(key(player), "queue:vip_queue.retry.1000");
  player.advance(16, START + 1100);
  assert.equal(key(player), "queue:vip_queue");
});

test("a pause holds time, steps go one event further, and back takes it back", () => {
  const player = playing([...WALK, { seq: 10, kind: "queue", name: "vip_queue", role: "work", ready: 0, at: when(10) }]);
  player.paused = true;
  player.advance(5000, START + 5000);
  assert.equal(player.index, 0);
  const seen = [];
  for (let n = 0; n < 9; n += 1) {
    player.step();
    seen.push(key(player));
  }
  for (let n = 8; n > 0; n -= 1) {
    player.back();
    assert.equal(key(player), seen[n - 1]);
  }
  for (let n = 1; n < 9; n += 1) {
    player.step();
    assert.equal(key(player), seen[n]);
  }
  assert.equal(player.step(), null);
  assert.ok(player.paused);
});

test("seeking to any moment shows what was then, and live goes back to the end", () => {
  const player = playing(WALK);
  drain(player, START + 50);
  player.seek(START + 6.5);
  assert.equal(key(player), "queue:vip_queue");
  player.seek(START);
  assert.equal(key(player), undefined);
  player.live();
  assert.equal(key(player), "done");
});

test("the recording is bounded, and what it has forgotten is still in the state", () => {
  const player = new Player({ limit: 1000 });
  player.snapshot({ seq: 0, now: when(0), events: [] });
  let seq = 1;
  for (let n = 0; n < 2000; n += 1) player.push([4, 5, 6].map((number) => ({ ...hop(number, n + number / 10, `m${n}`), seq: seq++ })));
  assert.ok(player.events.length <= 1100);
  drain(player, START + 5000);
  assert.equal(player.state.messages.size, 2000);
  player.seek(player.start);
  assert.ok(player.state.messages.size >= 1600);
});

test("a second snapshot brings what was skipped and takes away what has ended, and steps lead back before it", () => {
  const player = playing(WALK.slice(0, 6));
  drain(player, START + 50);
  player.snapshot({ seq: 50, now: when(60), events: [{ ...hop(6, 55, "other"), seq: 40 }] });
  drain(player, START + 70);
  assert.equal(key(player), "left");
  assert.equal(player.state.messages.get("other").key, "queue:vip_queue");
  player.back();
  assert.equal(key(player), "queue:vip_queue");
});

test("a snapshot of a server that has started again starts again", () => {
  const player = playing(WALK);
  drain(player, START + 50);
  player.snapshot({ seq: 2, now: when(60), events: [{ ...hop(6, 55, "other"), seq: 1 }] });
  assert.deepEqual([...player.state.messages.keys()], ["other"]);
});

test("events that are there already are not added again", () => {
  const player = playing(WALK);
  player.push(WALK);
  assert.equal(player.events.length, 9);
});

test("the timeline counts each event once", () => {
  const player = playing(WALK);
  assert.equal(player.histogram(40).reduce((sum, n) => sum + n), 9);
});
