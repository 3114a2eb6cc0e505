// Who is who on the page: each name gets a colour, a pattern and a letter of its own, in the order of first speech.

/** So many colours theme and patterns tell apart; further names begin again with another pattern. */
export const TONES = 6;
export const PATTERNS = ["plain", "stripes", "dots"];

/** Name to `{tone, pattern, letter}`; the same for everybody who knows the same segments. */
export function voicesOf(segments) {
  const voices = new Map();
  for (const segment of segments) {
    const name = nameOf(segment);
    if (name && !voices.has(name)) {
      const place = voices.size;
      voices.set(name, {
        name, tone: place % TONES, pattern: PATTERNS[Math.floor(place / TONES) % PATTERNS.length],
        letter: String.fromCharCode(65 + (place % 26)),
      });
    }
  }
  return voices;
}

export function nameOf(segment) {
  const speaker = segment.speaker;
  return speaker && (speaker.state === "known" || speaker.state === "conflict") ? speaker.name : "";
}

/** How a segment is labelled: `known`, `conflict`, `unknown`, or `undecided` while nobody can tell. */
export function labelOf(segment) {
  return segment.speaker?.state ?? "undecided";
}
