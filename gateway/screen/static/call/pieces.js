// A text cut where its marks begin and end. Pure. Spans from the server count characters (code points), ours UTF-16.

/** The UTF-16 index of a character. */
export function utf16At(text, character) {
  let at = 0;
  for (let count = 0; count < character && at < text.length; count += 1) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return at;
}

/** Pieces `{begin, end, text, kinds}` of a text; spans are `{begin, end, kind}` and may overlap. */
export function cut(text, spans) {
  const edges = new Set([0, text.length]);
  const inside = spans
    .map((span) => ({ ...span, begin: Math.max(0, span.begin), end: Math.min(text.length, span.end) }))
    .filter((span) => span.end > span.begin);
  for (const { begin, end } of inside) edges.add(begin).add(end);
  const sorted = [...edges].sort((a, b) => a - b);
  return sorted.slice(1).map((end, place) => {
    const begin = sorted[place];
    const over = inside.filter((span) => span.begin <= begin && span.end >= end);
    return { begin, end, text: text.slice(begin, end), kinds: over.map((span) => span.kind), spans: over };
  });
}

/** Where each word stands in the text: spans with `begin_ms` and `end_ms`. */
export function wordSpans(text, words) {
  const spans = [];
  let from = 0;
  for (const word of words ?? []) {
    const bare = word.text.trim();
    const begin = bare ? text.indexOf(bare, from) : -1;
    if (begin >= 0) {
      from = begin + bare.length;
      spans.push({ begin, end: from, kind: "word", begin_ms: word.begin_ms, end_ms: word.end_ms });
    }
  }
  return spans;
}

/** Where evidence of alerts stands in a segment's text, which may have changed since it was heard. */
export function keywordSpans(text, words, evidence) {
  const begin = utf16At(evidence.text, evidence.begin);
  const end = utf16At(evidence.text, evidence.end);
  if (evidence.text === text) return [{ begin, end, kind: "keyword" }];
  const heard = evidence.text.slice(begin, end);
  const at = heard ? text.indexOf(heard, Math.max(0, begin - 8)) : -1;
  if (at >= 0) return [{ begin: at, end: at + heard.length, kind: "keyword" }];
  return wordSpans(text, words)
    .filter((word) => word.begin_ms < evidence.end_ms && word.end_ms > evidence.begin_ms)
    .map((word) => ({ ...word, kind: "keyword" }));
}

/** Every place of `wanted` in a text, whatever the case. */
export function findSpans(text, wanted) {
  const [all, sought] = [text.toLocaleLowerCase(), wanted.toLocaleLowerCase()];
  const spans = [];
  if (!sought || all.length !== text.length) return spans; // the case of a few letters changes a text's length
  for (let at = all.indexOf(sought); at >= 0; at = all.indexOf(sought, at + sought.length)) {
    spans.push({ begin: at, end: at + sought.length, kind: "found" });
  }
  return spans;
}
