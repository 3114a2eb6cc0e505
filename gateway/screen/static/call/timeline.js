// The timeline: a canvas that can be zoomed, moved and pointed at, with what it shows also in words.

import { aria, fill, h, setText } from "../dom.js";
import { clock } from "../format.js";
import { placesOf } from "./alert_kinds.js";
import { amongAlerts, channelAt, Drawing, heightOf } from "./drawing.js";
import { Gestures } from "./gestures.js";
import { Scale } from "./scale.js";
import { nameOf } from "./speakers.js";
import { holes, silences, talkovers, visible } from "./spans.js";

const ZOOM = 1.5;
const NEAR_PX = 10;
const STEP_MS = 5000;
const FINE_STEP_MS = 1000;

export class Timeline {
  /** `words`: what things are called, `track`: levels; `on`: `seek(ms)`, `choose(alertId, ms)`, `view({fromMs, toMs, msAPixel})`. */
  constructor(words, track, on) {
    this._words = words;
    this._track = track;
    this._on = on;
    this._scale = new Scale();
    this._scene = {
      scale: this._scale, track, words, lanes: [], voices: new Map(), silences: [], talkovers: [], holes: [], notes: [],
      marks: [], positionMs: null, cursorMs: null, edgeMs: null, titleOf: nameOf,
    };
    this._dirty = false;
    this._build();
    this._drawing = new Drawing(this._canvas);
    this._gestures = new Gestures(this._stage, {
      zoom: (factor, x) => this._zoom(factor, x),
      pan: (px) => this._pan(px * this._scale.msAPixel),
      tap: (x, y) => this._tap(x, y),
      hover: (x, y) => this._hover(x, y),
    });
    this._observer = new ResizeObserver(() => this._resize());
    this._observer.observe(this._stage);
    this._recolour = () => {
      this._drawing.recolour();
      this.invalidate();
    };
    document.addEventListener("earshot:theme", this._recolour);
  }

  close() {
    this._observer.disconnect();
    document.removeEventListener("earshot:theme", this._recolour);
    cancelAnimationFrame(this._frame);
  }

  _build() {
    const { t } = this._words;
    const tool = (name, label, act) => h("button", {
      type: "button", class: "button quiet", "data-tool": name, title: t(`call.zoom.${name}`),
      aria: { label: t(`call.zoom.${name}`) }, text: label, on: { click: act },
    });
    this._canvas = h("canvas", { class: "call-canvas", "aria-hidden": "true" });
    this._stage = h("div", {
      class: "call-stage", role: "slider", tabIndex: 0,
      aria: { label: t("call.timeline.position"), valuemin: 0, valuemax: 0, valuenow: 0, describedby: "call-timeline-keys" },
      on: { keydown: (event) => this._key(event) },
    }, this._canvas);
    this._follow = h("button", {
      type: "button", class: "button quiet", text: t("call.timeline.follow"), "data-tool": "follow", hidden: true,
      aria: { pressed: true }, on: { click: () => this.follow(!this._scale.follows) },
    });
    this._readout = h("output", { class: "call-readout" });
    this._legend = h("ul", { class: "call-legend", aria: { label: t("call.timeline.legend") } });
    this.element = h("section", { class: "panel call-timeline", aria: { labelledby: "call-timeline-title" } },
      h("div", { class: "call-bar" },
        h("h2", { id: "call-timeline-title", text: t("call.timeline.title") }),
        this._readout,
        h("div", { class: "call-tools" }, this._follow,
          tool("out", "−", () => this._zoom(ZOOM)), tool("in", "+", () => this._zoom(1 / ZOOM)),
          tool("fit", "⤢", () => this._fit())),
      ),
      this._stage,
      this._legend,
      h("p", { id: "call-timeline-keys", class: "unseen", text: t("call.timeline.keys") }),
    );
  }

  // --- what it shows ---

  /** Take over what the call is now. */
  update(model, segments, voices) {
    const { call } = model;
    const lanes = Array.from({ length: call.channels }, (_, channel) => {
      const own = segments.filter((segment) => segment.channel === channel);
      const longestMs = Math.max(0, ...own.map((segment) => segment.end_ms - segment.begin_ms));
      return { segments: own, longestMs, title: this._words.role(call.roles[channel] ?? "") };
    });
    this._endMs = model.live ? model.reachMs : call.duration_ms || model.reachMs;
    const alerts = [...model.alerts.values()];
    Object.assign(this._scene, {
      lanes, voices, notes: model.notes, holes: holes(model.gaps, call.rate), talkovers: talkovers(segments),
      silences: silences(segments, this._endMs),
      marks: alerts.flatMap((alert) => placesOf(alert).map(({ ms }) => ({ ms, id: alert.alert_id, status: alert.status, alert }))),
    });
    this._segments = segments;
    this._follow.hidden = !model.live;
    if (!model.live) this._scale.follow(false);
    this._drawLegend();
    this._resize();
  }

  /** The call reaches `ms` by now: `edge` draws where. */
  reach(ms, edge) {
    const edgeMs = edge ? ms : null;
    if (this._reachMs === ms && this._scene.edgeMs === edgeMs) return;
    this._reachMs = ms;
    this._scene.edgeMs = edgeMs;
    this._scale.reach(ms);
    aria(this._stage, "valuemax", Math.round(ms / 1000));
    this.invalidate();
  }

