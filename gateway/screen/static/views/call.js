// One call: as it happens, and afterwards.

import { Alerts } from "../call/alerts.js";
import { Header } from "../call/header.js";
import { LevelTrack } from "../call/levels.js";
import { Player } from "../call/player.js";
import { Source } from "../call/source.js";
import { inOrder, silences } from "../call/spans.js";
import { voicesOf } from "../call/speakers.js";
import { SegmentTable } from "../call/table.js";
import { Timeline } from "../call/timeline.js";
import { Transcript } from "../call/transcript.js";
import { Verdict } from "../call/verdict.js";
import { wordsOf } from "../call/words.js";
import { fill, h } from "../dom.js";

export const styles = ["call/call.css"];

const MEASURE_EVERY_MS = 5000;
const DRAW_EVERY_MS = 100;
const LEVEL_STEP_MS = 100;
const FINE_STEP_MS = 10;
/** Finer levels are asked for when a step of what is known is wider than so many pixels. */
const FINE_PIXELS = 4;
const LOOK_AFTER_MS = 250;
/** The page is drawn anew no oftener, whatever is told. */
const DRAW_AFTER_MS = 80;
/** A silence from this length on may be skipped. */
const SKIPPED_MS = 1000;
/** Keys are theirs while one of these has the focus. */
const OWN_KEYS = "input, select, textarea, button, a[href], summary, dialog";

export function mount(root, context) {
  const page = new CallPage(root, context);
  return () => page.close();
}

class CallPage {
  constructor(root, context) {
    this._root = root;
    this._context = context;
    this._callId = context.params.call_id;
    this._path = `/v1/calls/${encodeURIComponent(this._callId)}`;
    this._source = new Source(context.api, this._callId, {
      changed: () => this._changed(),
      levels: (levels, fromMs, toMs) => this._track.hear(levels, fromMs, toMs),
      watch: (state) => this._header.watched(state),
      gone: (fault, hadCall) => this._gone(fault, hadCall),
    });
    this._build();
    this._keys = (event) => this._key(event);
    document.addEventListener("keydown", this._keys);
    this._ticking = setInterval(() => this._tick(), DRAW_EVERY_MS);
    this._measuring = setInterval(() => this._measure(), MEASURE_EVERY_MS);
    this._source.start();
  }

  close() {
    this._closed = true;
    document.removeEventListener("keydown", this._keys);
    clearInterval(this._ticking);
    clearInterval(this._measuring);
    clearTimeout(this._looking);
    this._source.close();
    this._player.close();
    this._timeline.close();
  }

  _build() {
    const { t } = this._context;
    const words = wordsOf(this._context, this._source.model);
    const seek = (ms) => this._seek(ms);
    this._track = new LevelTrack(1);
    this._header = new Header(this._context, words, this._callId);
    this._timeline = new Timeline(words, this._track, { seek, choose: (id, ms) => this._choose(id, ms), view: (view) => this._looked(view) });
    this._table = new SegmentTable(words, { seek });
    this._player = new Player(this._context, `${this._path}/recording`, {
      position: (ms, playing) => this._position(ms, playing), state: (state) => this._header.recording(state === "ready"),
    });
    this._transcript = new Transcript(words, { seek });
    this._alerts = new Alerts(words, { jump: (ms, segmentId, alertId) => this._jump(ms, segmentId, alertId) });
    this._verdict = new Verdict(words);
    this._header.watched("connecting");
    this._root.setAttribute("aria-label", t("call.title"));
    fill(this._root, h("div", { class: "call" },
      this._header.element, this._timeline.element, this._table.element, this._player.element,
      h("div", { class: "call-columns" },
        this._transcript.element,
        h("div", { class: "call-side" }, this._alerts.element, this._verdict.element)),
    ));
  }

  // --- what is told ---

  /** Something is new: draw it with whatever else comes until the next frame. */
  _changed() {
    if (this._pending || this._closed) return;
    this._pending = true;
    setTimeout(() => requestAnimationFrame(() => {
      this._pending = false;
      if (!this._closed) this._draw();
    }), this._drawnAt === undefined ? 0 : Math.max(0, this._drawnAt + DRAW_AFTER_MS - performance.now()));
  }

  _draw() {
    const { model } = this._source;
    this._drawnAt = performance.now();
    const segments = inOrder(model.segments.values());
    const voices = voicesOf(segments);
    this._edgeMs = this._source.edgeMs;
    this._header.update(model);
    this._timeline.update(model, segments, voices);
    this._table.update(segments);
    this._transcript.update(model, segments, voices);
    this._alerts.update(model, segments);
    this._verdict.update(model);
    this._player.update(model, silences(segments, this._edgeMs, SKIPPED_MS));
    this._tellAlerts(model);
    this._tellVerdict(model);
    this._tick();
    if (!this._tried || (this._measuredLive && !model.live)) this._measure();
  }

