// The picture's geometry: nothing leaves it, nothing overlaps, and every empty box says why it is empty.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CARD, layout } from "../layout.js";
import { apply, create, tick } from "../state.js";
import { Simulation } from "./simulation.mjs";

function stateOf(system) {
  const state = create();
  for (const event of system.events) apply(state, event);
  tick(state, system.now);
  return state;
}

function busy(vips = 3, reads = 40) {
  const system = new Simulation(5, { vips });
  system.run(10);
  for (let n = 0; n < reads; n += 1) system.read("10000", { slow: 60_000, fails: n % 7 === 0 ? 3 : 0 });
  for (let n = 0; n < 5; n += 1) system.read();
  system.run(90_000);
  for (let n = 0; n < 60; n += 1) system.read("10000", { slow: 60_000 });
  system.run(20);
  return stateOf(system);
}

const overlap = (a, b) => a.x < b.x + b.w - 0.5 && b.x < a.x + a.w - 0.5 && a.y < b.y + b.h - 0.5 && b.y < a.y + a.h - 0.5;
const WIDTHS = [320, 366, 700, 760, 1000, 1232, 1600];

const change = (n, offset, step = "applied") => ({ kind: "change", step, t: 2e12 + offset, task: `accountservice.${n}`, id: "k", account: "7", offset, version: 2, text: "" });

test("boxes stay inside the picture and do not overlap, at every width", () => {
  for (const vips of [0, 1, 3, 7, 25]) {
    const state = busy(vips);
    if (vips % 2) [change(1, 140), change(2, 140)].forEach((each) => apply(state, each));
    for (const width of WIDTHS) {
      const { boxes, height } = layout(state, { width });
      for (const box of boxes) {
        assert.ok(box.x >= -0.5 && box.y >= -0.5 && box.x + box.w <= width + 0.5 && box.y + box.h <= height + 0.5, `${box.key} at ${width}`);
        assert.ok(box.w > 20 && box.h > 10, box.key);
      }
      const solid = boxes.filter((each) => each.kind !== "broker");
      solid.forEach((a, i) => solid.slice(i + 1).forEach((b) => assert.ok(!overlap(a, b), `${a.key} and ${b.key} at ${width}`)));
    }
  }
});

test("each card has one seat inside a box, and shown plus counted cards are all cards", () => {
  const state = busy();
  for (const width of WIDTHS) {
    const picture = layout(state, { width });
    const seats = new Set(picture.cards.map(({ x, y }) => `${x} ${y}`));
    assert.equal(seats.size, picture.cards.length);
    assert.equal(new Set(picture.cards.map(({ id }) => id)).size, picture.cards.length);
    for (const card of picture.cards) {
      const home = picture.boxes.filter((box) => box.kind !== "broker" && overlap({ ...card, ...CARD }, box));
      assert.equal(home.length, 1, `${card.key} at ${width}`);
      assert.ok(card.x + CARD.w <= home[0].x + home[0].w && card.y + CARD.h <= home[0].y + home[0].h, card.key);
    }
    for (const box of picture.boxes.filter((each) => each.kind === "queue")) {
      const shown = picture.cards.filter((card) => card.key === `queue:${box.queue}`).length;
      assert.equal(shown + (box.more?.n ?? 0), box.waiting, `${box.queue} at ${width}`);
    }
  }
});

test("a card has a place to travel to even where it has no seat", () => {
  const picture = layout(busy(), { width: 1232 });
  for (const key of ["clients", "bus", "done", "duplicate", "entry:accountservice.1", "wire:accountservice.1", "outbox:accountservice.1", "task:vipservice.2", "queue:vip_queue", "queue:vip_queue.dead"]) {
    assert.ok(picture.anchor(key), key);
  }
  for (const key of ["declined", "left", "task:nobody.9", "entry:undefined"]) assert.equal(picture.anchor(key), null, key);
});

