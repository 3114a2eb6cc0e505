// Which stretch of a call a timeline shows, and how far apart its ticks stand. Pure.

const MOST_MS_A_PIXEL = 60_000;
const LEAST_MS_A_PIXEL = 2;
const SHORTEST_MS = 10_000;
/** Less is never shown across the whole width, so that a call of two seconds does not look like one of an hour. */
const TICKS_MS = [
  100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000,
  3_600_000,
];

export class Scale {
  constructor(widthPx = 600) {
    this.widthPx = widthPx;
    this.durationMs = SHORTEST_MS;
    this.fromMs = 0;
    this.msAPixel = SHORTEST_MS / widthPx;
    /** The whole call is shown, and goes on being shown as it grows. */
    this.whole = true;
    /** The end of the call stays in view. */
    this.follows = true;
  }

  get spanMs() {
    return this.msAPixel * this.widthPx;
  }

  get toMs() {
    return this.fromMs + this.spanMs;
  }

  x(ms) {
    return (ms - this.fromMs) / this.msAPixel;
  }

  at(x) {
    return this.fromMs + x * this.msAPixel;
  }

  /** The canvas is so wide now; what is at its left edge stays there. */
  resize(widthPx) {
    this.widthPx = Math.max(1, widthPx);
    this._settle();
  }

  /** The call is so long now. */
  reach(durationMs) {
    this.durationMs = Math.max(SHORTEST_MS, durationMs);
    this._settle();
  }

  fit() {
    this.whole = true;
    this._settle();
  }

  /** `factor` below 1 shows less, larger; `atX` stays where it is. */
  zoom(factor, atX = this.widthPx / 2) {
    const anchorMs = this.at(atX);
    const wanted = this.msAPixel * factor;
    this.whole = wanted * this.widthPx >= this.durationMs;
    this.msAPixel = Math.min(MOST_MS_A_PIXEL, Math.max(LEAST_MS_A_PIXEL, wanted));
    this.fromMs = anchorMs - atX * this.msAPixel;
    this._settle();
  }

  pan(ms) {
    this.follows = false;
    this.fromMs += ms;
    this._settle();
  }

  follow(follows) {
    this.follows = follows;
    this._settle();
  }

  /** Show `ms`, in the middle unless it is in view already. */
  show(ms) {
    if (ms < this.fromMs || ms > this.toMs) {
      this.follows = false;
      this.fromMs = ms - this.spanMs / 2;
      this._settle();
    }
  }

  _settle() {
    if (this.whole || this.spanMs > this.durationMs) this.msAPixel = this.durationMs / this.widthPx;
    const lastMs = Math.max(0, this.durationMs - this.spanMs);
    this.fromMs = this.follows ? lastMs : Math.min(lastMs, Math.max(0, this.fromMs));
  }

  /** Where ticks stand in view, at least `apartPx` apart. */
  ticks(apartPx = 80) {
    const stepMs = TICKS_MS.find((step) => step / this.msAPixel >= apartPx) ?? TICKS_MS.at(-1);
    const ticks = [];
    for (let ms = Math.ceil(this.fromMs / stepMs) * stepMs; ms <= this.toMs; ms += stepMs) ticks.push(ms);
    return { stepMs, ticks };
  }
}
