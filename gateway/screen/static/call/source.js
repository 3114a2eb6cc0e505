// Where the page has its call from: the document, then the watch, and again the document for what messages do not tell.

import { CallModel } from "./model.js";

const AGAIN_MS = 4000;
/** A server that has not answered by then is as good as gone: a network can swallow a request. */
const ANSWER_MS = 10_000;
const VERDICT_FIRST_MS = 500;
const VERDICT_MOST_MS = 15_000;
/** Without a word from the server the end of the call is drawn no further than this beyond what is known. */
const MOST_GUESSED_MS = 5000;
const LEVEL_MS = 250;

export class Source {
  /**
   * `on`: `changed(change)`, `levels(levels, fromMs, toMs)`, `watch(state)`, and `gone(fault, hadCall)` when there is
   * no such call, or none any more.
   */
  constructor(api, callId, on) {
    this._api = api;
    this._on = on;
    this._path = `/v1/calls/${encodeURIComponent(callId)}`;
    this._ending = new AbortController();
    this._verdictWaitMs = VERDICT_FIRST_MS;
    this._knownMs = 0;
    this._knownAt = 0;
    /** No audio comes: its client is gone, or sends none. */
    this._stands = false;
    /** Whether the watch stands, as far as it is known. */
    this._watched = false;
    /** Whether the server has answered when it was last asked. */
    this._reached = true;
    /** Whether the watch has told anything since the document was last read. */
    this._told = true;
    this.model = new CallModel(callId);
  }

  async start() {
    if (!await this._read()) return;
    this._on.changed({ kind: "whole" });
    if (!this.model.over) this._watchIt();
    this._later();
  }

  close() {
    this._ending.abort();
    clearTimeout(this._timer);
    this._watch?.close();
    this._watch = null;
  }

  /** How far the call reaches by now, in ms: what is known, and what must have been said since. */
  get edgeMs() {
    const { model } = this;
    if (!model.live) return model.call.duration_ms || model.reachMs;
    if (model.reachMs > this._guess()) this._know(model.reachMs);
    return Math.max(model.reachMs, this._guess());
  }

  _guess() {
    const since = this.model.call.paused || this._stands ? 0 : performance.now() - this._knownAt;
    return this._knownMs + Math.min(MOST_GUESSED_MS, since);
  }

  _know(ms) {
    this._stands = false;
    this._knownMs = ms;
    this._knownAt = performance.now();
  }

  /** So much audio has come, as a document says. As much as when it was read before: none comes any more. */
  _reaches(ms) {
    const stands = ms === this._toldMs;
    this._toldMs = ms;
    this._know(Math.max(ms, this.model.reachMs));
    this._stands = stands;
  }

  /** Of audio that comes the watch tells how loud it is. Where it does not, or nobody is reached, it is connected to nothing. */
  _distrust() {
    const silent = !this._told && !this._stands && !this.model.call.paused && this.model.live;
    this._told = false;
    if (this._watched && (silent || !this._reached)) this._watch?.renew();
  }

  // --- the document ---

  async _read(segments = true) {
    try {
      const ending = this._ending.signal;
      const told = await (segments // all of a long call may take its time, over a slow line
        ? this._api.get(this._path, { signal: ending })
        : this._api.get(`${this._path}?segments=0`, { signal: AbortSignal.any([ending, AbortSignal.timeout(ANSWER_MS)]) }));
      this._reached = true;
      this.model.take(told);
      if (this.model.live) this._reaches(told.duration_ms ?? 0);
      return true;
    } catch (fault) {
      if (this._ending.signal.aborted) return false;
      this._reached = fault.status > 0; // whoever says no is there
      if (fault.status === 404) return this._gone(fault);
      if (!this.model.described) this._on.gone(fault, false);
      return false;
    }
  }

  _gone(fault) {
    this.close();
    this._on.gone(fault, this.model.described);
    return false;
  }

  /** Ask again after a while: for the little that messages do not tell, and for a verdict that comes after the end. */
  _later() {
    clearTimeout(this._timer);
    if (this._ending.signal.aborted || this.model.over) return this._finish();
    const waits = this._ended;
    this._timer = setTimeout(async () => {
      if (waits) this._verdictWaitMs = Math.min(VERDICT_MOST_MS, 2 * this._verdictWaitMs);
      if (!document.hidden || waits) {
        const read = await this._read(Boolean(waits));
        if (!waits) this._distrust();
        if (read) this._on.changed({ kind: "whole" });
      }
      this._later();
    }, waits ? this._verdictWaitMs : AGAIN_MS);
    return undefined;
  }

  /** Its verdict is in: there is nothing more to hear. */
  _finish() {
    if (!this.model.over) return;
    this._watch?.close();
    this._watch = null;
    this._on.watch("over");
  }

  // --- the watch ---

  _watchIt() {
    const { callId, seq } = this.model;
    this._watch = this._api.watch({ call_id: callId, from_seq: seq, levels: true }, {
      message: (message) => this._hear(message),
      state: (state) => {
        this._watched = state === "live";
        if (state !== "closed") this._on.watch(state);
      },
    });
  }

  _hear(message) {
    this._told = true;
    switch (message.type) {
      case "levels":
        return this._levels(message.calls[this.model.callId]);
      case "caught_up":
        return message.live ? undefined : this._callEnded();
      case "call_gone":
        return this._callEnded();
      default: {
        const change = this.model.hear(message);
        if (change.kind !== "nothing") this._on.changed(change);
        if (message.type === "ended") this._callEnded();
        return undefined;
      }
    }
  }

  _levels(levels) {
    if (!levels || !this.model.live) return;
    const toMs = this.edgeMs;
    this._on.levels(levels, Math.max(0, toMs - LEVEL_MS), toMs);
  }

  /** What is kept of an ended call knows more than its messages: when it ended, and a verdict that comes late. */
  async _callEnded() {
    this._ended = true;
    if (await this._read()) this._on.changed({ kind: "whole" });
    this._later();
  }
}
