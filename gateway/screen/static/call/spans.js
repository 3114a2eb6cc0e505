// Who speaks when: speech, silence, talk-over and holes as stretches of [begin, end) ms. Pure.

/** A silence from this length on is shown. */
export const LONG_SILENCE_MS = 3000;

/** Segments in order of time; those that have begun at the same instant by channel. */
export function inOrder(segments) {
  return [...segments].sort((a, b) => a.begin_ms - b.begin_ms || a.channel - b.channel);
}

/** Stretches that touch or overlap made one. */
export function joined(stretches) {
  const merged = [];
  for (const one of [...stretches].sort((a, b) => a.begin_ms - b.begin_ms)) {
    const last = merged.at(-1);
    if (last && one.begin_ms <= last.end_ms) last.end_ms = Math.max(last.end_ms, one.end_ms);
    else if (one.end_ms > one.begin_ms) merged.push({ begin_ms: one.begin_ms, end_ms: one.end_ms });
  }
  return merged;
}

/** Where nobody speaks for at least `leastMs`, up to `endMs`. */
export function silences(segments, endMs, leastMs = LONG_SILENCE_MS) {
  const found = [];
  let atMs = 0;
  for (const one of [...joined(segments), { begin_ms: endMs, end_ms: endMs }]) {
    if (one.begin_ms - atMs >= leastMs) found.push({ begin_ms: atMs, end_ms: one.begin_ms });
    atMs = Math.max(atMs, one.end_ms);
  }
  return found;
}

/** Where two channels speak at once. */
export function talkovers(segments) {
  const byChannel = new Map();
  for (const one of segments) {
    if (!byChannel.has(one.channel)) byChannel.set(one.channel, []);
    byChannel.get(one.channel).push(one);
  }
  const edges = [...byChannel.values()]
    .flatMap((own) => joined(own))
    .flatMap((one) => [[one.begin_ms, 1], [one.end_ms, -1]])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const found = [];
  let speaking = 0;
  let sinceMs = 0;
  for (const [atMs, change] of edges) {
    if (speaking < 2 && speaking + change >= 2) sinceMs = atMs;
    if (speaking >= 2 && speaking + change < 2 && atMs > sinceMs) found.push({ begin_ms: sinceMs, end_ms: atMs });
    speaking += change;
  }
  return found;
}

/** Holes of the recording. */
export function holes(gaps, rateHz) {
  return gaps.map((gap) => ({
    channel: gap.channel, cause: gap.cause,
    begin_ms: (gap.from_sample * 1000) / rateHz, end_ms: (gap.to_sample * 1000) / rateHz,
  }));
}

/** The part of `sorted` (by `begin_ms`, none longer than `longestMs`) that may be seen in [fromMs, toMs). */
export function visible(sorted, fromMs, toMs, longestMs) {
  return sorted.slice(after(sorted, fromMs - longestMs), after(sorted, toMs));
}

/** Index of the first that begins at `ms` or later. */
export function after(sorted, ms) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle].begin_ms < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}
