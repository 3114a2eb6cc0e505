// Draws a timeline on a canvas: what is in view, and no more.

import { clock } from "../format.js";
import { kindOf } from "./alert_kinds.js";
import { palette, pattern } from "./palette.js";
import { labelOf, nameOf } from "./speakers.js";
import { visible } from "./spans.js";

const ALERTS_PX = 22;
const LANE_PX = 62;
const LANE_GAP_PX = 6;
const NOTES_PX = 18;
const AXIS_PX = 20;
const BAR_PX = 2;
const PITCH_PX = 3;
const LABEL_PX = 14;
const MARK_PX = 9;

/** How high a timeline of so many channels is. */
export function heightOf(channels) {
  return ALERTS_PX + channels * (LANE_PX + LANE_GAP_PX) + NOTES_PX + AXIS_PX;
}

/** Which channel lies at a height, -1 above and below. */
export function channelAt(y, channels) {
  const channel = Math.floor((y - ALERTS_PX) / (LANE_PX + LANE_GAP_PX));
  return channel >= 0 && channel < channels ? channel : -1;
}

/** Whether a height is among the alerts. */
export function amongAlerts(y) {
  return y < ALERTS_PX;
}

export class Drawing {
  constructor(canvas) {
    this._canvas = canvas;
    this._context = canvas.getContext("2d");
    this.recolour();
  }

  /** The theme has changed. */
  recolour() {
    this._colours = palette();
    this._patterns = new Map();
  }

