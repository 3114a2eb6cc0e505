// A dry run: what the rules as they stand in the form would have made of sentences and of stored calls.

import { fill, h } from "../../dom.js";
import { stamp } from "../../format.js";
import { unitsOf } from "./draft.js";

const HOW_MANY = [0, 20, 100, 1000];
const MOST_TEXTS = 1000;
const MOST_SHOWN = 200;

export class Trial {
  #context;
  #rules;
  #running = null;

  /** `rules()`: the rule's part of the request. */
  constructor(context, rules) {
    const { t } = context;
    this.#context = context;
    this.#rules = rules;
    this.text = h("textarea", { id: "trial-text", class: "input", rows: 3, placeholder: t("rules.try.placeholder") });
    this.calls = h("select", { id: "trial-calls", class: "select" },
      HOW_MANY.map((n) => h("option", { value: n, text: n ? t("rules.try.calls_n", { n }) : t("rules.try.no_calls"), selected: n === 0 })));
    this.pinyin = h("select", { id: "trial-pinyin", class: "select" },
      ["", "false", "true"].map((value) => h("option", { value, text: t(`rules.try.pinyin.${value || "live"}`) })));
    this.button = h("button", { type: "button", class: "button", text: t("rules.try.run"), on: { click: () => this.#toggle() } });
    this.summary = h("p", { class: "trial-summary", role: "status" });
    this.results = h("ul", { class: "trial-results" });
    this.element = h("section", { class: "trial", aria: { labelledby: "trial-title" } },
      h("h3", { id: "trial-title", text: t("rules.try") }),
      h("label", { class: "label", for: "trial-text", text: t("rules.try.text") }), this.text,
      h("div", { class: "trial-how" },
        h("label", { class: "label", for: "trial-calls" }, t("rules.try.calls")), this.calls,
        h("label", { class: "label", for: "trial-pinyin" }, t("rules.try.pinyin")), this.pinyin, this.button,
      ),
      this.summary, this.results,
    );
  }

  close() {
    this.#running?.abort();
  }

  #toggle() {
    if (this.#running) return this.#running.abort();
    return this.#run();
  }

  async #run() {
    const { api, t } = this.#context;
    const text = this.text.value.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, MOST_TEXTS);
    const limit = Number(this.calls.value);
    if (!text.length && !limit) {
      this.summary.textContent = t("rules.try.nothing");
      this.text.focus();
      return;
    }
    const running = (this.#running = new AbortController());
    this.button.textContent = t("rules.try.stop");
    this.summary.textContent = t("rules.try.running");
    this.results.replaceChildren();
    const pinyin = this.pinyin.value ? { pinyin: this.pinyin.value === "true" } : {};
    try {
      const asked = { ...this.#rules(), ...(text.length && { text }), ...(limit && { limit }), ...pinyin };
      for await (const line of api.lines("POST", "/v1/rules/try", asked, { signal: running.signal })) this.#show(line, text);
    } catch (fault) {
      this.summary.textContent = fault.name === "AbortError" ? t("rules.try.stopped") : faultText(t, fault);
    } finally {
      this.#running = null;
      this.button.textContent = t("rules.try.run");
    }
  }

  #show(line, texts) {
    const { t } = this.#context;
    if (line.totals) {
      const { totals } = line;
      const parts = [
        totals.texts && t("rules.try.of_texts", { n: totals.texts_fired, all: totals.texts }),
        totals.calls && t("rules.try.of_calls", { n: totals.fired, all: totals.calls }),
        totals.qc_hit && t("rules.try.of_qc", { n: totals.qc_hit, both: totals.both }),
        !totals.texts && !totals.calls && t("rules.try.empty"),
        !line.complete && t("rules.try.incomplete"),
      ];
      this.summary.textContent = parts.filter(Boolean).join(" ");
    } else if (line.code) {
      this.summary.textContent = faultText(t, line);
    } else if (line.error === undefined && ("text" in line || line.fires || line.qc?.hit) && this.results.childElementCount < MOST_SHOWN) {
      this.results.append("text" in line ? this.#ofText(line, texts[line.text]) : this.#ofCall(line));
    }
  }

  #ofText(line, text) {
    const spans = line.hits.flatMap((hit) => hit.evidence);
    return h("li", {}, this.#verdict(line.fires), h("span", { class: "trial-text" }, marked(text, spans)), line.fires && rulesOf(line.hits));
  }

  #ofCall(line) {
    const { t, language } = this.#context;
    const qc = line.qc === null ? t("rules.try.qc_none") : t(line.qc.hit ? "rules.try.qc_hit" : "rules.try.qc_no_hit");
    return h("li", {},
      this.#verdict(line.fires),
      h("a", { href: `/screen/calls/${encodeURIComponent(line.call_id)}`, text: stamp(line.began_at_ms, language) }),
      h("span", { class: ["chip", line.qc?.hit ? "confirmed" : ""], text: qc }),
      line.fires && rulesOf(line.hits),
      h("ul", { class: "trial-evidence" }, sentences(line.hits).map(({ text, spans }) => h("li", {}, marked(text, spans)))),
    );
  }

  #verdict(fires) {
    return h("span", { class: ["chip", fires ? "final" : ""], text: this.#context.t(fires ? "rules.try.fires" : "rules.try.silent") });
  }
}

function rulesOf(hits) {
  return [...new Set(hits.map((hit) => hit.rule))].map((rule) => h("code", { class: "trial-rule", text: rule }));
}

/** The evidence of all hits, by sentence. */
function sentences(hits) {
  const found = new Map();
  for (const one of hits.flatMap((hit) => hit.evidence)) {
    const key = `${one.segment_id} ${one.text}`;
    if (!found.has(key)) found.set(key, { text: one.text, spans: [] });
    found.get(key).spans.push(one);
  }
  return [...found.values()];
}

/** The text with `spans` (begin and end in characters) marked; those that overlap are one. */
export function marked(text, spans) {
  const places = spans
    .filter((span) => span.end > span.begin)
    .map(({ begin, end, match, keyword }) => ({ begin: unitsOf(text, begin), end: unitsOf(text, end), title: match === "pinyin" ? `≈ ${keyword}` : keyword }))
    .sort((a, b) => a.begin - b.begin);
  const parts = [];
  let at = 0;
  for (const { begin, end, title } of places) {
    if (end <= at) continue;
    const from = Math.max(begin, at);
    parts.push(text.slice(at, from), h("mark", { title, text: text.slice(from, end) }));
    at = end;
  }
  return [...parts, text.slice(at)];
}

/** What went wrong, as people should read it. */
export function faultText(t, fault) {
  if (fault.code === "busy") return t("rules.busy");
  if (fault.code === "bad_rule") return t("rules.not_well_formed");
  return fault.message;
}
