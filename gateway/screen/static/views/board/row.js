// One call's row. It is made once; what has not changed is not written again.

import { aria, fill, h, setText } from "../../dom.js";
import { clock } from "../../format.js";
import { hasConflict, isOver, rank, severity } from "./ranking.js";

const MOST_CHIPS = 2;
const SILENT_DB = -90;
const QUIETEST_DB = -60;
/** They are told four times a second; one that is late shall not make a meter flicker. */
const LEVELS_HOLD_MS = 700;
const HOT_DB = -6;
const KINDS = ["final", "provisional", "past"];

export class CallRow {
  brief = null;
  /** How soon its call needs a look: see `rank`. */
  rank = 0;
  /** Whether it is on the screen: only then its meters and its clock are worth drawing. */
  visible = false;
  /** It has left the board, and stands only because somebody points here. */
  gone = false;
  /** Which connection last told of it. */
  generation = 0;

  #t;
  #maybe;
  #toldAt = 0;
  #parties = [];
  #rolesKey = "";
  #chipsKey = "";
  #peaks = null;
  #heardAt = 0;

  constructor(callId, { t, maybe }) {
    this.callId = callId;
    this.#t = t;
    this.#maybe = maybe;
    this.agent = h("a", { class: "board-agent", href: `/screen/calls/${encodeURIComponent(callId)}`, tabIndex: -1 });
    this.state = h("span", { class: "chip board-state", hidden: true });
    this.time = h("div", { class: "board-time number", role: "gridcell" });
    this.parties = h("div", { class: "board-parties", role: "gridcell" });
    this.speaker = h("span", { class: "board-speaker" });
    this.words = h("span", {});
    this.text = h("div", { class: "board-text", role: "gridcell" }, this.speaker, this.words);
    this.alerts = h("div", { class: "board-alerts", role: "gridcell" });
    this.element = h("div", { class: "board-row", role: "row", tabIndex: -1, data: { call: callId } },
      h("div", { class: "board-who", role: "rowheader" }, this.agent, this.state), this.time, this.parties, this.text, this.alerts,
    );
  }

  /** Show what the call is now. */
  show(brief, nowMs) {
    this.brief = brief;
    this.rank = rank(brief);
    this.#toldAt = nowMs;
    setText(this.agent, brief.agent || this.#t("board.no_agent", { id: brief.call_id.slice(0, 8) }));
    this.#showState(brief);
    this.#showParties(brief);
    this.#showText(brief.latest);
    this.#showAlerts(brief.alerts, brief.alerts_before ?? 0);
    this.tick(nowMs);
  }

  #showState(brief) {
    const conflict = !isOver(brief) && hasConflict(brief);
    const state = isOver(brief) || brief.connected ? (conflict ? "conflict" : brief.state) : "disconnected";
    this.state.hidden = state === "live";
    if (state === "live") return this.#mark(brief, state);
    const kind = { conflict: "conflict", disconnected: "provisional", failed: "final" }[state] ?? "";
    this.state.className = `chip board-state ${kind}`;
    setText(this.state, this.#t(`board.state.${state}`));
    return this.#mark(brief, state);
  }

  #mark(brief, state) {
    const worst = isOver(brief) ? 2 : Math.min(2, ...brief.alerts.map((alert) => severity(alert.status)));
    const kind = worst < 2 ? KINDS[worst] : state === "live" || state === "paused" ? "" : state;
    if (this.element.dataset.kind !== kind) this.element.dataset.kind = kind;
  }

