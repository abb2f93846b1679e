// The picture in words, and the waterfall.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameParser } from "../api.js";
import { apply, create, tick } from "../state.js";
import { command, duration, shortId, spans, story } from "../words.js";

const START = Date.UTC(2026, 10, 29, 15);
const hop = (number, ms, more = {}) => ({ kind: "hop", hop: number, at: new Date(START + ms).toISOString(), id: "m", request: "r", account: "10000", queue: number === 6 ? "vip_queue" : undefined, task: number < 7 ? "accountservice.1" : "vipservice.1", text: `hop ${number}`, ...more });

function walk(events) {
  const state = create();
  for (const event of events) apply(state, event);
  tick(state, START + 60_000);
  return [state.messages.get("m"), state.requests.get("r"), state.now];
}

const short = (list) => list.map(({ name, from, to }) => `${name} ${from - START}-${to - START}`);

test("the waterfall has a bar for each part of a walk", () => {
  assert.deepEqual(short(spans(...walk([1, 2, 3, 4, 5, 6, 7, 8, 9].map((number) => hop(number, number * 10))))), [
    "request 10-40", "outbox 40-50", "publish 50-60", "wait in vip_queue 60-70", "consume 70-90", "offer 70-80", "append 80-90",
  ]);
});

test("the waterfall shows every attempt and every wait", () => {
  const events = [hop(4, 4), hop(5, 5), hop(6, 6), hop(7, 10, { attempt: 1 }),
    { kind: "end", outcome: "retried", at: new Date(START + 20).toISOString(), id: "m", task: "vipservice.1", queue: "vip_queue.retry.1000", delayMs: 1000, text: "" },
    hop(7, 1020, { attempt: 2 }), { kind: "end", outcome: "dead-lettered", at: new Date(START + 1030).toISOString(), id: "m", task: "vipservice.1", queue: "vip_queue.dead", text: "no" }];
  assert.deepEqual(short(spans(...walk(events))), [
    "outbox 4-5", "publish 5-6", "wait in vip_queue 6-10", "consume 1 10-20", "wait in vip_queue.retry.1000 20-1020", "consume 2 1020-1030", "wait in vip_queue.dead 1030-60000",
  ]);
});

test("a killed consumer's bar ends where the message came back", () => {
  const task = (state, ms) => ({ kind: "task", task: "vipservice.1", service: "vipservice", slot: 1, state, at: new Date(START + ms).toISOString() });
  const [message, request, now] = walk([task("ready", 0), hop(6, 6), hop(7, 10), task("waiting", 50), hop(7, 70, { task: "vipservice.2" }), hop(8, 71, { task: "vipservice.2" }), hop(9, 72, { task: "vipservice.2" })]);
  const list = short(spans(message, request, now));
  assert.ok(list.includes("consume 1, lost 10-50"), list.join("; "));
  assert.ok(list.includes("wait in vip_queue 50-70"));
  assert.ok(list.includes("append 71-72"));
  assert.match(story(message, request).map((each) => each.text).join(" "), /vipservice\.1 was gone; the broker put the message back/);
});

test("a command's values are quoted where a shell would read more than a word", () => {
  assert.equal(command("cargo hops read {count} {account}", { count: 10, account: "10000" }), "cargo hops read 10 10000");
  assert.equal(command("x {a}", { a: "it's; rm -rf /" }), "x 'it'\\''s; rm -rf /'");
  assert.equal(command("x {a}", { a: "" }), "x ''");
  assert.equal(command(undefined, {}), "");
});

test("durations and ids are short", () => {
  for (const [ms, expected] of [[0.5, "0.50 ms"], [12.3, "12 ms"], [1234, "1.2 s"], [61_000, "1 min 1 s"], [Infinity, "until it is taken"]]) assert.equal(duration(ms), expected);
  assert.equal(shortId("01a1f96d-ba94-c8cf44e4f713"), "f713");
  assert.equal(shortId("😀"), "😀");
});

test("frames are read however the stream is cut", () => {
  const stream = ': hello\n\nevent: snapshot\ndata: {"seq":1}\n\nid: 2\ndata: {"seq":2}\r\n\r\nevent: skipped\ndata: {"skipped":3}\n\n';
  const expected = [{ event: "snapshot", data: { seq: 1 } }, { event: "message", data: { seq: 2 } }, { event: "skipped", data: { skipped: 3 } }];
  for (let cut = 1; cut < stream.length; cut += 1) {
    const parser = new FrameParser();
    assert.deepEqual([...parser.push(stream.slice(0, cut)), ...parser.push(stream.slice(cut))], expected, `cut at ${cut}`);
  }
});