  resize(widthPx, heightPx) {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(widthPx * ratio), Math.round(heightPx * ratio)];
    if (this._canvas.width !== width || this._canvas.height !== height) {
      Object.assign(this._canvas, { width, height });
      this._canvas.style.height = `${heightPx}px`;
      this._patterns.clear();
    }
    this._ratio = ratio;
  }

  /** Draw a scene; see `Timeline` for what is in it. */
  draw(scene) {
    const context = this._context;
    const { scale } = scene;
    context.setTransform(this._ratio, 0, 0, this._ratio, 0, 0);
    context.clearRect(0, 0, scale.widthPx, heightOf(scene.lanes.length));
    context.font = `12px ${this._colours.font}`;
    context.textBaseline = "middle";
    this._ground(scene);
    for (const silence of scene.silences) this._silence(scene, silence);
    scene.lanes.forEach((lane, channel) => this._lane(scene, lane, channel));
    for (const hole of scene.holes) this._hole(scene, hole);
    for (const one of scene.talkovers) this._talkover(scene, one);
    let freePx = -Infinity;
    for (const note of scene.notes) freePx = this._note(scene, note, freePx);
    this._axis(scene);
    for (const mark of scene.marks) this._mark(scene, mark);
    this._lines(scene);
  }

  _top(channel) {
    return ALERTS_PX + channel * (LANE_PX + LANE_GAP_PX);
  }

  _pattern(name, colour) {
    const key = `${name} ${colour}`;
    if (!this._patterns.has(key)) this._patterns.set(key, pattern(this._context, name, colour, this._ratio));
    return this._patterns.get(key);
  }

  /** A stretch in pixels, or nothing when it is out of view. */
  _box(scale, { begin_ms: beginMs, end_ms: endMs }, leastPx = 1) {
    const x = scale.x(beginMs);
    const width = Math.max(leastPx, scale.x(endMs) - x);
    return x + width < 0 || x > scale.widthPx ? null : { x, width };
  }

  _ground({ scale, lanes }) {
    const context = this._context;
    context.fillStyle = this._colours.sunken;
    const endPx = Math.min(scale.widthPx, scale.x(scale.durationMs));
    lanes.forEach((_, channel) => context.fillRect(0, this._top(channel), endPx, LANE_PX));
  }

  _lane(scene, lane, channel) {
    const context = this._context;
    const { scale } = scene;
    const top = this._top(channel);
    this._wave(scene, channel, 0, scale.widthPx, this._colours["line-strong"]);
    for (const segment of visible(lane.segments, scale.fromMs, scale.toMs, lane.longestMs)) {
      const box = this._box(scale, segment, 2);
      if (box) this._segment(scene, segment, channel, top, box);
    }
    const title = fitted(context, lane.title, Math.min(160, scale.widthPx / 3));
    context.fillStyle = this._colours.panel;
    context.globalAlpha = 0.85;
    context.fillRect(2, top + LANE_PX - 18, context.measureText(title).width + 8, 16);
    context.globalAlpha = 1;
    context.fillStyle = this._colours["text-2"];
    context.fillText(title, 6, top + LANE_PX - 10);
  }

  _segment(scene, segment, channel, top, { x, width }) {
    const context = this._context;
    const label = labelOf(segment);
    const voice = scene.voices.get(nameOf(segment));
    const colour = this._colours[label === "conflict" ? "conflict" : voice?.tone ?? "text-3"];
    context.fillStyle = this._colours.panel;
    context.fillRect(x, top, width, LANE_PX);
    context.globalAlpha = label === "known" ? 0.2 : 0.1;
    context.fillStyle = colour;
    context.fillRect(x, top, width, LANE_PX);
    context.globalAlpha = 0.45;
    const filling = { undecided: "hatched", unknown: "dots", conflict: "crossed", known: voice?.pattern }[label];
    if (filling && filling !== "plain") {
      context.fillStyle = this._pattern(filling, colour);
      context.fillRect(x, top, width, LANE_PX);
    }
    context.globalAlpha = 1;
    this._wave(scene, channel, x, x + width, colour);
    context.fillStyle = colour;
    context.fillRect(x, top, width, 2);
    context.fillRect(x, top, 1, LANE_PX);
    const text = scene.titleOf(segment);
    const [left, room] = [Math.max(0, x) + 4, Math.min(scene.scale.widthPx, x + width) - Math.max(0, x) - 6];
    if (room > 8) {
      context.fillStyle = this._colours.text;
      const short = voice ? (label === "conflict" ? "!" : voice.letter) : label === "unknown" ? "?" : "…";
      context.fillText(fitted(context, text, room) || (room > 9 ? short : ""), left, top + LABEL_PX / 2 + 3);
    }
  }

  /** The levels of a channel between two pixels, as bars on a grid that does not move with who draws them. */
  _wave({ scale, track }, channel, fromPx, toPx, colour) {
    const context = this._context;
    const middle = this._top(channel) + LABEL_PX + (LANE_PX - LABEL_PX) / 2;
    const half = (LANE_PX - LABEL_PX) / 2 - 2;
    const pitchMs = PITCH_PX * scale.msAPixel;
    const first = Math.max(Math.ceil(scale.at(Math.max(0, fromPx)) / pitchMs), 0);
    const endMs = Math.min(scale.at(Math.min(scale.widthPx, toPx)), track.lengthMs);
    context.fillStyle = colour;
    context.beginPath();
    for (let place = first; place * pitchMs < endMs; place += 1) {
      const loud = track.loudness(channel, place * pitchMs, (place + 1) * pitchMs);
      const height = Math.max(0.5, loud * half);
      context.rect(scale.x(place * pitchMs), middle - height, BAR_PX, 2 * height);
    }
    context.fill();
  }

  _silence({ scale, lanes, words }, silence) {
    const box = this._box(scale, silence);
    if (!box) return;
    const context = this._context;
    context.fillStyle = this._pattern("sparse", this._colours["line-strong"]);
    lanes.forEach((_, channel) => context.fillRect(box.x, this._top(channel), box.width, LANE_PX));
    const text = fitted(context, words.silence(silence), Math.min(box.width, scale.widthPx) - 8);
    const x = (Math.max(0, box.x) + Math.min(scale.widthPx, box.x + box.width) - context.measureText(text).width) / 2;
    context.fillStyle = this._colours["text-2"];
    if (text) context.fillText(text, x, this._top(0) + LABEL_PX / 2 + 3);
  }

  _hole({ scale, lanes, words }, hole) {
    const box = this._box(scale, hole, 2);
    if (!box || hole.channel >= lanes.length) return;
    const context = this._context;
    const top = this._top(hole.channel);
    context.fillStyle = this._colours.panel;
    context.fillRect(box.x, top, box.width, LANE_PX);
    context.fillStyle = this._pattern("crossed", this._colours["line-strong"]);
    context.fillRect(box.x, top, box.width, LANE_PX);
    context.strokeStyle = this._colours["line-strong"];
    context.strokeRect(box.x + 0.5, top + 0.5, box.width - 1, LANE_PX - 1);
    const text = fitted(context, words.gap(hole), box.width - 12);
    if (!text) return;
    context.fillStyle = this._colours.panel;
    context.fillRect(box.x + 4, top + LANE_PX / 2 - 9, context.measureText(text).width + 6, 18);
    context.fillStyle = this._colours.text;
    context.fillText(text, box.x + 7, top + LANE_PX / 2);
  }

  /** Between the two who speak at once. */
  _talkover({ scale, lanes }, one) {
    const box = this._box(scale, one, 2);
    if (!box || lanes.length < 2) return;
    const context = this._context;
    const y = this._top(1) - LANE_GAP_PX;
    context.fillStyle = this._colours["meter-hot"];
    context.fillRect(box.x, y, box.width, LANE_GAP_PX);
    context.fillStyle = this._pattern("stripes", this._colours.panel);
    context.fillRect(box.x, y, box.width, LANE_GAP_PX);
  }

  /** Beside the one before it, which ends at `freePx`; returns where this one ends. */
  _note({ scale, lanes, words }, note, freePx) {
    const x = Math.max(scale.x(note.at_ms), freePx);
    if (scale.x(note.at_ms) < -120 || x > scale.widthPx) return freePx;
    const context = this._context;
    const y = this._top(lanes.length);
    const text = fitted(context, words.note(note), 96);
    const width = context.measureText(text).width + 8;
    context.fillStyle = this._colours.sunken;
    context.fillRect(x, y, width, NOTES_PX - 2);
    context.fillStyle = this._colours.accent;
    context.fillRect(x, y, 1.5, NOTES_PX - 2);
    context.fillStyle = this._colours.text;
    context.fillText(text, x + 4, y + NOTES_PX / 2 - 1);
    return x + width + 2;
  }

  _axis({ scale, lanes }) {
    const context = this._context;
    const y = this._top(lanes.length) + NOTES_PX;
    const { stepMs, ticks } = scale.ticks();
    for (const ms of ticks) {
      const x = Math.round(scale.x(ms)) + 0.5;
      context.fillStyle = this._colours.line;
      context.fillRect(x, ALERTS_PX, 1, y - ALERTS_PX + 4);
      context.fillStyle = this._colours["text-2"];
      const text = stepMs < 1000 ? `${clock(ms)}.${Math.floor((ms % 1000) / 100)}` : clock(ms);
      const width = context.measureText(text).width;
      context.fillText(text, Math.min(scale.widthPx - width - 1, Math.max(1, x - width / 2)), y + AXIS_PX / 2 + 2);
    }
  }

  _mark({ scale, lanes }, mark) {
    const x = scale.x(mark.ms);
    if (x < -8 || x > scale.widthPx + 8) return;
    const context = this._context;
    const { sign, tone } = kindOf(mark.status);
    const colour = this._colours[tone];
    context.fillStyle = colour;
    context.globalAlpha = mark.status === "retracted" || mark.status === "not_confirmed" ? 0.35 : 0.8;
    context.fillRect(x - 0.75, ALERTS_PX - 2, 1.5, this._top(lanes.length) - ALERTS_PX);
    context.globalAlpha = 1;
    context.beginPath();
    const round = Math.min(scale.widthPx - MARK_PX - 1, Math.max(MARK_PX + 1, x));
    context.arc(round, ALERTS_PX / 2, MARK_PX, 0, 2 * Math.PI);
    const filled = mark.status === "final" || mark.status === "confirmed" || mark.status === "missed";
    context.fillStyle = filled ? colour : this._colours.panel;
    context.fill();
    context.strokeStyle = colour;
    context.lineWidth = mark.id === mark.chosen ? 2.5 : 1.25;
    context.setLineDash(mark.status === "provisional" ? [3, 2] : []);
    context.stroke();
    context.setLineDash([]);
    context.lineWidth = 1;
    context.fillStyle = filled ? this._colours.panel : colour;
    context.fillText(sign, round - context.measureText(sign).width / 2, ALERTS_PX / 2 + 0.5);
  }

  _lines({ scale, lanes, positionMs, cursorMs, edgeMs }) {
    const context = this._context;
    const bottom = this._top(lanes.length) + NOTES_PX;
    const line = (ms, colour, width) => {
      if (ms === null) return;
      context.fillStyle = colour;
      context.fillRect(scale.x(ms) - width / 2, 0, width, bottom);
    };
    line(edgeMs, this._colours.meter, 2);
    line(cursorMs, this._colours["text-3"], 1);
    line(positionMs, this._colours.accent, 2);
    if (cursorMs === null) return;
    const text = `${clock(cursorMs)}.${Math.floor((Math.max(0, cursorMs) % 1000) / 100)}`;
    const width = context.measureText(text).width + 10;
    const x = Math.min(scale.widthPx - width, Math.max(0, scale.x(cursorMs) - width / 2));
    context.fillStyle = this._colours.text;
    context.fillRect(x, bottom + 1, width, AXIS_PX - 2);
    context.fillStyle = this._colours.panel;
    context.fillText(text, x + 5, bottom + AXIS_PX / 2);
  }
}

/** As much of a text as has room, cut with an ellipsis; nothing when that would say nothing. */
function fitted(context, text, room) {
  if (room < 12 || !text) return "";
  if (context.measureText(text).width <= room) return text;
  let length = Math.min(text.length, Math.floor(room / 4));
  while (length > 0 && context.measureText(`${text.slice(0, length)}…`).width > room) length -= 1;
  return length > 1 ? `${text.slice(0, length)}…` : "";
}
