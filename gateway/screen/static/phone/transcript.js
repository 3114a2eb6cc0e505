// What is said, as it is said: one line for each utterance, its text growing in place.

import { cut, keywordSpans, utf16At } from "../call/pieces.js";
import { fill, h, setText } from "../dom.js";
import { clock } from "../format.js";

const NEAR_END_PX = 40;

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
    const region = { class: "phone-scroll", tabIndex: 0, role: "region", aria: { label: t("phone.transcript") } };
    this.scroller = h("div", region, this.empty, this.list);
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
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
    const lines = [...model.segments.values()]
      .filter((one) => one.state === "opened" || one.text)
      .sort((a, b) => a.begin_ms - b.begin_ms);
    this.empty.hidden = lines.length > 0;
    const shown = new Set(lines.map((one) => one.segment_id));
    for (const [id, line] of this.#lines) {
      if (!shown.has(id)) {
        line.element.remove();
        this.#lines.delete(id);
      }
    }
    const standing = [...model.alerts.values()].filter((one) => one.status !== "retracted").flatMap((one) => one.evidence);
    lines.forEach((segment, place) => {
      const line = this.#line(segment);
      if (this.list.children[place] !== line.element) this.list.insertBefore(line.element, this.list.children[place] ?? null);
      this.#fill(line, segment, standing.filter((one) => one.segment_id === segment.segment_id));
    });
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  }

  #line(segment) {
    let line = this.#lines.get(segment.segment_id);
    if (!line) {
      const part = (name) => h("span", { class: name });
      line = { time: part("phone-time number"), who: part("phone-who"), text: part("phone-text"), drawn: "" };
      line.element = h("li", { class: "phone-line", data: { role: segment.role } }, line.time, line.who, line.text);
      this.#lines.set(segment.segment_id, line);
    }
    return line;
  }

  #fill(line, segment, evidence) {
    setText(line.time, clock(segment.begin_ms));
    setText(line.who, whoSpeaks(this.#t, this.#maybe, segment.role, segment.speaker));
    const { text = "", final, stable_chars: stable, words } = segment;
    const drawn = JSON.stringify([text, final, stable, evidence]);
    if (drawn === line.drawn) return;
    line.drawn = drawn;
    if (!text) {
      fill(line.text, h("span", { class: "phone-listening", text: this.#t("phone.listening") }));
      return;
    }
    const spans = evidence.flatMap((one) => keywordSpans(text, words, one));
    if (!final) spans.push({ begin: utf16At(text, stable), end: text.length, kind: "partial" });
    fill(line.text, cut(text, spans).map((piece) => {
      const shownPiece = piece.kinds.includes("keyword") ? h("mark", { text: piece.text }) : piece.text;
      return piece.kinds.includes("partial") ? h("span", { class: "phone-partial" }, shownPiece) : shownPiece;
    }));
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
