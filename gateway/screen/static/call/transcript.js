// The transcript: grows with the call, follows what is heard, and can be searched.

import { aria, fill, h, setText } from "../dom.js";
import { clock } from "../format.js";
import { cut, findSpans, keywordSpans, utf16At, wordSpans } from "./pieces.js";
import { labelOf, nameOf } from "./speakers.js";

const NEAR_END_PX = 48;
/** What moves within this time of a wheel, a finger, a key or the last such move is moved by somebody. */
const BY_HAND_MS = 1000;
/** From so many rows on those out of view are not laid out. */
const LONG = 200;

export class Transcript {
  /** `on`: `seek(ms)`. */
  constructor(words, on) {
    this._words = words;
    this._on = on;
    /** Segment id to its row: `{item, text, who, key}`. */
    this._rows = new Map();
    this._segments = [];
    this._evidence = new Map();
    this._voices = new Map();
    this._active = new Set();
    this._follows = true;
    this._lastTop = 0;
    this._handAtMs = -Infinity;
    this._wanted = "";
    this._build();
  }

  _build() {
    const { t } = this._words;
    this._list = h("ol", { class: "call-lines" });
    this._empty = h("p", { class: "hint", text: t("call.transcript.empty") });
    this._scroller = h("div", {
      class: "call-scroll", tabIndex: 0, role: "region", aria: { label: t("call.transcript.title") },
      on: {
        scroll: () => this._scrolled(), click: (event) => this._click(event),
        wheel: () => this._handed(), touchmove: () => this._handed(), keydown: () => this._handed(),
        pointerdown: () => this._handed(), pointermove: (event) => event.buttons && this._handed(),
      },
    }, this._empty, this._list);
    // What is around it grows and shrinks too, and so do the lines.
    const sizes = new ResizeObserver(() => this._keepUp());
    sizes.observe(this._scroller);
    sizes.observe(this._list);
    this._now = h("button", {
      type: "button", class: "button primary call-now", text: t("call.transcript.now"), hidden: true,
      on: { click: () => this.jumpToNow() },
    });
    this._found = h("output", { class: "hint" });
    this._search = h("input", {
      type: "search", class: "input", placeholder: t("call.transcript.find"), aria: { label: t("call.transcript.find") },
      on: { input: () => this._find(), keydown: (event) => event.key === "Enter" && this._next(event) },
    });
    this.element = h("section", { class: "panel call-transcript", aria: { labelledby: "call-transcript-title" } },
      h("div", { class: "call-bar" },
        h("h2", { id: "call-transcript-title", text: t("call.transcript.title") }),
        h("div", { class: "call-find", role: "search" }, this._search, this._found),
      ),
      h("div", { class: "call-scroll-frame" }, this._scroller, this._now),
    );
  }

  // --- what was said ---

  /** Take over what the call is now. */
  update(model, segments, voices) {
    this._segments = segments;
    this._voices = voices;
    this._evidence = evidenceOf(model);
    this._live = model.live;
    const known = new Set(segments.map((segment) => segment.segment_id));
    for (const [id, row] of this._rows) if (!known.has(id)) this._drop(id, row);
    segments.forEach((segment, place) => this._put(segment, place));
    this._empty.hidden = segments.length > 0;
    this._list.classList.toggle("is-long", segments.length > LONG);
    if (this._wanted) this._tellFound();
    this._keepUp();
  }

  _drop(id, row) {
    row.item.remove();
    this._rows.delete(id);
  }

  _put(segment, place) {
    const row = this._rows.get(segment.segment_id) ?? this._made(segment);
    // The order of the call, not that in which things became known.
    if (this._list.children[place] !== row.item) this._list.insertBefore(row.item, this._list.children[place] ?? null);
    this._dress(segment, row);
  }

