// What a call has said so far, folded from the server's messages. No page in it.

const WARNINGS_KEPT = 4;

export class CallModel {
  /** Utterances by segment_id: {id, channel, role, beginMs, open, text, final, stableChars, speaker}. */
  utterances = new Map();
  /** By alert_id: {id, category, rule, status, keywords, evidence, atMs}. */
  alerts = new Map();
  /** Role to the latest `speaker` message. */
  speakers = new Map();
  warnings = [];
  qc = null;
  verdict = null;
  ended = null;
  #latest = 0;

  /** Takes one message; what of the call has changed: "utterance", "alert", "speaker", "verdict", "ended", "warning" or nothing. */
  take(message) {
    const fold = FOLDS[message.type];
    return fold ? fold(this, message) : null;
  }

  /** Utterances that have something to show, in the order in which they began. */
  get lines() {
    return [...this.utterances.values()]
      .filter((one) => one.open || one.text)
      .sort((a, b) => a.beginMs - b.beginMs || a.order - b.order);
  }

  /** The keywords of standing alerts in an utterance's text: [begin, end] in characters, in order, none overlapping. */
  marks(utterance) {
    const spans = [];
    for (const alert of this.alerts.values()) {
      if (alert.status === "retracted") continue;
      for (const one of alert.evidence) {
        const span = one.segment_id === utterance.id && spanOf(one, utterance.text);
        if (span) spans.push(span);
      }
    }
    spans.sort((a, b) => a[0] - b[0]);
    return spans.filter(([begin], at) => at === 0 || begin >= spans[at - 1][1]);
  }

  utterance(message) {
    const id = message.segment_id;
    let one = this.utterances.get(id);
    if (!one) {
      one = { id, channel: message.channel, role: message.role, beginMs: message.begin_ms ?? 0, open: false, order: this.#latest++ };
      Object.assign(one, { text: "", final: false, stableChars: 0, speaker: null });
      this.utterances.set(id, one);
    }
    return one;
  }
}

/** Where evidence stands in a text: as told, or if the final text came out otherwise, where its keyword is. */
function spanOf({ text: heard, begin, end, keyword }, text) {
  if (heard === text) return [begin, end];
  const found = text.toLowerCase().indexOf(keyword.toLowerCase());
  if (found < 0 || !keyword) return null;
  const at = [...text.slice(0, found)].length;
  return [at, at + [...keyword].length];
}

const FOLDS = {
  segment(model, message) {
    const one = model.utterance(message);
    Object.assign(one, { open: message.state === "opened", beginMs: message.begin_ms });
    return "utterance";
  },
  transcript(model, message) {
    const one = model.utterance(message);
    Object.assign(one, { text: message.text, final: message.final, stableChars: message.stable_chars, beginMs: message.begin_ms });
    return "utterance";
  },
  speaker(model, message) {
    model.utterance(message).speaker = message;
    model.speakers.set(message.role, message);
    return "speaker";
  },
  alert(model, message) {
    const { alert_id: id, category, rule, certainty: status, keywords, evidence, at_ms: atMs } = message;
    model.alerts.set(id, { id, category, rule, status, keywords, evidence: [...evidence], atMs });
    return "alert";
  },
  alert_update(model, message) {
    const alert = model.alerts.get(message.alert_id);
    if (!alert) return null;
    alert.status = message.status;
    alert.evidence.push(...message.evidence);
    return "alert";
  },
  warning(model, message) {
    model.warnings = [...model.warnings, message].slice(-WARNINGS_KEPT);
    return "warning";
  },
  qc_status(model, message) {
    model.qc = message;
    return "verdict";
  },
  qc_result(model, message) {
    model.verdict = message;
    return "verdict";
  },
  ended(model, message) {
    model.ended = message;
    return "ended";
  },
};
