// The verdict of voice QC, as people read it. The result may be a vendor's: whatever is missing or odd is left out.

import { fill, h } from "../dom.js";
import { clock } from "../format.js";
import { asList } from "./alerts.js";

const DONE = 2;

export class Verdict {
  constructor(words) {
    this._words = words;
    this._key = "";
    /** "live", "judging", "passed", "failed" or "none". */
    this.state = "none";
    this._body = h("div", { class: "call-verdict" });
    this.element = h("section", { class: "panel", aria: { labelledby: "call-verdict-title" } },
      h("h2", { id: "call-verdict-title", text: words.t("call.verdict.title") }), this._body);
  }

  update(model) {
    const key = JSON.stringify([model.qc, model.call.state, model.call.reason, model.call.duration_ms]);
    if (key === this._key) return;
    this._key = key;
    fill(this._body, this._parts(model));
  }

  _parts({ qc, call }) {
    const { t } = this._words;
    const result = qc?.result;
    const done = result && Object.keys(result).length > 0 && (result.state ?? DONE) === DONE;
    const failed = done && result.pass_detection === "failed";
    const state = done ? (failed ? "failed" : "passed") : call.state === "live" ? "live" : call.state === "judging" ? "judging" : "none";
    this.state = state;
    const chip = { failed: "final", passed: "ok" }[state] ?? "";
    const why = !done && (qc?.failure ?? qc?.state_desc);
    return [
      h("p", { class: "call-outcome", data: { verdict: state } }, h("span", { class: ["chip", chip], text: t(`call.verdict.${state}`) })),
      why && h("p", { class: "hint", text: String(why) }),
      ...(done ? [this._categories(result), this._unknown(result), this._sentences(result), this._statistics(result, call)] : []),
    ];
  }

  _categories(result) {
    const hits = asList(result.detection_result).filter((one) => one && typeof one === "object");
    if (!hits.length) return null;
    return h("ul", { class: "call-categories" }, hits.map((one) => h("li", {},
      h("h3", { text: String(one.category ?? "") }), marks(one.keyword),
      h("ul", {}, asList(one.detail).map((detail) => h("li", {}, h("code", { text: String(detail?.content ?? "") }), " ", marks(detail?.keyword)))),
    )));
  }

  _unknown(result) {
    const unknown = asList(result.unknown_categories).map(String);
    return unknown.length > 0 && h("p", { class: "hint", text: this._words.t("call.verdict.unknown", { categories: unknown.join(", ") }) });
  }

  /** Sentences that hit something by themselves. */
  _sentences(result) {
    const hits = asList(result.detection_detail?.detail).filter((one) => one?.hit);
    if (!hits.length) return null;
    return h("details", {},
      h("summary", { text: this._words.t("call.verdict.sentences", { count: hits.length }) }),
      h("ul", {}, hits.map((one) => h("li", {}, String(one.text ?? ""), " ",
        asList(one.detail).filter((category) => category?.hit).map((category) => h("span", { class: "chip", text: String(category.category ?? "") }))))),
    );
  }

  _statistics(result, call) {
    const { t } = this._words;
    const sentences = asList(result.asr_result).filter((one) => one && typeof one === "object");
    const figures = [
      [t("call.verdict.duration"), seconds(result.call_duration) ?? clock(call.duration_ms)],
      [t("call.verdict.silence"), seconds(result.silence_duration)],
      [t("call.verdict.rules_version"), result.rules_version],
    ].filter(([, value]) => value !== undefined && value !== null);
    return h("details", { open: true },
      h("summary", { text: t("call.verdict.statistics") }),
      h("dl", { class: "call-facts" }, figures.map(([name, value]) => [h("dt", { text: name }), h("dd", { class: "number", text: String(value) })])),
      sentences.length > 0 && this._speakers(sentences, call),
    );
  }

  _speakers(sentences, call) {
    const { t, role } = this._words;
    const speakers = [...new Set(sentences.map((one) => one.speaker_id ?? 0))].sort();
    const name = (id) => (call.channels === 2 ? role(call.roles[id] ?? "") : "")
      || sentences.find((one) => one.speaker_id === id && one.speaker_name)?.speaker_name || t("call.verdict.speaker", { number: Number(id) + 1 });
    return h("div", { class: "call-scroll-x", tabIndex: 0, role: "region", aria: { label: t("call.verdict.statistics") } }, h("table", {},
      h("thead", {}, h("tr", {}, ["who", "speaking", "count", "speed", "power"].map((one) => h("th", { scope: "col", text: t(`call.verdict.${one}`) })))),
      h("tbody", {}, speakers.map((id) => {
        const own = sentences.filter((one) => (one.speaker_id ?? 0) === id);
        return h("tr", {},
          h("th", { scope: "row", text: String(name(id)) }),
          h("td", { class: "number", text: clock(own.reduce((sum, one) => sum + Math.max(0, (one.end_ms ?? 0) - (one.begin_ms ?? 0)), 0)) }),
          h("td", { class: "number", text: own.length }),
          h("td", { class: "number", text: mean(own, "voice_speed") }),
          h("td", { class: "number", text: mean(own, "voice_power") }));
      })),
    ));
  }
}

function marks(keywords) {
  return asList(keywords).map((keyword) => [h("mark", { text: String(keyword) }), " "]);
}

function seconds(value) {
  return typeof value === "number" ? clock(value * 1000) : null;
}

function mean(sentences, name) {
  const values = sentences.map((one) => one[name]).filter((value) => typeof value === "number");
  return values.length ? String(Math.round(values.reduce((sum, value) => sum + value, 0) / values.length)) : "–";
}
