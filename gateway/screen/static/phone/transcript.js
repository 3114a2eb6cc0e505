// What is said, as it is said: one line for each utterance, its text growing in place.

import { fill, h, setText } from "../dom.js";
import { clock } from "../format.js";

export class TranscriptList {
  #t;
  #maybe;
  #lines = new Map();
  #drawing = 0;

  constructor({ t, maybe }) {
    this.#t = t;
    this.#maybe = maybe;
    this.list = h("ol", { class: "phone-lines" });
    this.empty = h("p", { class: "hint phone-empty", text: t("phone.transcript.empty") });
    this.scroller = h("div", { class: "phone-scroll", tabIndex: 0, role: "region", aria: { label: t("phone.transcript") } }, this.empty, this.list);
    this.element = h("section", { class: "panel phone-transcript" }, h("h2", { text: t("phone.transcript") }), this.scroller);
  }

  /** Draw it in the next frame, however often that is asked before. */
  show(model) {
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      this.draw(model);
    });
  }

  draw(model) {
    const { scroller } = this;
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
    const lines = model.lines;
    this.empty.hidden = lines.length > 0;
    const shown = new Set(lines.map((one) => one.id));
    for (const [id, line] of this.#lines) {
      if (!shown.has(id)) {
        line.element.remove();
        this.#lines.delete(id);
      }
    }
    let before = null;
    for (const utterance of lines) {
      const line = this.#line(utterance);
      const place = before ? before.nextSibling : this.list.firstChild;
      if (line.element !== place) this.list.insertBefore(line.element, place);
      before = line.element;
      this.#fill(line, utterance, model.marks(utterance));
    }
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  }

  #line(utterance) {
    let line = this.#lines.get(utterance.id);
    if (!line) {
      const time = h("span", { class: "phone-time number", text: clock(utterance.beginMs) });
      line = { time, who: h("span", { class: "phone-who" }), text: h("span", { class: "phone-text" }), drawn: "" };
      line.element = h("li", { class: "phone-line", data: { role: utterance.role } }, time, line.who, line.text);
      this.#lines.set(utterance.id, line);
    }
    return line;
  }

  #fill(line, utterance, marks) {
    setText(line.time, clock(utterance.beginMs));
    setText(line.who, whoSpeaks(this.#t, this.#maybe, utterance.role, utterance.speaker));
    const { text, final, stableChars, open } = utterance;
    const drawn = JSON.stringify([text, final, stableChars, open, marks]);
    if (drawn === line.drawn) return;
    line.drawn = drawn;
    line.element.classList.toggle("open", open);
    if (!text) fill(line.text, h("span", { class: "phone-listening", text: this.#t("phone.listening") }));
    else if (final) fill(line.text, marked(text, marks));
    else fill(line.text, cut(text, 0, stableChars), h("span", { class: "phone-partial", text: cut(text, stableChars) }));
  }
}

/** The role, and who is known to speak there. */
export function whoSpeaks(t, maybe, role, speaker) {
  const roleText = maybe(`phone.role.${role}`, role);
  if (!speaker) return roleText;
  if (speaker.state === "known") return t("phone.who", { role: roleText, name: speaker.name });
  if (speaker.state === "conflict") return t("phone.who.conflict", { role: roleText, name: speaker.name });
  return t("phone.who.state", { role: roleText, state: t(`phone.speaker.${speaker.state}`) });
}

function marked(text, marks) {
  const parts = [];
  let at = 0;
  for (const [begin, end] of marks) {
    parts.push(cut(text, at, begin), h("mark", { text: cut(text, begin, end) }));
    at = end;
  }
  return [...parts, cut(text, at)];
}

/** A part by characters as the server counts them, which are not JavaScript's where there are characters of two units. */
function cut(text, begin, end) {
  return /[\ud800-\udbff]/.test(text) ? [...text].slice(begin, end).join("") : text.slice(begin, end);
}