  /** Say new alerts to those who do not see them appear. */
  _tellAlerts(model) {
    const known = this._known ?? new Set(model.alerts.keys());
    for (const [id, alert] of model.alerts) {
      if (!known.has(id)) this._context.announce(this._context.t("call.alerts.raised", { category: alert.category }));
    }
    this._known = new Set(model.alerts.keys());
  }

  /** Say what became of a call to those who have waited for it, and see nothing change. */
  _tellVerdict({ over }) {
    const { t, announce } = this._context;
    if (over && this._over === false) announce(`${t("call.verdict.title")}: ${t(`call.verdict.${this._verdict.state}`)}`);
    this._over = over;
  }

  _tick() {
    const { model } = this._source;
    if (!model.described) return;
    const edgeMs = this._source.edgeMs;
    this._header.reach(edgeMs);
    this._timeline.reach(edgeMs, model.live);
  }

  /** Ask how loud the call was since we asked last. */
  async _measure() {
    const { model } = this._source;
    if (!model.described || this._asking || (this._measured && !this._measuredLive)) return;
    if ((document.hidden && this._measured) || (model.live && this._heldElsewhere)) return;
    this._asking = this._tried = true;
    // Once more from the begin when the recording is sealed: it holds what the journal did not have then.
    const [live, fromMs] = [model.live, model.live ? this._track.measuredMs : 0];
    const query = `step_ms=${this._track.stepMs ?? LEVEL_STEP_MS}&from_ms=${Math.max(0, fromMs - LEVEL_STEP_MS)}`;
    const told = await this._levels(query);
    if (told) this._track.take(told);
    if (told) this._timeline.measured();
    this._asking = false;
    if (!told && this._missed) return; // asked for again by and by
    this._measured = true;
    this._measuredLive = live;
  }

  /** Somebody looks closely: have finer levels of an ended call once the view stands still. */
  _looked({ fromMs, toMs, msAPixel }) {
    clearTimeout(this._looking);
    if (this._source.model.live || msAPixel * FINE_PIXELS > this._track.stepMs || this._track.isFine(fromMs, toMs)) return;
    this._looking = setTimeout(async () => {
      const marginMs = (toMs - fromMs) / 2;
      const query = `step_ms=${FINE_STEP_MS}&from_ms=${Math.max(0, Math.floor(fromMs - marginMs))}&to_ms=${Math.ceil(toMs + marginMs)}`;
      const told = await this._levels(query);
      if (told?.channels[0]?.length) this._track.takeFine(told);
      this._timeline.invalidate();
    }, LOOK_AFTER_MS);
  }

  /** An answer about levels; null when another process holds the call, the recording is gone, or nobody is reached. */
  async _levels(query) {
    try {
      return await this._context.api.get(`${this._path}/levels?${query}`);
    } catch (fault) {
      if (fault.name !== "ApiError") throw fault;
      this._heldElsewhere = fault.status === 409;
      this._missed = fault.status === 0 || fault.status >= 500;
      return null; // the timeline does without
    }
  }

  _gone(fault, hadCall) {
    const { t } = this._context;
    this.close();
    const kind = fault.status !== 404 ? "failed" : hadCall ? "deleted" : "unknown";
    this._context.title(t(`call.${kind}`));
    fill(this._root, h("section", { class: "panel message", role: "alert", data: { gone: kind } },
      h("h1", { text: t(`call.${kind}`), tabIndex: -1 }),
      h("p", { text: t(`call.${kind}.hint`) }),
      h("p", {}, h("code", { text: this._callId })),
      kind === "failed" && h("p", { class: "fault", text: fault.message }),
      kind === "failed" && h("button", {
        type: "button", class: "button primary", text: t("shell.reload"),
        on: { click: () => this._context.navigate(location.pathname + location.search, { replace: true }) },
      }),
      h("a", { href: "/screen/", text: t("call.board") }),
    ));
  }

  // --- what people do ---

  _position(ms, playing) {
    const { model } = this._source;
    if (!model.described) return;
    const placed = playing || ms > 0 || !model.live;
    this._timeline.position(placed ? ms : null);
    this._transcript.position(placed ? ms : -1, playing);
    if (playing) this._timeline.show(ms);
  }

  _seek(ms) {
    this._player.seek(ms);
    this._timeline.show(ms);
  }

  _jump(ms, segmentId, alertId) {
    this._alerts.choose(alertId);
    this._timeline.choose(alertId);
    this._seek(ms);
    this._transcript.show(segmentId, ms);
    this._player.play();
  }

  _choose(alertId, ms) {
    const alert = this._source.model.alerts.get(alertId);
    const evidence = alert?.evidence.find((one) => one.begin_ms === ms);
    this._jump(ms, evidence?.segment_id ?? "", alertId);
  }

  _key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(OWN_KEYS)) return;
    const step = event.shiftKey ? 1000 : 5000;
    const acts = {
      " ": () => this._player.toggle(),
      ArrowLeft: () => this._player.skip(-step),
      ArrowRight: () => this._player.skip(step),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }
}