test("each empty box says why it is empty", () => {
  const note = (state, key) => layout(state, { width: 1232 }).boxes.find((each) => each.key === key)?.note;
  assert.equal(note(create(), "none:vipservice"), "no replica: messages wait in the queue");
  assert.equal(note(create(), "none:queues"), "the broker's queues are not known yet");
  assert.equal(note(create(), "offers"), "no offer yet: read a VIP's account");

  const system = new Simulation(1, { vips: 1 });
  system.brokerDown();
  const state = stateOf(system);
  for (const key of ["broker", "box:vip_queue", "box:vip_queue.dead"]) assert.match(note(state, key), /^no broker at 127\.0\.0\.1:5672 since \d\d:\d\d:\d\d$/);
  assert.equal(note(state, "box:vipservice.1"), "there is no broker");

  const words = { starting: "starting: takes nothing yet", paused: "frozen: does nothing", waiting: "starts again: in a moment", stopping: "stopping: takes nothing more", failed: "failed: failed" };
  for (const [word, expected] of Object.entries(words)) {
    system.task("vipservice.1", word);
    const { corner, note: why } = layout(stateOf(system), { width: 1232 }).boxes.find((each) => each.task === "vipservice.1");
    assert.equal(`${corner}: ${why}`, expected);
  }
});

test("the broker's number stands beside the cards, and a lasting difference is marked", () => {
  const state = busy();
  const at = (ready) => {
    apply(state, { kind: "queue", name: "vip_queue", role: "work", ready, unacked: 15, consumers: 3, at: new Date(state.now).toISOString() });
    tick(state, state.now + 3000);
    return layout(state, { width: 1232 }).boxes.find((each) => each.queue === "vip_queue");
  };
  const box = at(0);
  assert.equal(box.cards, box.waiting + box.flight);
  assert.equal(box.differs, true);
  assert.equal(at(box.cards - 15).differs, false);
});

test("on Swarm replicas stand below the name of their node with their image's tag", () => {
  const state = create();
  for (const [slot, node] of [[1, "b"], [2, "a"], [3, "b"]]) {
    apply(state, { kind: "task", task: `vipservice.${slot}`, service: "vipservice", slot, state: "ready", node, image: "hops/vipservice:1.4.0", at: new Date(1).toISOString() });
  }
  const { boxes } = layout(state, { width: 1232 });
  const order = boxes.filter((each) => each.kind === "node" || each.kind === "task").sort((a, b) => a.y - b.y).map((each) => each.title);
  assert.deepEqual(order, ["node a", "vipservice.2", "node b", "vipservice.1", "vipservice.3"]);
  assert.equal(boxes.find((each) => each.task === "vipservice.1").side, "1.4.0");
});

test("each accountservice shows the last entry that it has read, once an account has changed", () => {
  const state = busy(1);
  const box = (key) => layout(state, { width: 1232 }).boxes.find((each) => each.key === key) ?? {};
  const positions = () => [1, 2].map((n) => box(`box:accountservice.${n}`).position);
  apply(state, change(2, 139, "caught-up"));
  assert.deepEqual([positions(), box("box:account_changes")], [[undefined, undefined], {}]);
  apply(state, change(1, 140));
  assert.deepEqual(positions(), ["140: account 7, version 2", "139: behind"]);
  const { corner, note, side, differs } = box("box:account_changes");
  assert.deepEqual([corner, note, side, differs], [140, "account 7, version 2", "at 1 of 2 replicas", true]);
  apply(state, change(2, 140));
  apply(state, change(1, 141, "rejected"));
  apply(state, change(2, 141, "rejected"));
  assert.deepEqual(positions(), ["141: account 7, rejected", "141: account 7, rejected"]);
  assert.equal(box("box:account_changes").side, "at 2 of 2 replicas");
  for (const key of ["queue:account_changes", "entry:accountservice.2"]) assert.ok(layout(state, { width: 366 }).anchor(key), key);
});
