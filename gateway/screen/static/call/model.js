// The state of one call, folded from its document (`GET /v1/calls/{id}`) and the messages of its watch. Pure: no DOM,
// no clock, no network. Whoever was there from the start, came back in between or opens the finished call has the same.

const UNLASTING = new Set(["type", "call_id", "seq"]);
const OVER = new Set(["judged", "failed"]);

/** What changed: all of it, one segment, the alerts, or the rest. */
export const WHOLE = Object.freeze({ kind: "whole" });
const ALERTS = Object.freeze({ kind: "alerts" });
const REST = Object.freeze({ kind: "rest" });
const NOTHING = Object.freeze({ kind: "nothing" });

export class CallModel {
  constructor(callId) {
    this.callId = callId;
    /** Number of the latest message that is in here; watch from it. */
    this.seq = 0;
    /** How far the call's audio is known to reach, in ms. */
    this.reachMs = 0;
    /** Whether a document was taken: without one, what the client said at the start is not known. */
    this.described = false;
    this.call = {
      call_id: callId, state: "live", paused: false, rate: 8000, channels: 1, roles: [], language: "", metadata: {},
      categories: [], began_at_ms: null, ended_at_ms: null, duration_ms: 0, reason: "",
    };
    this._forget();
  }

  _forget() {
    /** In the order in which they were first told. */
    this.segments = new Map();
    this.alerts = new Map();
    this.shadowAlerts = [];
    this.gaps = [];
    this.notes = [];
    this.warnings = [];
    this.qc = null;
  }

  /** Nothing more will be said of the call: its verdict is in, or will not come. */
  get over() {
    return OVER.has(this.call.state);
  }

  /** Audio still comes. */
  get live() {
    return this.call.state === "live";
  }

  /** What `/v1/calls/{id}` would tell, as a plain value to compare and to test. */
  get content() {
    return {
      segments: [...this.segments.values()], alerts: [...this.alerts.values()], shadow_alerts: this.shadowAlerts,
      gaps: this.gaps, notes: this.notes, warnings: this.warnings, qc: this.qc,
    };
  }

  /** Take a document. One that is older than what was heard since adds only what messages do not tell. */
  take(document) {
    const whole = document.segments !== undefined && this._isWhole(document);
    this._describe(document, whole);
    if (whole) {
      this._forget();
      this.seq = document.seq ?? this.seq;
      for (const segment of document.segments ?? []) this.segments.set(segment.segment_id, { ...segment });
      for (const alert of document.alerts ?? []) this.alerts.set(alert.alert_id, { ...alert });
      this.gaps = [...(document.gaps ?? [])];
      this.warnings = [...(document.warnings ?? [])];
      this.qc = document.qc ? { ...document.qc } : null;
      this._reach(Math.max(0, ...[...this.segments.values()].map((segment) => segment.end_ms ?? 0)));
    }
    this.notes = [...(document.notes ?? [])];
    this.shadowAlerts = [...(document.shadow_alerts ?? [])];
    return WHOLE;
  }

  /** Whether a document says all that was heard, and more. Without `seq` it was kept at the hangup, or at the start. */
  _isWhole({ state, seq }) {
    if (OVER.has(state)) return true;
    if (seq === undefined) return state === "judging" && (this._endHeard || this.seq === 0);
    return seq >= this.seq;
  }

  _describe(document, whole) {
    const { call } = this;
    this.described = true;
    for (const name of ["rate", "channels", "roles", "language", "metadata", "categories", "began_at_ms", "ended_at_ms"]) {
      call[name] = document[name] ?? call[name];
    }
    call.paused = document.paused ?? false;
    if (whole || !this._endHeard) {
      // `judging` is never taken back: a document may have been written before the hangup was heard of.
      if (!(document.state === "live" && call.state !== "live")) call.state = document.state;
      call.reason = document.reason || call.reason;
      call.duration_ms = document.duration_ms ?? call.duration_ms;
    }
    this._reach(document.duration_ms ?? 0);
  }

  _reach(ms) {
    this.reachMs = Math.max(this.reachMs, ms);
  }

  /** Take a message of the call's watch. One that is in here already changes nothing. */
  hear(message) {
    if (message.seq) {
      if (message.seq <= this.seq) return NOTHING;
      this.seq = message.seq;
    }
    this._reach(message.at_ms ?? 0);
    switch (message.type) {
      case "started":
        if (!this.described) Object.assign(this.call, { rate: message.rate, channels: message.channels });
        return REST;
      case "segment":
        return this._segment(message, ["begin_ms", "end_ms", "state"]);
      case "transcript":
        return this._segment(message, ["text", "final", "language", "words", "stable_chars"]);
      case "speaker": {
        const { state, name, score, stable } = message;
        return this._segment({ ...message, speaker: { state, name, score, stable } }, ["speaker"]);
      }
      case "alert": {
        const { certainty, ...alert } = plain(message);
        this.alerts.set(message.alert_id, { ...alert, status: certainty });
        return ALERTS;
      }
      case "alert_update":
        return this._update(message);
      case "gap":
        return noted(this.gaps, plain(message));
      case "warning":
        return noted(this.warnings, plain(message));
      case "qc_status":
        this._judge({ state: message.state, state_desc: message.state_desc });
        return REST;
      case "qc_result":
        this._judge({ result: message.result, missed: message.missed });
        return ALERTS;
      case "ended":
        return this._end(message);
      default:
        return NOTHING;
    }
  }

  _segment(message, names) {
    let segment = this.segments.get(message.segment_id);
    if (segment === undefined) {
      const { segment_id, channel, role, begin_ms, end_ms } = message;
      segment = { segment_id, channel, role };
      // A softphone's own text is a segment without being told as one.
      if (message.type === "transcript") Object.assign(segment, { begin_ms, end_ms, state: "closed" });
      this.segments.set(segment_id, segment);
    }
    for (const name of names) segment[name] = message[name];
    this._reach(segment.end_ms ?? 0);
    return { kind: "segment", id: message.segment_id, part: message.type };
  }

  _update(message) {
    const alert = this.alerts.get(message.alert_id);
    if (alert === undefined) return NOTHING;
    const added = message.evidence.map((evidence) => evidence.keyword);
    this.alerts.set(message.alert_id, {
      ...alert, status: message.status, reason: message.reason, evidence: [...alert.evidence, ...message.evidence],
      keywords: [...new Set([...alert.keywords, ...added])],
    });
    return ALERTS;
  }

  _judge(told) {
    this.qc = { session_id: this.callId, state: 0, state_desc: "", ...this.qc, ...told };
    // Nothing is judged before the hangup, which itself is not told.
    if (this.live) Object.assign(this.call, { state: "judging", paused: false });
  }

  _end(message) {
    this._endHeard = true;
    const state = message.reason === "qc_failed" ? "failed" : message.reason === "qc_pending" ? "judging" : "judged";
    const { duration_ms, reason } = message;
    Object.assign(this.call, { state: this.qc?.result ? "judged" : state, duration_ms, reason, paused: false });
    this.reachMs = duration_ms;
    return WHOLE;
  }
}

/** What stands in a document without `seq` may be told again. */
function noted(list, told) {
  const text = JSON.stringify(told);
  if (list.some((one) => JSON.stringify(one) === text)) return NOTHING;
  list.push(told);
  return REST;
}

function plain(message) {
  return Object.fromEntries(Object.entries(message).filter(([name]) => !UNLASTING.has(name)));
}
