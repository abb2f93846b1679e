// Time: plays events by their own timestamps at 1/1 to 1/500 of real time, with pause, step, back and seek.
//
// Pure: it is told how much time has passed. It keeps the events of the last minutes, and a base state from before the
// first of them, so that any moment can be shown again by playing from there.

import { apply, clone, create, tick, time } from "./state.js";

/** Denominators of the speeds that can be chosen; `auto` picks one of them. */
export const SPEEDS = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const AUTO = [1 / 200, 1 / 100, 1 / 50, 1 / 20, 1 / 10, 1 / 5, 1 / 2, 1, 4];
/** What is pending should have been played after this time, so auto picks the slowest speed that manages. */
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
    this.limit = limit;
    this.events = [];
    this.index = 0;
    this.base = create();
    this.state = create();
    this.position = 0;
    this.lastSeq = 0;
    this.speed = "auto";
    this.paused = false;
    this.pace = 1;
  }

  get start() { return this.events[0]?.play ?? this.position; }
  get end() { return this.events.at(-1)?.play ?? this.position; }
  get pending() { return this.events.length - this.index; }

  /**
   * Starts from a snapshot. A later one comes after a gap: it brings the events that were skipped, and a message that it
   * does not name has ended meanwhile.
   */
  snapshot({ seq, now, events }) {
    const first = this.events.length === 0 || seq < this.lastSeq;
    if (first) Object.assign(this, { events: [], index: 0, base: create(), state: create(), position: 0 });
    const known = new Set(this.events.map((each) => each.seq));
    const named = new Set(events.map((each) => each.id));
    const open = new Set([...this.state.messages.keys()].filter((id) => !this.state.finished.has(id)));
    for (const { id } of this.events.slice(this.index)) if (id !== undefined) open.add(id);
    for (const event of events) if (!known.has(event.seq) || event.seq === undefined) this.add(event);
    if (first) this.seek(Math.max(time(now), this.end));
    else this.add({ kind: "reset", at: now, lost: [...open].filter((id) => !named.has(id)) });
    this.lastSeq = seq;
    this.trim();
  }

  /** Adds events that are not there yet. */
  push(events) {
    for (const event of events) {
      if (event.seq <= this.lastSeq) continue;
      this.lastSeq = event.seq ?? this.lastSeq;
      this.add(event);
    }
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
    if (cut === 0) return;
    // In steps, since each one moves the whole list.
    if (cut < this.limit / 10 && this.events.length < this.limit * 1.1) return;
    for (const event of this.events.splice(0, cut)) apply(this.base, event);
    this.base.moves = [];
    this.index -= cut;
    if (this.index >= 0) return;
    this.index = 0;
    this.state = clone(this.base);
    this.position = Math.max(this.position, this.base.now);
  }

  /** Lets `ms` of real time pass; `now` is the system's clock, which time follows when nothing is pending. */
  advance(ms, now) {
    if (this.paused) return;
    this.pace = this.speed === "auto" ? this.autoPace() : this.speed;
    if (this.speed === "auto" && this.pending && this.end - this.position > BEHIND_MS && this.rest(1) > BEHIND_MS) {
      this.playTo(this.end - 1000);
    }
    let left = ms;
    while (this.pending && left > 0) {
      const gap = this.events[this.index].play - this.position;
      const idle = this.pace === 1 && this.speed === 1 ? Infinity : IDLE_MS * this.pace;
      if (gap > idle) this.position += gap - idle;
      const passed = Math.min(gap, idle) / this.pace;
      if (passed > left) {
        this.position += left * this.pace;
        left = 0;
      } else {
        left -= passed;
        this.one();
      }
    }
    if (!this.pending) this.position = Math.max(this.position, now);
    tick(this.state, this.position);
  }

  /** Picks the slowest speed that plays what is pending within a few seconds. */
  autoPace() {
    if (this.pending > 1000) return AUTO.at(-1);
    return AUTO.find((pace) => this.rest(pace) <= AUTO_MS) ?? AUTO.at(-1);
  }

  /** Returns the real time that playing what is pending takes at a pace. */
  rest(pace) {
    let total = 0;
    let from = this.position;
    for (let i = this.index; i < this.events.length; i += 1) {
      total += Math.min(this.events[i].play - from, IDLE_MS * pace) / pace;
      from = this.events[i].play;
    }
    return total;
  }

  one() {
    const event = this.events[this.index];
    this.position = Math.max(this.position, event.play);
    apply(this.state, event);
    this.index += 1;
    return event;
  }

  playTo(t) {
    while (this.pending && this.events[this.index].play <= t) this.one();
    this.position = Math.max(this.position, t);
    tick(this.state, this.position);
  }

  /** Shows the moment `t`: plays from the base state if it lies in the past. */
  seek(t) {
    if (t < this.position) {
      this.state = clone(this.base);
      this.index = 0;
      this.position = Math.min(t, this.start);
    }
    this.playTo(t);
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
    let to = this.index - 1;
    while (to > 0 && !STEPS.has(this.events[to].kind)) to -= 1;
    if (to < 0) return null;
    this.state = clone(this.base);
    this.index = 0;
    this.position = this.start;
    while (this.index < to) this.one();
    this.state.moves = [];
    this.position = this.events[Math.max(0, to - 1)].play;
    return this.events[to - 1] ?? null;
  }

  /** Goes to the newest event and follows what comes. */
  live() {
    this.paused = false;
    this.speed = "auto";
    this.seek(Math.max(this.position, this.end));
  }

  /** Counts the events in `buckets` equal parts of the recorded time. */
  histogram(buckets) {
    const counts = new Array(buckets).fill(0);
    const length = Math.max(1, this.end - this.start);
    for (const event of this.events) {
      if (STEPS.has(event.kind)) counts[Math.min(buckets - 1, Math.floor(((event.play - this.start) / length) * buckets))] += 1;
    }
    return counts;
  }
}
