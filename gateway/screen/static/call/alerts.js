// The alerts of a call: what rule, how certain, on what evidence, and what became of it.

import { fill, h } from "../dom.js";
import { clock } from "../format.js";
import { kindOf } from "./alert_kinds.js";
import { cut, findSpans, utf16At, wordSpans } from "./pieces.js";

const MOST_PLACES = 20;

export class Alerts {
  /** `on`: `jump(ms, segmentId, alertId)`. */
  constructor(words, on) {
    this._words = words;
    this._on = on;
    this._key = "";
    const { t } = words;
    this._count = h("span", { class: "chip" });
    this._list = h("ul", { class: "call-alerts" });
    this._shadow = h("details", { class: "call-shadow", hidden: true });
    this.element = h("section", { class: "panel", aria: { labelledby: "call-alerts-title" } },
      h("div", { class: "call-bar" }, h("h2", { id: "call-alerts-title", text: t("call.alerts.title") }), this._count),
      this._list, this._shadow,
    );
  }

  update(model, segments) {
    const alerts = [...model.alerts.values()];
    const missed = asList(model.qc?.missed);
    const heard = missed.length ? segments.map((segment) => [segment.segment_id, segment.text]) : [];
    const key = JSON.stringify([alerts, missed, model.shadowAlerts, heard]);
    if (key === this._key) return;
    this._key = key;
    const { t } = this._words;
    const standing = alerts.filter((alert) => alert.status !== "retracted").length + missed.length;
    fill(this._count, String(standing));
    fill(this._list,
      alerts.map((alert) => this._alert(alert)),
      missed.map((one) => this._missed(one, segments)),
      alerts.length + missed.length === 0 && h("li", { class: "hint", text: t(model.over ? "call.alerts.none" : "call.alerts.none_yet") }),
    );
    this._shadow.hidden = model.shadowAlerts.length === 0;
    fill(this._shadow, h("summary", { text: t("call.alerts.shadow", { count: model.shadowAlerts.length }) }),
      h("p", { class: "hint", text: t("call.alerts.shadow.hint") }),
      h("ul", { class: "call-alerts" }, model.shadowAlerts.map((alert) => this._alert(alert))),
    );
  }

  choose(alertId) {
    for (const card of this.element.querySelectorAll("[data-alert]")) {
      const chosen = card.dataset.alert === alertId;
      card.classList.toggle("is-chosen", chosen);
      if (chosen) card.scrollIntoView({ block: "nearest" });
    }
  }

  _alert(alert) {
    const { t, maybe, status } = this._words;
    const reason = alert.reason && maybe(`call.reason.${alert.reason}`, alert.reason);
    const pending = alert.status === "provisional" ? alert.pending ?? [] : [];
    const places = alert.evidence ?? [];
    return h("li", { class: "call-alert", data: { alert: alert.alert_id, status: alert.status } },
      h("div", { class: "call-alert-head" }, badge(alert.status, status(alert.status)), h("h3", { text: alert.category }),
        h("span", { class: "number hint", text: clock(alert.at_ms ?? 0) })),
      h("p", { class: "call-rule" }, h("code", { text: alert.rule }), h("span", { class: "hint", text: t("call.alerts.version", { version: alert.rule_version }) })),
      reason && h("p", { class: "hint", text: reason }),
      pending.length > 0 && h("ul", { class: "call-pending" }, pending.map((why) => h("li", { text: maybe(`call.pending.${why}`, why) }))),
      places.length > 0 && h("ul", { class: "call-evidence", aria: { label: t("call.alerts.evidence") } },
        places.slice(0, MOST_PLACES).map((evidence) => this._evidence(evidence, alert.alert_id))),
      places.length > MOST_PLACES && h("p", { class: "hint", text: t("call.alerts.more", { count: places.length - MOST_PLACES }) }),
    );
  }

  _evidence(evidence, alertId) {
    const { t, role } = this._words;
    const [begin, end] = [utf16At(evidence.text, evidence.begin), utf16At(evidence.text, evidence.end)];
    const pieces = cut(evidence.text, [{ begin, end, kind: "keyword" }]);
    return h("li", {}, h("button", {
      type: "button", class: "call-jump", aria: { label: t("call.alerts.jump", { time: clock(evidence.begin_ms), keyword: evidence.keyword, text: evidence.text }) },
      on: { click: () => this._on.jump(evidence.begin_ms, evidence.segment_id, alertId) },
    },
      h("span", { class: "number", text: clock(evidence.begin_ms) }), " ",
      h("b", { text: evidence.speaker || role(this._words.roleOf(evidence.channel)) }), " ",
      evidence.text ? pieces.map((piece) => (piece.kinds.length ? h("mark", { text: piece.text }) : piece.text)) : evidence.keyword,
      evidence.match === "pinyin" && h("span", { class: "chip", text: t("call.alerts.pinyin", { keyword: evidence.keyword }) }),
    ));
  }

  /** What only voice QC heard names words and not where: they are looked for in the live text. */
  _missed(one, segments) {
    const { t, status } = this._words;
    const keywords = asList(one.keywords).map(String);
    const places = segments.flatMap((segment) => keywords.flatMap((keyword) => findSpans(segment.text ?? "", keyword).map((span) => {
      const word = wordSpans(segment.text, segment.words).find((each) => each.end > span.begin);
      return { ms: word?.begin_ms ?? segment.begin_ms, segment, keyword };
    })));
    return h("li", { class: "call-alert", data: { status: "missed" } },
      h("div", { class: "call-alert-head" }, badge("missed", status("missed")), h("h3", { text: String(one.category ?? "") })),
      one.rule && h("p", { class: "call-rule" }, h("code", { text: String(one.rule) })),
      h("p", { class: "hint", text: t("call.alerts.missed.hint", { keywords: keywords.join(", ") }) }),
      places.length > 0 && h("ul", { class: "call-evidence" }, places.slice(0, MOST_PLACES).map(({ ms, segment, keyword }) => h("li", {},
        h("button", { type: "button", class: "call-jump", on: { click: () => this._on.jump(ms, segment.segment_id, "") } },
          h("span", { class: "number", text: clock(ms) }), " ", h("mark", { text: keyword }))))),
    );
  }
}

/** A status as a chip with its sign. */
export function badge(status, text) {
  const { sign, tone } = kindOf(status);
  const kind = status === "provisional" ? "provisional" : tone === "final" ? "final" : "";
  return h("span", { class: ["chip", kind], data: { status } }, h("span", { "aria-hidden": "true", text: sign }), text);
}

/** `value` if it is a list: a vendor's answers may hold anything anywhere. */
export function asList(value) {
  return Array.isArray(value) ? value : [];
}