  #role(role) {
    return this.#maybe(`shell.role.${role}`, role);
  }

  #showParties(brief) {
    const key = brief.roles.join("\n");
    if (key !== this.#rolesKey || this.#parties.length !== brief.roles.length) {
      this.#rolesKey = key;
      this.#parties = brief.roles.map((role, at) => party(role, at));
      fill(this.parties, this.#parties.map((one) => one.element));
    }
    for (const one of this.#parties) {
      const speaking = brief.speaking.includes(one.role);
      if (one.speaking !== speaking) {
        one.speaking = speaking;
        one.element.classList.toggle("speaking", speaking);
        setText(one.unseen, speaking ? ` ${this.#t("board.speaking")}` : "");
      }
      setText(one.name, brief.speakers[one.role] || this.#role(one.role));
    }
  }

  #showText(latest) {
    const role = latest ? `${this.#role(latest.role)} ` : "";
    setText(this.speaker, role);
    this.speaker.className = `board-speaker ${latest ? toneOf(latest.role, this.brief.roles.indexOf(latest.role)) : ""}`;
    setText(this.words, latest?.text ?? "");
    this.words.className = latest && !latest.final ? "partial" : "";
  }

  #showAlerts(alerts, before) {
    const groups = byCategory(alerts);
    const key = groups.map((one) => `${one.category} ${one.status} ${one.rules.length}`).join("\n") + before;
    if (key === this.#chipsKey) return;
    this.#chipsKey = key;
    const shown = groups.length > MOST_CHIPS || before ? groups.slice(0, MOST_CHIPS - 1) : groups;
    const more = groups.length - shown.length + before;
    fill(this.alerts,
      shown.map((one) => this.#chip(one)),
      more > 0 && h("span", { class: "chip", text: this.#t("board.more_alerts", { n: more }) }),
    );
  }

  #chip({ category, status, rules }) {
    const kind = KINDS[severity(status)];
    return h("span", { class: ["chip", "board-chip", kind], title: rules.join("\n") },
      h("span", { "aria-hidden": "true", text: { final: "!", provisional: "?" }[kind] ?? "·" }),
      h("span", { class: "board-chip-name", text: category }),
      rules.length > 1 && h("span", { class: "number", text: `×${rules.length}` }),
      h("span", { class: "unseen", text: ` ${this.#maybe(`board.status.${status}`, status)}` }),
    );
  }

  /** Let the clock show the audio received by now. */
  tick(nowMs) {
    const { brief } = this;
    const running = brief.state === "live" || brief.state === "paused";
    const since = running && brief.connected && !this.gone ? nowMs - this.#toldAt : 0;
    setText(this.time, clock(brief.duration_ms + since));
  }

  /** Take how loud each channel is, in dB of full scale; it holds for a moment only. */
  hear(peaks, nowMs) {
    this.#peaks = peaks;
    this.#heardAt = nowMs;
  }

  /** Show it. */
  meter(nowMs) {
    const peaks = this.gone || nowMs - this.#heardAt > LEVELS_HOLD_MS ? null : this.#peaks;
    for (const [at, one] of this.#parties.entries()) {
      const db = peaks?.[at] ?? SILENT_DB;
      const share = db <= QUIETEST_DB ? 0 : Math.min(1, 1 - db / QUIETEST_DB);
      const steps = Math.round(share * 40);
      if (one.steps === steps) continue;
      one.steps = steps;
      one.fill.style.transform = `scaleX(${steps / 40})`;
      one.fill.classList.toggle("hot", db >= HOT_DB);
    }
  }

  /** It is not on the board any more. */
  leave() {
    this.gone = true;
    this.element.classList.add("gone");
  }

  /** Give it its number among all rows; the head is the first. */
  number(index) {
    const text = String(index + 2);
    if (this.element.getAttribute("aria-rowindex") !== text) aria(this.element, "rowindex", text);
  }
}

/** The alerts of each category with the worst of their states, the worst and latest category first. */
function byCategory(alerts) {
  const groups = new Map();
  for (const { category, rule, status, at_ms: atMs } of alerts) {
    const one = groups.get(category);
    if (!one) {
      groups.set(category, { category, status, atMs, rules: [rule] });
      continue;
    }
    one.rules.push(rule);
    one.atMs = Math.max(one.atMs, atMs);
    if (severity(status) < severity(one.status)) one.status = status;
  }
  return [...groups.values()].sort((a, b) => severity(a.status) - severity(b.status) || b.atMs - a.atMs);
}

/** The colour of a role: the two usual ones have their own, others one by their channel. */
export function toneOf(role, at) {
  return role === "agent" || role === "customer" ? role : at === 1 ? "customer" : "agent";
}

function party(role, at) {
  const name = h("span", { class: "board-party-name" });
  const unseen = h("span", { class: "unseen" });
  const fill = h("span", { class: "board-level" });
  const element = h("div", { class: ["board-party", toneOf(role, at)] },
    h("span", { class: "board-dot", "aria-hidden": "true" }), name, unseen,
    h("span", { class: "board-meter", "aria-hidden": "true" }, fill),
  );
  return { role, element, name, unseen, fill, speaking: false, steps: 0 };
}