  /** The levels up to now are there. */
  measured() {
    this._stage.dataset.measuredMs = this._track.measuredMs;
    this.invalidate();
  }

  /** Where one listens, or null. */
  position(ms) {
    this._scene.positionMs = ms;
    const shown = ms ?? 0;
    aria(this._stage, "valuenow", Math.round(shown / 1000));
    aria(this._stage, "valuetext", clock(shown));
    this.invalidate();
  }

  get positionMs() {
    return this._scene.positionMs;
  }

  /** Bring a moment into view. */
  show(ms) {
    this._scale.show(ms);
    this._viewChanged();
  }

  choose(alertId) {
    for (const mark of this._scene.marks) mark.chosen = alertId;
    this.invalidate();
  }

  follow(follows) {
    this._scale.follow(follows);
    this._viewChanged();
  }

  invalidate() {
    if (this._dirty) return;
    this._dirty = true;
    this._frame = requestAnimationFrame(() => {
      this._dirty = false;
      this._drawing.draw(this._scene);
    });
  }

  _resize() {
    const widthPx = this._stage.clientWidth;
    if (!widthPx) return;
    this._scale.resize(widthPx);
    this._drawing.resize(widthPx, heightOf(this._scene.lanes.length));
    this.invalidate();
  }

  _drawLegend() {
    const { t } = this._words;
    const swatch = (classes, text, letter = "") => h("li", {}, h("span", { class: ["call-swatch", ...classes], text: letter, "aria-hidden": "true" }), text);
    const voices = [...this._scene.voices.values()].map(({ name, tone, pattern, letter }) => (
      swatch([`tone-${tone}`, `fill-${pattern}`], name, letter)
    ));
    const items = [
      ...voices, swatch(["fill-undecided"], t("call.speaker.undecided"), "…"), swatch(["fill-unknown"], t("call.speaker.unknown"), "?"),
      this._scene.talkovers.length > 0 && swatch(["fill-talkover"], t("call.timeline.talkover", { count: this._scene.talkovers.length })),
      this._scene.holes.length > 0 && swatch(["fill-gap"], t("call.timeline.gap")),
    ];
    const text = items.map((item) => item && item.outerHTML).join();
    if (text === this._legendText) return; // a list that is built anew is read out anew
    this._legendText = text;
    fill(this._legend, items);
  }

  // --- what people do ---

  _viewChanged() {
    aria(this._follow, "pressed", this._scale.follows);
    this.invalidate();
    const { fromMs, toMs, msAPixel } = this._scale;
    this._on.view({ fromMs, toMs, msAPixel });
  }

  _zoom(factor, x = undefined) {
    this._scale.zoom(factor, x);
    this._viewChanged();
  }

  _fit() {
    this._scale.fit();
    this._viewChanged();
  }

  _pan(ms) {
    this._scale.pan(ms);
    this._viewChanged();
  }

  _tap(x, y) {
    const mark = amongAlerts(y) && this._markAt(x);
    if (mark) this._on.choose(mark.id, mark.ms);
    else this._on.seek(Math.max(0, Math.min(this._scale.durationMs, this._scale.at(x))));
  }

  _markAt(x) {
    const near = this._scene.marks.filter((mark) => Math.abs(this._scale.x(mark.ms) - x) <= NEAR_PX);
    return near.sort((a, b) => Math.abs(this._scale.x(a.ms) - x) - Math.abs(this._scale.x(b.ms) - x))[0];
  }

  _hover(x, y) {
    this._scene.cursorMs = x === null ? null : Math.max(0, this._scale.at(x));
    setText(this._readout, x === null ? "" : this._described(x, y));
    this.invalidate();
  }

  /** What is at a point, in words. */
  _described(x, y) {
    const ms = this._scale.at(x);
    const mark = amongAlerts(y) && this._markAt(x);
    if (mark) return this._words.alert(mark.alert);
    const lane = this._scene.lanes[channelAt(y, this._scene.lanes.length)];
    const segment = lane && visible(lane.segments, ms, ms, lane.longestMs).find((one) => one.begin_ms <= ms && ms < one.end_ms);
    if (segment) return `${this._words.who(segment)}: ${segment.text ?? "…"}`;
    return "";
  }

  _key(event) {
    const step = event.shiftKey ? FINE_STEP_MS : STEP_MS;
    const at = this._scene.positionMs ?? 0;
    const acts = {
      ArrowLeft: () => this._on.seek(Math.max(0, at - step)),
      ArrowRight: () => this._on.seek(Math.min(this._endMs ?? 0, at + step)),
      ArrowUp: () => this._zoom(1 / ZOOM),
      ArrowDown: () => this._zoom(ZOOM),
      "+": () => this._zoom(1 / ZOOM),
      "=": () => this._zoom(1 / ZOOM),
      "-": () => this._zoom(ZOOM),
      0: () => this._fit(),
      PageUp: () => this._pan(-this._scale.spanMs / 2),
      PageDown: () => this._pan(this._scale.spanMs / 2),
      Home: () => this._on.seek(0),
      End: () => this._on.seek(this._endMs ?? 0),
      f: () => this.follow(!this._scale.follows),
    };
    const act = acts[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }
}
