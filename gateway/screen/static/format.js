// Times and numbers as people read them.

/** A duration or a position in a call: 1:02, or 1:02:03. */
export function clock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** `language` as it is written where the reader is, if the browser says so: days come before months for some. */
function localeOf(language) {
  return (navigator.languages ?? []).find((wish) => wish.toLowerCase().split("-")[0] === language) ?? language;
}

/** A day and a time of day, in the reader's time zone. */
export function stamp(atMs, language) {
  return new Intl.DateTimeFormat(localeOf(language), { dateStyle: "medium", timeStyle: "short" }).format(atMs);
}

/** A share of one as a percentage; nothing known is a dash. */
export function percent(share, language) {
  if (share === null || share === undefined) return "–";
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(share);
}
