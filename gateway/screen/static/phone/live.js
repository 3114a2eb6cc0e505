// A call as it goes on, and what became of it.

import { asList } from "../call/alerts.js";
import { aria, fill, h, setText } from "../dom.js";
import { clock } from "../format.js";
import { faultText } from "./faults.js";
import { TranscriptList, whoSpeaks } from "./transcript.js";

/** Nobody says when it is over. */
const WARNING_MS = 30_000;
const QUIET_DB = -60;
const HOT_DB = -3;
const STATUS_CLASS = { final: "final", provisional: "provisional", confirmed: "confirmed", not_confirmed: "ok" };

export class LivePanel {
  #context;
  #call;
  #stop = new AbortController();
  #levelsDrawing = 0;

  /** `onDone()` when the call is to be put away. */
  constructor(context, call, onDone) {
    this.#context = context;
    this.#call = call;
    const { t } = context;
    this.transcript = new TranscriptList(context);
    this.element = h("div", { class: "phone-live" },
      h("section", { class: "panel phone-desk", aria: { label: t("phone.desk") } },
        (this.state = h("p", { class: "phone-state", role: "status" })),
        (this.time = h("p", { class: "phone-clock number", role: "timer", aria: { label: t("phone.duration") } })),
        h("div", { class: "phone-meters" }, (this.meters = call.line.terms.roles.map((role, channel) => this.#meter(role, channel)))),
        (this.notice = h("p", { class: "phone-notice" })),
        h("div", { class: "phone-buttons" },
          (this.pause = h("button", { type: "button", class: "button phone-big", on: { click: () => call.togglePause() } })),
          (this.hangUp = h("button", {
            type: "button", class: "button phone-big phone-hangup", text: t("phone.hangup"), on: { click: () => call.hangUp() },
          })),
        ),
        (this.pageLink = h("a", { class: "phone-link", href: `/screen/calls/${encodeURIComponent(call.id)}`, text: t("phone.open_call") })),
      ),
      (this.verdict = h("section", { class: "panel phone-verdict", aria: { label: t("phone.verdict") }, hidden: true })),
      h("section", { class: "panel phone-alerts" },
        h("h2", { text: t("phone.alerts") }),
        (this.noAlerts = h("p", { class: "hint", text: t("phone.alerts.none") })),
        (this.alerts = h("ul", { class: "phone-alert-list" })),
      ),
      this.transcript.element,
    );
    this.again = h("button", { type: "button", class: "button primary phone-big", text: t("phone.again"), on: { click: onDone } });
    this.#listen();
    this.#drawAll();
    this.#ticking = setInterval(() => this.#tick(), 250);
  }

  #ticking;

  close() {
    this.#stop.abort();
    clearInterval(this.#ticking);
    cancelAnimationFrame(this.#levelsDrawing);
  }

  #listen() {
    const on = (type, listener) => this.#call.addEventListener(type, listener, { signal: this.#stop.signal });
    const model = this.#call.model;
    on("segment", ({ detail }) => {
      this.transcript.show(model);
      if (detail.type === "speaker") this.#nameMeters();
    });
    on("alerts", ({ detail }) => {
      this.transcript.show(model);
      this.#drawAlerts();
      this.#drawVerdict();
      if (detail.type === "alert") this.#context.announce(this.#context.t("phone.alert.said", { category: detail.category, rule: detail.rule }));
    });
    on("rest", () => {
      this.#drawState();
      this.#drawVerdict();
    });
    on("whole", () => this.#drawVerdict());
    on("changed", () => {
      this.#drawState();
      this.#drawVerdict();
    });
    on("level", () => (this.#levelsDrawing ||= requestAnimationFrame(() => this.#drawLevels())));
  }

  #drawAll() {
    this.transcript.draw(this.#call.model);
    this.#nameMeters();
    this.#drawAlerts();
    this.#drawState();
    this.#drawVerdict();
    this.#tick();
  }

  // --- the desk ---

  #tick() {
    const { line } = this.#call;
    setText(this.time, clock(this.#call.ended?.duration_ms ?? line.positionMs));
    if (line.state === "lost" || line.state === "held" || this.notice.textContent) this.#drawState();
  }

  #drawState() {
    const { t } = this.#context;
    const { line, hangingUp, connection } = this.#call;
    const seconds = Math.round(line.keptMs / 1000);
    let state = line.state;
    if (state === "live") state = hangingUp ? "judging" : line.paused ? "paused" : "live";
    this.element.dataset.state = state;
    const wait = Math.ceil((connection.retryInMs ?? 0) / 1000);
    setText(this.state, t(`phone.state.${state}`, { seconds, wait }));
    setText(this.pause, t(line.paused ? "phone.continue" : "phone.pause"));
    aria(this.pause, "pressed", line.paused);
    this.pause.hidden = this.hangUp.hidden = hangingUp || state === "over";
    setText(this.notice, this.#notices(t).join(" "));
  }

  /** What the caller ought to know beside the state. */
  #notices(t) {
    const { lostMs, deviceLost, fileName, fault, model, line } = this.#call;
    return [
      fault && faultText(t, this.#context.maybe, fault),
      lostMs > 0 && t("phone.notice.lost", { seconds: Math.ceil(lostMs / 1000) }),
      deviceLost && line.state !== "over" && t("phone.notice.device"),
      fileName && line.state !== "over" && t("phone.notice.file", { name: fileName }),
      ...new Set(model.warnings
        .filter((one) => one.at_ms > line.positionMs - WARNING_MS)
        .map((one) => this.#context.maybe(`phone.warning.${one.code}`, one.message))),
    ].filter(Boolean);
  }

  #meter(role, channel) {
    const bar = h("span", { class: "phone-meter-bar" });
    const name = h("span", { class: "phone-meter-name", text: role });
    const meter = h("div", { class: "phone-meter", role: "meter", aria: { label: role, valuemin: -90, valuemax: 0, valuenow: -90 } }, bar);
    const row = h("div", { class: "phone-meter-row", data: { channel } }, name, meter);
    return Object.assign(row, { bar, name, meter, role_: role });
  }

  #nameMeters() {
    for (const row of this.meters) {
      const text = whoSpeaks(this.#context.t, this.#context.maybe, row.role_, this.#call.speakers.get(row.role_));
      setText(row.name, text);
      aria(row.meter, "label", this.#context.t("phone.level", { who: text }));
    }
  }

  #drawLevels() {
    this.#levelsDrawing = 0;
    this.meters.forEach((row, channel) => {
      const db = Math.max(-90, this.#call.levels[channel] ?? -90);
      row.bar.style.setProperty("transform", `scaleX(${Math.min(1, Math.max(0, 1 - db / QUIET_DB))})`);
      row.bar.classList.toggle("hot", db > HOT_DB);
      aria(row.meter, "valuenow", Math.round(db));
    });
  }

  // --- alerts and the verdict ---

  #drawAlerts() {
    const { t } = this.#context;
    const all = [...this.#call.model.alerts.values()].sort((a, b) => b.at_ms - a.at_ms);
    this.noAlerts.hidden = all.length > 0;
    fill(this.alerts, all.map((alert) => h("li", { class: ["phone-alert", alert.status] },
      h("div", { class: "phone-alert-head" },
        h("span", { class: ["chip", STATUS_CLASS[alert.status]], text: t(`phone.alert.${alert.status}`) }),
        h("strong", { text: alert.category }),
        h("span", { class: "phone-time number", text: clock(alert.at_ms) }),
      ),
      h("code", { class: "phone-rule", text: alert.rule }),
      alert.evidence.slice(0, 3).map((one) => h("p", { class: "phone-evidence", text: t("phone.quote", { text: one.text }) })),
    )));
  }

  #drawVerdict() {
    const { t, maybe } = this.#context;
    const { model, hangingUp, over, line } = this.#call;
    this.verdict.hidden = !hangingUp && !over;
    if (this.verdict.hidden) return;
    const focused = this.verdict.contains(document.activeElement);
    const page = `/screen/calls/${encodeURIComponent(line.callId)}`;
    fill(this.verdict,
      h("h2", { text: t("phone.verdict") }),
      this.#verdictText(t, maybe, model),
      over && h("div", { class: "phone-buttons" },
        this.again, h("a", { class: "button phone-big phone-link-button", href: page, text: t("phone.open_call") })),
    );
    if (focused) this.again.focus();
    this.pageLink.hidden = over;
    const told = over ? this.verdict.querySelector("p")?.textContent : "";
    if (told && told !== this.told) this.#context.announce((this.told = told));
  }

  #verdictText(t, maybe, model) {
    const { ended } = this.#call;
    const { qc } = model;
    if (Object.keys(qc?.result ?? {}).length === 0) {
      if (ended?.reason === "qc_pending") return h("p", { text: t("phone.verdict.pending") });
      if (ended) return h("p", { text: t("phone.verdict.none") });
      if (this.#call.over) return h("p", { text: t("phone.verdict.unknown") });
      return h("p", { class: "hint", text: t(qc ? "phone.verdict.running" : "phone.verdict.waiting") });
    }
    // The result may be a vendor's: what is missing or odd is left out.
    const hits = asList(qc.result.detection_result).filter((hit) => hit && typeof hit === "object");
    const missed = asList(qc.missed).length;
    const count = (status) => [...model.alerts.values()].filter((one) => one.status === status).length;
    return [
      h("p", { class: "phone-verdict-line", text: hits.length ? t("phone.verdict.hits", { count: hits.length }) : t("phone.verdict.clean") }),
      hits.length > 0 && h("ul", { class: "phone-hits" }, hits.map((hit) =>
        h("li", {}, h("strong", { text: String(hit.category ?? "") }), " ", asList(hit.keyword).map(String).join(", ")))),
      model.alerts.size > 0 && h("p", {
        class: "hint", text: t("phone.verdict.alerts", { confirmed: count("confirmed"), not: count("not_confirmed") }),
      }),
      missed > 0 && h("p", { class: "hint", text: t("phone.verdict.missed", { count: missed }) }),
    ];
  }
}
