// Time: plays events by their own timestamps at 1/1 to 1/500 of real time, with pause, step, back and seek.
//
// Pure: it is told how much time has passed. It keeps the events of the last minutes, and a base state from before the
// first of them, so that any moment can be shown again by playing from there.

import { apply, create, tick, time } from "./state.js";

/** Speeds of which `auto` picks one. */
const PACES = [1 / 200, 1 / 100, 1 / 50, 1 / 20, 1 / 10, 1 / 5, 1 / 2, 1, 4];
/** What is pending should have been played after this time, so auto picks the slowest pace that manages. */
const AUTO_MS = 3500;
/** Pauses in slow motion are shortened to this time. */
const IDLE_MS = 600;
/** Auto jumps ahead when it is further behind. */
const BEHIND_MS = 8000;
const EVENT_LIMIT = 30_000;
const AGE_LIMIT = 10 * 60_000;
/** Events that a step stops at; numbers of queues and outboxes are applied in passing. */
const STEPS = new Set(["hop", "end", "task", "broker", "bus", "answer", "reset"]);

export class Player {
  constructor({ limit = EVENT_LIMIT } = {}) {
    Object.assign(this, { limit, speed: "auto", paused: false, pace: 1 });
    this.clear();
  }

  clear() {
    Object.assign(this, { events: [], index: 0, base: create(), state: create(), position: 0, lastSeq: 0 });
  }

  get start() { return this.events[0]?.play ?? this.position; }
  get end() { return this.events.at(-1)?.play ?? this.position; }
  get pending() { return this.events.length - this.index; }

  // A later snapshot comes after a gap: it brings the events that were skipped, and a message that it does not name has
  // ended meanwhile. One with smaller numbers is a new server's, and everything starts again.
  snapshot({ seq, now, events }) {
    const first = this.events.length === 0 || seq < this.lastSeq;
    if (first) this.clear();
    const known = new Set(this.events.map((each) => each.seq));
    const named = new Set(events.map((each) => each.id));
    const ids = [...this.state.messages.keys(), ...this.events.slice(this.index).map((each) => each.id)];
    for (const event of events) if (!known.has(event.seq)) this.add(event);
    if (first) this.seek(Math.max(time(now), this.end));
    else this.add({ kind: "reset", at: now, lost: ids.filter((id) => !named.has(id) && !this.state.finished.has(id)) });
    this.lastSeq = seq;
    this.trim();
  }

  /** Adds events that are not there yet. */
  push(events) {
    for (const event of events) if (event.seq > this.lastSeq) this.add(event);
    this.lastSeq = Math.max(this.lastSeq, events.at(-1)?.seq ?? 0);
    this.trim();
  }

  /** Adds an event. It is played at `play`, which never runs backwards; the state uses the event's own time `t`. */
  add(event) {
    const t = time(event.at);
    this.events.push({ ...event, t, play: Math.max(this.events.at(-1)?.play ?? t, t) });
  }

  trim() {
    let cut = Math.max(0, this.events.length - this.limit);
    while (cut < this.index && this.end - this.events[cut].play > AGE_LIMIT) cut += 1;
    // In steps, since each one moves the whole list.
    if (cut < this.limit / 10) return;
    for (const event of this.events.splice(0, cut)) apply(this.base, event);
    this.base.moves = [];
    this.index -= cut;
    if (this.index < 0) this.rewind();
  }

  /** Lets `ms` of real time pass; `now` is the system's clock, which time follows when nothing is pending. */
  advance(ms, now) {
    if (this.paused) return;
    const isAuto = this.speed === "auto";
    // The slowest pace that plays what is pending within a few seconds.
    const auto = () => (this.pending < 1000 && PACES.find((pace) => this.rest(pace) <= AUTO_MS)) || PACES.at(-1);
    this.pace = isAuto ? auto() : this.speed;
    if (isAuto && this.rest(1) > BEHIND_MS) this.seek(Math.max(this.position, this.end - 1000));
    const idle = this.speed === 1 ? Infinity : IDLE_MS * this.pace;
    let left = ms;
    while (this.pending) {
      const { play } = this.events[this.index];
      this.position = Math.max(this.position, play - idle);
      const wait = (play - this.position) / this.pace;
      if (wait > left) break;
      left -= wait;
      this.one();
    }
    this.position = this.pending ? this.position + left * this.pace : Math.max(this.position, now);
    tick(this.state, this.position);
  }

  /** Returns the real time that playing what is pending takes at a pace. */
  rest(pace) {
    const times = [this.position, ...this.events.slice(this.index).map((each) => each.play)];
    return times.slice(1).reduce((sum, t, i) => sum + Math.min((t - times[i]) / pace, IDLE_MS), 0);
  }

  one() {
    const event = this.events[this.index++];
    this.position = Math.max(this.position, event.play);
    apply(this.state, event);
    return event;
  }

  rewind() {
    const position = Math.max(this.base.now, this.start - 1);
    Object.assign(this, { state: structuredClone(this.base), index: 0, position });
  }

  /** Shows the moment `t`: plays from the base state if it lies in the past. */
  seek(t) {
    if (t < this.position) this.rewind();
    while (this.pending && this.events[this.index].play <= t) this.one();
    this.position = Math.max(this.position, t);
    tick(this.state, this.position);
    this.state.moves = [];
  }

  /** Pauses, and plays up to the next event that can be seen. Returns it. */
  step() {
    this.paused = true;
    while (this.pending) {
      const event = this.one();
      if (STEPS.has(event.kind)) return event;
    }
    return null;
  }

  /** Pauses, and takes back the last event that could be seen. Returns the one that is then last. */
  back() {
    this.paused = true;
    const to = this.events.slice(0, this.index).findLastIndex((each) => STEPS.has(each.kind));
    this.rewind();
    while (this.index < to) this.one();
    this.state.moves = [];
    return this.events[to - 1] ?? null;
  }

  /** Goes to the newest event and follows what comes. */
  live() {
    Object.assign(this, { paused: false, speed: "auto" });
    this.seek(Math.max(this.position, this.end));
  }

  /** Counts the events in equal parts of the recorded time. */
  histogram(buckets = 120) {
    const counts = new Array(buckets).fill(0);
    const scale = (buckets - 0.001) / Math.max(1, this.end - this.start);
    for (const { kind, play } of this.events) if (STEPS.has(kind)) counts[Math.floor((play - this.start) * scale)] += 1;
    return counts;
  }
}