  _made(segment) {
    const time = h("button", {
      type: "button", class: "call-time", text: clock(segment.begin_ms),
      aria: { label: this._words.t("call.transcript.play", { time: clock(segment.begin_ms) }) },
      on: { click: () => this._on.seek(segment.begin_ms) },
    });
    const row = { who: h("span", { class: "call-who" }), text: h("p", { class: "call-text" }), key: "" };
    row.item = h("li", { class: "call-line", data: { segment: segment.segment_id } }, time, row.who, row.text);
    this._rows.set(segment.segment_id, row);
    return row;
  }

  /** Draw a row anew if what it shows has changed. */
  _dress(segment, row) {
    const evidence = this._evidence.get(segment.segment_id) ?? [];
    const active = this._active.has(segment.segment_id);
    const voice = this._voices.get(nameOf(segment));
    const who = this._words.who(segment);
    const stable = segment.final ? -1 : segment.stable_chars;
    const key = JSON.stringify([segment.text, segment.final, stable, who, labelOf(segment), voice?.tone, evidence, active, this._wanted]);
    if (key === row.key) return;
    row.key = key;
    row.item.dataset.state = segment.state === "opened" ? "open" : "closed";
    row.item.dataset.channel = segment.channel;
    fill(row.who,
      h("span", { class: ["call-swatch", `tone-${voice?.tone ?? "none"}`, `fill-${voice?.pattern ?? labelOf(segment)}`], "aria-hidden": "true", text: voice?.letter ?? "" }),
      h("b", { text: who }), who !== this._words.role(segment.role) && h("span", { class: "hint", text: this._words.role(segment.role) }),
      labelOf(segment) === "conflict" && h("span", { class: "chip conflict", text: this._words.t("call.speaker.conflict") }),
    );
    row.text.lang = segment.language || "";
    row.words = null;
    fill(row.text, this._pieces(segment, evidence, active, row));
  }

  _pieces(segment, evidence, active, row) {
    const text = segment.text ?? "";
    if (!text) return h("span", { class: "hint", text: segment.state === "opened" ? "…" : this._words.t("call.transcript.nothing") });
    const spans = [...evidence.flatMap((one) => keywordSpans(text, segment.words, one)), ...findSpans(text, this._wanted)];
    if (!segment.final) spans.push({ begin: utf16At(text, segment.stable_chars ?? 0), end: text.length, kind: "loose" });
    if (active) spans.push(...wordSpans(text, segment.words));
    if (active) row.words = [];
    return cut(text, spans).map((piece) => {
      const marked = piece.kinds.some((kind) => kind === "keyword" || kind === "found");
      const element = h(marked ? "mark" : "span", { class: piece.kinds.map((kind) => `is-${kind}`), text: piece.text });
      const word = piece.spans.find((span) => span.kind === "word");
      if (word && row.words) row.words.push({ ...word, element });
      return element;
    });
  }

  /** A click on a word goes there. */
  _click(event) {
    const row = event.target.closest(".call-text");
    const segment = row && this._segments.find((one) => one.segment_id === row.parentElement.dataset.segment);
    if (!segment || !getSelection().isCollapsed) return;
    const at = offsetIn(row, event);
    const word = at === null ? null : wordSpans(segment.text ?? "", segment.words).find((one) => at <= one.end);
    this._on.seek(word?.begin_ms ?? segment.begin_ms);
  }

  // --- following ---

  /** Where one listens: the sentence and the word there are marked. */
  position(ms, playing) {
    this._playing = playing;
    const active = new Set(this._segments.filter((one) => one.begin_ms <= ms && ms < one.end_ms).map((one) => one.segment_id));
    const changed = [...new Set([...active, ...this._active])].filter((id) => active.has(id) !== this._active.has(id));
    this._active = active;
    for (const id of changed) {
      const row = this._rows.get(id);
      const segment = this._segments.find((one) => one.segment_id === id);
      if (!row || !segment) continue;
      aria(row.item, "current", active.has(id) ? "true" : null);
      this._dress(segment, row);
    }
    for (const id of active) {
      for (const word of this._rows.get(id)?.words ?? []) word.element.classList.toggle("is-now", word.begin_ms <= ms && ms < word.end_ms);
    }
    if (changed.length) this._keepUp();
  }

