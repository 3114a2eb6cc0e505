// What call this is, how it stands, and how well we hear of it.

import { aria, fill, h, setText } from "../dom.js";
import { clock, stamp } from "../format.js";

export class Header {
  constructor({ t, announce, language }, words, callId) {
    this._t = t;
    this._words = words;
    this._language = language;
    const path = `/v1/calls/${encodeURIComponent(callId)}`;
    this._state = h("span", { class: "chip", "data-call-state": "" });
    this._duration = h("span", { class: "number" });
    this._facts = h("dl", { class: "call-facts" });
    this._watch = h("span", { class: "call-watch", role: "status" });
    this._warnings = h("ul", { class: "call-warnings" });
    this._metadata = h("details", { class: "call-metadata" });
    this._download = h("a", { href: `${path}/recording`, download: `${callId}.wav`, text: t("call.download"), hidden: true });
    const copy = h("button", {
      type: "button", class: "button quiet", text: t("call.copy"), aria: { label: t("call.copy.label") },
      on: { click: async () => announce(t(await copied(callId) ? "call.copied" : "call.copy.failed")) },
    });
    this.element = h("header", { class: "call-head" },
      h("div", { class: "call-title" },
        h("h1", {}, t("call.title"), " ", h("code", { class: "call-id", text: callId })), copy, this._state, this._duration, this._watch),
      this._facts,
      h("div", { class: "call-links" },
        h("a", { href: `${path}/report?lang=${language}`, target: "_blank", rel: "noopener", text: t("call.report") }), this._download, this._metadata),
      this._warnings,
    );
  }

  update(model) {
    const t = this._t;
    const { call } = model;
    const state = call.state === "live" && call.paused ? "paused" : call.state;
    this._state.className = `chip ${{ live: "ok", failed: "final" }[state] ?? ""}`;
    this._state.dataset.callState = state;
    setText(this._state, t(`call.state.${state}`));
    const facts = [
      [t("call.agent"), text(call.metadata?.agent)],
      [t("call.began"), call.began_at_ms && stamp(call.began_at_ms, this._language)],
      [t("call.language"), this._words.maybe(`call.language.${call.language}`, call.language)],
      [t("call.reason"), call.reason && this._words.maybe(`call.ended.${call.reason}`, call.reason)],
      [t("call.categories"), call.categories?.join(", ")],
    ].filter(([, value]) => value);
    this._once("facts", facts, () => fill(this._facts, facts.map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: value })))));
    const metadata = Object.entries(call.metadata ?? {}).filter(([name]) => name !== "agent");
    this._metadata.hidden = metadata.length === 0;
    this._once("metadata", metadata, () => fill(this._metadata, h("summary", { text: t("call.metadata", { count: metadata.length }) }),
      h("dl", { class: "call-facts" }, metadata.map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: text(value) }))))));
    this._once("warnings", model.warnings, () => fill(this._warnings, model.warnings.map((one) => (
      h("li", {}, h("span", { class: "chip provisional", text: clock(one.at_ms) }), " ", this._words.maybe(`call.warning.${one.code}`, one.message))
    ))));
  }

  /** How long the call is by now. */
  reach(ms) {
    setText(this._duration, clock(ms));
  }

  /** How the watch is: "live", "connecting", "refused", or "over" when there is nothing to watch any more. */
  watched(state) {
    this._watch.dataset.watch = state;
    aria(this._watch, "hidden", state === "over" ? true : null);
    setText(this._watch, state === "over" ? "" : this._t(`call.watch.${state}`));
  }

  recording(ready) {
    this._download.hidden = !ready;
  }

  _once(name, value, draw) {
    const key = JSON.stringify(value);
    if (this[`_${name}Key`] === key) return;
    this[`_${name}Key`] = key;
    draw();
  }
}

function text(value) {
  return value === undefined || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);
}

async function copied(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    return false; // without TLS, or not allowed: the id stands there to be selected
  }
}
