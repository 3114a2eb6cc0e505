// What an alert's status looks like: a sign beside the colour, so that nobody needs the colour.

export const KINDS = {
  provisional: { sign: "△", tone: "provisional" },
  final: { sign: "▲", tone: "final" },
  confirmed: { sign: "✓", tone: "final" },
  missed: { sign: "◆", tone: "final" },
  indeterminate: { sign: "?", tone: "provisional" },
  not_confirmed: { sign: "✕", tone: "text-3" },
  retracted: { sign: "↶", tone: "text-3" },
};

export function kindOf(status) {
  return KINDS[status] ?? KINDS.indeterminate;
}

/** Where an alert was heard: `{ms, endMs, segmentId, channel}`; at least when it was raised. */
export function placesOf(alert) {
  const heard = (alert.evidence ?? []).map((evidence) => ({
    ms: evidence.begin_ms, endMs: evidence.end_ms, segmentId: evidence.segment_id, channel: evidence.channel,
  }));
  return heard.length ? heard : [{ ms: alert.at_ms ?? 0, endMs: alert.at_ms ?? 0, segmentId: "", channel: null }];
}
