// Times as people read them.

/** 75000 -> "1:15", 3675000 -> "1:01:15"; with `fine` tenths of a second. */
export function clock(ms, fine = false) {
  const tenths = Math.max(0, fine ? Math.floor(ms / 100) : Math.floor(ms / 1000) * 10);
  const seconds = Math.floor(tenths / 10);
  const two = (number) => String(number).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return (h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`) + (fine ? `.${tenths % 10}` : "");
}

/** Wall-clock ms as date and time of the reader's language. */
export function moment(ms, language) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }).format(new Date(ms));
}
