// Who is who on the page: each name gets a colour, a pattern and a letter of its own, in the order of first speech. Pure.

/** The theme's colours for voices; a name takes its role's, if nobody has that yet. */
export const TONES = ["agent", "customer", "voice-3", "voice-4", "voice-5", "voice-6"];
/** Beyond so many names colours come again, with another pattern. */
export const PATTERNS = ["plain", "stripes", "dots"];

/** Name to `{name, tone, pattern, letter}`; the same for everybody who knows the same segments. */
export function voicesOf(segments) {
  const voices = new Map();
  const taken = new Set();
  for (const segment of segments) {
    const name = nameOf(segment);
    if (!name || voices.has(name)) continue;
    const place = voices.size;
    const pattern = PATTERNS[Math.floor(place / TONES.length) % PATTERNS.length];
    const wanted = [segment.role, ...TONES].find((tone) => TONES.includes(tone) && !taken.has(`${tone} ${pattern}`));
    const tone = wanted ?? TONES[place % TONES.length];
    taken.add(`${tone} ${pattern}`);
    voices.set(name, { name, tone, pattern, letter: String.fromCharCode(65 + (place % 26)) });
  }
  return voices;
}

/** The name that a segment is labelled with, or nothing. */
export function nameOf(segment) {
  const speaker = segment.speaker;
  return speaker && (speaker.state === "known" || speaker.state === "conflict") ? speaker.name : "";
}

/** How a segment is labelled: `known`, `conflict`, `unknown`, or `undecided` while nobody can tell. */
export function labelOf(segment) {
  return segment.speaker?.state ?? "undecided";
}