  /** Show a sentence, and for a moment where it is. */
  show(segmentId, ms) {
    const segment = this._segments.find((one) => one.segment_id === segmentId)
      ?? this._segments.findLast((one) => one.begin_ms <= ms);
    const row = segment && this._rows.get(segment.segment_id);
    if (!row) return;
    this._follow(false);
    this._bringUp(row.item);
    row.item.classList.remove("is-shown");
    requestAnimationFrame(() => row.item.classList.add("is-shown"));
  }

  jumpToNow() {
    this._follow(true);
    this._keepUp();
  }

  _follow(follows) {
    const { scrollHeight, clientHeight } = this._scroller;
    this._follows = follows;
    this._now.hidden = follows || !(this._live || this._playing) || scrollHeight <= clientHeight;
  }

  /** Stay with what is heard: the sentence that plays, else the newest. */
  _keepUp() {
    this._follow(this._follows);
    if (!this._follows) return;
    const playing = this._playing && [...this._active].map((id) => this._rows.get(id)?.item).find(Boolean);
    if (playing) this._bringUp(playing);
    else if (this._live) this._scrollTo(this._scroller.scrollHeight);
  }

  _bringUp(item) {
    const box = this._scroller.getBoundingClientRect();
    const own = item.getBoundingClientRect();
    this._scrollTo(this._scroller.scrollTop + own.top - box.top - (box.height - own.height) / 2);
  }

  _scrollTo(top) {
    this._scroller.scrollTop = top;
    this._lastTop = this._scroller.scrollTop;
  }

  /** Somebody scrolls, or may be about to. */
  _handed() {
    this._handAtMs = performance.now();
  }

  /** Whoever scrolls up wants to read, and whoever comes back to the end wants to follow. */
  _scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this._scroller;
    const moved = scrollTop - this._lastTop;
    this._lastTop = scrollTop;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    // It also goes by itself, when something above what is in view comes, grows or shrinks.
    const byHand = performance.now() - this._handAtMs < BY_HAND_MS;
    if (byHand) this._handed();
    if (this._live && !this._playing && atEnd) this._follow(true);
    else if (byHand && (moved < 0 || (this._playing && moved > 0))) this._follow(false);
  }

  // --- finding ---

  _find() {
    this._wanted = this._search.value.trim();
    this._place = -1;
    this._segments.forEach((segment) => this._dress(segment, this._rows.get(segment.segment_id)));
    this._tellFound();
  }

  _marks() {
    return [...this._list.querySelectorAll(".is-found")];
  }

  _tellFound() {
    const { length } = this._marks();
    setText(this._found, !this._wanted ? "" : this._words.t("call.transcript.found", { count: length, place: this._place + 1 }));
  }

  _next(event) {
    event.preventDefault();
    const marks = this._marks();
    if (!marks.length) return;
    this._place = (this._place + (event.shiftKey ? -1 : 1) + marks.length) % marks.length;
    marks.forEach((mark, place) => mark.classList.toggle("is-chosen", place === this._place));
    this._follow(false);
    this._bringUp(marks[this._place].closest("li"));
    this._tellFound();
  }
}

/** Evidence of alerts that stand, by segment. */
function evidenceOf(model) {
  const bySegment = new Map();
  for (const alert of model.alerts.values()) {
    if (alert.status === "retracted") continue;
    for (const evidence of alert.evidence) {
      bySegment.set(evidence.segment_id, [...(bySegment.get(evidence.segment_id) ?? []), evidence]);
    }
  }
  return bySegment;
}

/** Which character of an element's text a click hit, null where browsers cannot tell. */
function offsetIn(element, event) {
  const caret = document.caretPositionFromPoint?.(event.clientX, event.clientY);
  const range = caret ? null : document.caretRangeFromPoint?.(event.clientX, event.clientY);
  const [node, offset] = caret ? [caret.offsetNode, caret.offset] : [range?.startContainer, range?.startOffset];
  if (!node || !element.contains(node)) return null;
  const before = document.createRange();
  before.setStart(element, 0);
  before.setEnd(node, offset);
  return before.toString().length;
}
