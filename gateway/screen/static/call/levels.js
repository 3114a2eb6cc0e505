// How loud a call is, step by step, for drawing. Pure: what is told of stretches is put together here.

export const QUIETEST_DB = -90;
const UNKNOWN = -128;

export class LevelTrack {
  constructor(channels = 1) {
    this.stepMs = 100;
    this._channels = Array.from({ length: channels }, () => new Int8Array(0));
    /** Steps before this were measured; later ones are live readings, whose place is known roughly. */
    this.measuredMs = 0;
    this.lengthMs = 0;
    /** A stretch that is known in finer steps: `{stepMs, fromMs, toMs, channels}`. */
    this._fine = null;
  }

  get channels() {
    return this._channels.length;
  }

  /** Take an answer of `/v1/calls/{id}/levels`. A coarser one begins everything anew. */
  take({ step_ms: stepMs, from_ms: fromMs, channels }) {
    if (stepMs !== this.stepMs || channels.length !== this._channels.length) {
      this._channels = channels.map(() => new Int8Array(0));
      this.stepMs = stepMs;
      this.lengthMs = 0;
    }
    const first = Math.round(fromMs / stepMs);
    channels.forEach((levels, channel) => this._grown(channel, first + levels.length).set(levels, first));
    this.measuredMs = fromMs + (channels[0]?.length ?? 0) * stepMs;
    this.lengthMs = Math.max(this.lengthMs, this.measuredMs);
  }

  /** Take an answer in finer steps, for a stretch that is looked at closely. It takes the place of the one before. */
  takeFine({ step_ms: stepMs, from_ms: fromMs, channels }) {
    this._fine = { stepMs, fromMs, toMs: fromMs + channels[0].length * stepMs, channels };
  }

  /** Whether a stretch is known as finely as asking for it would tell. */
  isFine(fromMs, toMs) {
    const end = Math.min(toMs, this.lengthMs);
    return this._fine !== null && this._fine.fromMs <= Math.max(0, fromMs) && end <= this._fine.toMs + this._fine.stepMs;
  }

  /** Take a live reading of [fromMs, toMs): one level a channel. What was measured there stays. */
  hear(levels, fromMs, toMs) {
    const [first, end] = [Math.ceil(Math.max(fromMs, this.measuredMs) / this.stepMs), Math.ceil(toMs / this.stepMs)];
    levels.forEach((level, channel) => {
      if (channel < this._channels.length && end > first) this._grown(channel, end).fill(level, first, end);
    });
    this.lengthMs = Math.max(this.lengthMs, end * this.stepMs);
  }

  _grown(channel, steps) {
    let levels = this._channels[channel];
    if (levels.length < steps) {
      const longer = new Int8Array(Math.max(steps, 2 * levels.length)).fill(UNKNOWN);
      longer.set(levels);
      levels = this._channels[channel] = longer;
    }
    return levels;
  }

  /** The loudest of [fromMs, toMs) as 0 (nothing, or not known) to 1 (full scale), as the ear has it. */
  loudness(channel, fromMs, toMs) {
    const fine = this._fine !== null && fromMs >= this._fine.fromMs && toMs <= this._fine.toMs;
    const levels = (fine ? this._fine.channels : this._channels)[channel];
    if (levels === undefined) return 0;
    const [stepMs, beginMs] = fine ? [this._fine.stepMs, this._fine.fromMs] : [this.stepMs, 0];
    const first = Math.max(0, Math.floor((fromMs - beginMs) / stepMs));
    const end = Math.min(levels.length, Math.max(first + 1, Math.ceil((toMs - beginMs) / stepMs)));
    let loudest = QUIETEST_DB;
    for (let at = first; at < end; at += 1) if (levels[at] > loudest) loudest = levels[at];
    return Math.max(0, 1 + loudest / 60);
  }
}
