// How early alerts have done against voice QC, by rule and by category.

import { h } from "../../dom.js";
import { percent } from "../../format.js";

const COUNTS = ["calls", "alerts", "confirmed", "not_confirmed", "indeterminate", "retracted", "missed", "shadow"];

export class TrackRecord {
  #rules = new Map();
  #categories = new Map();

  /** `rules`: those of `GET /v1/rules/record`. */
  constructor(rules) {
    for (const one of rules) {
      this.#rules.set(JSON.stringify([one.category, one.rule]), one);
      const sum = this.#categories.get(one.category) ?? Object.fromEntries(COUNTS.map((name) => [name, 0]));
      for (const name of COUNTS) sum[name] += one[name];
      this.#categories.set(one.category, sum);
    }
    for (const sum of this.#categories.values()) {
      sum.precision = share(sum.confirmed, sum.confirmed + sum.not_confirmed);
      sum.recall = share(sum.confirmed, sum.confirmed + sum.missed);
    }
  }

  of(category, rule) {
    return this.#rules.get(JSON.stringify([category, rule]));
  }

  /** Of all rules of a category together. */
  ofCategory(category) {
    return this.#categories.get(category);
  }
}

const share = (part, whole) => (whole ? part / whole : null);

/** A rule's record in a line. */
export function recordLine({ t, language }, track) {
  if (!track) return h("p", { class: "hint rule-record", text: t("rules.record.none") });
  const seconds = (ms) => t("rules.record.seconds", { s: (ms / 1000).toFixed(1) });
  const parts = [
    t("rules.record.alerts", { count: track.alerts }),
    t("rules.record.outcomes", { confirmed: track.confirmed, not_confirmed: track.not_confirmed, missed: track.missed }),
    t("rules.record.quality", { precision: percent(track.precision, language), recall: percent(track.recall, language) }),
    // A call that was sent faster than it was spoken has no time to be ahead of.
    track.lead_p50_ms !== null && track.lead_p50_ms >= 0 && t("rules.record.lead", { lead: seconds(track.lead_p50_ms) }),
    track.retracted > 0 && t("rules.record.retracted", { n: track.retracted }),
    track.shadow > 0 && t("rules.record.shadow", { count: track.shadow }),
  ];
  return h("p", { class: "hint rule-record number", text: parts.filter(Boolean).join(" · ") });
}
