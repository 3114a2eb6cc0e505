// The rows of all live calls: kept by call, drawn once a frame, sorted when nobody points at them.

import { aria, h } from "../../dom.js";
import { arrange } from "./arrangement.js";
import { counted } from "./counts.js";
import { compare, matches } from "./ranking.js";
import { CallRow } from "./row.js";

/** Nobody reads faster, and each frame costs the browser more than what is new in it. */
const DRAW_EVERY_MS = 125;
const SORT_EVERY_MS = 1000;
const TICK_MS = 1000;
const HOLD_MS = 15000;
/** So long after a new connection, calls that it did not tell of are taken for ended. */
const FORGET_AFTER_MS = 4000;
const COLUMNS = ["agent", "time", "speaking", "text", "alerts"];

export class CallList {
  #context;
  #on;
  #rows = new Map();
  #shown = [];
  #filter = {};
  #dirty = new Map();
  #frame = 0;
  #frameTimer = 0;
  #drawnAt = 0;
  #sortDue = 0;
  #sortTimer = 0;
  #ticker = 0;
  #forgetTimer = 0;
  #generation = 0;
  #pointed = false;
  #touchedAt = 0;
  #reached = null;
  #ticked = false;
  #stale = false;
  #observer;

  /** `on.changed(counts)` hears after each frame in which something may have; `on.open(callId)` when a call is chosen. */
  constructor(context, on) {
    const { t } = context;
    this.#context = context;
    this.#on = on;
    this.body = h("div", { role: "rowgroup", class: "board-body" });
    this.element = h("div", {
      class: "board-grid", role: "grid", aria: { label: t("board.title"), rowcount: 1 },
      on: {
        keydown: (event) => this.#key(event),
        pointermove: (event) => this.#point(event.pointerType !== "touch"),
        pointerleave: () => this.#point(false),
        focusin: () => this.#touch(),
        focusout: () => this.#sortSoon(),
      },
    },
      h("div", { role: "rowgroup", class: "board-head" },
        h("div", { role: "row", class: "board-row", "aria-rowindex": 1 },
          COLUMNS.map((name) => h("div", { role: "columnheader", class: `board-${name}-head`, text: t(`board.column.${name}`) })),
        ),
      ),
      this.body,
    );
    this.#observer = new IntersectionObserver((entries) => this.#see(entries), { root: null, rootMargin: "100px" });
    this.#ticker = setInterval(() => {
      if (this.#stale) return;
      this.#ticked = true;
      this.#draw();
    }, TICK_MS);
  }

  close() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#frameTimer);
    clearTimeout(this.#sortTimer);
    clearTimeout(this.#forgetTimer);
    clearInterval(this.#ticker);
    this.#observer.disconnect();
  }

  // --- what the server tells ---

  /** A call as it is now. */
  tell(brief) {
    let row = this.#rows.get(brief.call_id);
    if (row === undefined) {
      row = new CallRow(brief.call_id, this.#context);
      this.#rows.set(brief.call_id, row);
      this.#observer.observe(row.element);
    }
    row.generation = this.#generation;
    if (row.gone) {
      row.gone = false;
      row.element.classList.remove("gone");
    }
    this.#dirty.set(row, brief);
    this.#draw();
  }

  /** A call leaves. */
  forget(callId) {
    const row = this.#rows.get(callId);
    if (row === undefined) return;
    if (row.brief === null) this.#drop(row);
    else row.leave();
    this.#sortSoon();
    this.#draw();
  }

  /** How loud some of the calls are, by call id: each process that holds calls tells of its own. */
  hear(levels) {
    const now = performance.now();
    for (const [callId, peaks] of Object.entries(levels)) {
      const row = this.#rows.get(callId);
      if (row) row.hear(peaks, now);
    }
    this.#draw();
  }

  /** The connection has begun anew: what it does not tell of soon has ended meanwhile. */
  began() {
    this.#setStale(false);
    const generation = ++this.#generation;
    clearTimeout(this.#forgetTimer);
    this.#forgetTimer = setTimeout(() => {
      for (const row of this.#rows.values()) if (row.generation < generation) this.forget(row.callId);
    }, FORGET_AFTER_MS);
  }

  /** The connection is lost: what is shown is how it was. */
  lost() {
    clearTimeout(this.#forgetTimer);
    this.#setStale(true);
    for (const row of this.#rows.values()) row.hear(null, 0);
    this.#draw();
  }

  #setStale(stale) {
    this.#stale = stale;
    this.element.classList.toggle("stale", stale);
  }

  /** Whether there is a call of which something must be told soon. */
  get busy() {
    return [...this.#rows.values()].some((row) => row.brief?.connected && row.brief.state === "live");
  }

  // --- what somebody asks for ---

  filter(values) {
    this.#filter = values;
    this.sort();
  }

  /** Put everything where it belongs now, whoever points at it. */
  sort() {
    clearTimeout(this.#sortTimer);
    this.#sortTimer = 0;
    this.#sortDue = performance.now() + SORT_EVERY_MS;
    for (const row of this.#rows.values()) if (row.gone) this.#drop(row);
    this.#shown = this.#wanted();
    this.#place();
  }

  #drop(row) {
    this.#rows.delete(row.callId);
    this.#observer.unobserve(row.element);
  }

  #wanted() {
    const rows = [...this.#rows.values()].filter((row) => row.brief && !row.gone && matches(row.brief, this.#filter));
    return rows.sort(compare);
  }

  #place() {
    const focused = this.#focused();
    arrange(this.body, this.#shown.map((row) => row.element));
    for (const [at, row] of this.#shown.entries()) row.number(at);
    aria(this.element, "rowcount", this.#shown.length + 1);
    if (focused && focused.element.isConnected && document.activeElement !== focused.element) focused.element.focus({ preventScroll: true });
    this.#rove(focused && this.#shown.includes(focused) ? focused : null);
    this.#tellCounts();
  }

  // --- drawing ---

  #draw() {
    if (this.#frame || this.#frameTimer) return;
    this.#frameTimer = setTimeout(() => {
      this.#frameTimer = 0;
      this.#frame = requestAnimationFrame(() => this.#onFrame());
    }, Math.max(0, this.#drawnAt + DRAW_EVERY_MS - performance.now()));
  }

  #onFrame() {
    this.#frame = 0;
    const now = (this.#drawnAt = performance.now());
    const changed = this.#dirty.size > 0;
    for (const [row, brief] of this.#dirty) row.show(brief, now);
    this.#dirty.clear();
    for (const row of this.#rows.values()) {
      if (!row.visible) continue;
      row.meter(now);
      if (this.#ticked) row.tick(now);
    }
    this.#ticked = false;
    if (changed) this.#sortSoon();
  }

  #sortSoon() {
    if (this.#sortTimer) return;
    this.#sortTimer = setTimeout(() => {
      this.#sortTimer = 0;
      if (this.held) this.#append();
      else this.sort();
    }, Math.max(0, this.#sortDue - performance.now()));
  }

  /** Whether somebody points at a row or has come to one by keyboard: then no row may move away from under them. A pointer
   * that has long been lying there points at nothing. */
  get held() {
    if (performance.now() - this.#touchedAt > HOLD_MS) return false;
    return this.#pointed || this.body.querySelector(":focus-visible") !== null;
  }

  /** While the order is held, new calls come at the end, and those that went stay where they were. */
  #append() {
    this.#sortDue = performance.now() + SORT_EVERY_MS;
    const shown = new Set(this.#shown);
    const added = this.#wanted().filter((row) => !shown.has(row));
    if (added.length) {
      this.#shown.push(...added);
      this.#place();
    } else {
      this.#tellCounts();
    }
  }

  #tellCounts() {
    const all = [...this.#rows.values()].filter((row) => row.brief && !row.gone);
    this.#on.changed(counted(all, this.#wanted(), this.held ? this.#shown : null));
  }

  #see(entries) {
    for (const entry of entries) {
      const row = this.#rows.get(entry.target.dataset.call);
      if (!row) continue;
      row.visible = entry.isIntersecting;
      if (row.visible && row.brief && !this.#stale) row.tick(performance.now());
    }
  }

  // --- pointer and keyboard ---

  #point(inside) {
    this.#pointed = inside;
    if (inside) this.#touch();
    else this.#sortSoon();
  }

  #touch() {
    this.#touchedAt = performance.now();
  }

  #focused() {
    return this.#shown.find((row) => row.element === document.activeElement) ?? null;
  }

  /** Exactly one row can be reached by Tab: the one that had the focus last, else the first. */
  #rove(row) {
    if (row) this.#reached = row;
    const target = this.#shown.includes(this.#reached) ? this.#reached : this.#shown[0];
    for (const one of this.#rows.values()) {
      const index = one === target ? 0 : -1;
      if (one.element.tabIndex !== index) one.element.tabIndex = index;
    }
  }

  #key(event) {
    this.#touch();
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("a, button") !== null) return;
    const at = this.#shown.indexOf(this.#focused());
    if (at < 0) return;
    const page = Math.max(1, Math.floor(innerHeight / (this.#shown[at].element.offsetHeight || 50)) - 3);
    const last = this.#shown.length - 1;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: last }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      const row = this.#shown[Math.min(Math.max(to, 0), last)];
      this.#rove(row);
      row.element.focus();
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.#on.open(this.#shown[at].callId);
    }
  }
}
