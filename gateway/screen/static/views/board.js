// The supervisor's board: every live call, what needs a look first, and the calls that are over.

import { fill, h, setText } from "../dom.js";
import { CallList } from "./board/list.js";
import { PastCalls } from "./board/past.js";
import { severity } from "./board/ranking.js";

export const styles = ["views/board.css"];

const STATES = ["live", "paused", "disconnected", "judging"];
const ANNOUNCE_EVERY_MS = 3000;

export function mount(root, context) {
  const { api, t, navigate } = context;
  const counts = h("p", { class: "board-counts number" });
  const empty = h("div", { class: "board-empty", hidden: true });
  const moved = h("button", { type: "button", class: "button board-moved", hidden: true, on: { click: () => list.sort() } });
  const bar = filterBar(context, (values) => list.filter(values));
  const alerts = new Announcements(context);
  const past = new PastCalls(context);
  const list = new CallList(context, {
    open: (callId) => navigate(`/screen/calls/${encodeURIComponent(callId)}`),
    changed: (now) => {
      fillCounts(counts, t, now);
      bar.agents(now.agents);
      moved.hidden = now.moved === 0;
      setText(moved, now.moved ? t("board.moved", { count: now.moved }) : "");
      empty.hidden = now.shown > 0;
      setText(emptyText, t(now.all ? "board.none_match" : "board.none"));
      emptyLink.hidden = now.all > 0;
    },
  });
  const emptyText = h("p", {});
  const emptyLink = h("a", { href: "/screen/phone", text: t("board.none.call") });
  fill(empty, emptyText, emptyLink);

  fill(root,
    h("div", { class: "board-top" }, h("h1", { text: t("board.title") }), counts),
    h("div", { class: "board-bar" }, bar.element, moved),
    h("section", { class: "panel board-live" }, list.element, empty),
    past.element,
  );
  list.filter(bar.values());

  const watching = api.watch({ levels: true }, {
    message(message) {
      if (message.type === "levels") list.hear(message.calls);
      else if (message.type === "call") {
        alerts.look(message);
        list.tell(message);
      } else if (message.type === "call_gone") {
        alerts.forget(message.call_id);
        list.forget(message.call_id);
        past.refresh();
      }
    },
    state(state, detail) {
      if (state === "live") list.began();
      else if (state !== "closed") list.lost();
      if (state === "refused") setText(emptyText, t("board.refused", { why: detail.message }));
    },
  });
  addEventListener("keydown", bar.key);
  return () => {
    removeEventListener("keydown", bar.key);
    watching.close();
    list.close();
    past.close();
  };
}

function fillCounts(element, t, now) {
  const parts = [
    t("board.count.live", { count: now.live }),
    now.alerts && t("board.count.alerts", { count: now.alerts }),
    now.disconnected && t("board.count.disconnected", { count: now.disconnected }),
    now.judging && t("board.count.judging", { count: now.judging }),
    now.shown !== now.all && t("board.count.shown", { shown: now.shown }),
  ];
  setText(element, parts.filter(Boolean).join(" · "));
}

/** What is looked for, kept in the address so that it can be shared and survives a reload. */
function filterBar({ t, setQuery }, changed) {
  const asked = new URLSearchParams(location.search);
  const text = h("input", {
    class: "input board-search", type: "search", placeholder: t("board.filter.text"), value: asked.get("q") ?? "",
    aria: { label: t("board.filter.text"), keyshortcuts: "/" }, on: { input: apply },
  });
  const agent = h("select", { class: "select", aria: { label: t("board.filter.agent") }, on: { change: apply } });
  const state = h("select", { class: "select", aria: { label: t("board.filter.state") }, on: { change: apply } },
    h("option", { value: "", text: t("board.filter.any_state") }),
    STATES.map((one) => h("option", { value: one, text: t(`board.state.${one}`), selected: asked.get("state") === one })),
  );
  const alerts = h("input", { type: "checkbox", checked: asked.get("alerts") === "1", on: { change: apply } });
  let known = null;

  function agents(names) {
    const chosen = known === null ? asked.get("agent") ?? "" : agent.value;
    const every = chosen && !names.includes(chosen) ? [...names, chosen] : names;
    if (known !== null && known.join("\n") === every.join("\n")) return;
    known = every;
    fill(agent, h("option", { value: "", text: t("board.filter.any_agent") }), every.map((name) => h("option", { value: name, text: name })));
    agent.value = chosen;
  }

  function values() {
    return { q: text.value.trim(), agent: agent.value, state: state.value, alerts: alerts.checked };
  }

  function apply() {
    const now = values();
    setQuery({ ...now, alerts: now.alerts ? "1" : "" });
    changed(now);
  }

  function key(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    event.preventDefault();
    text.focus();
    text.select();
  }

  agents([]);
  const element = h("div", { class: "board-filters", role: "search" },
    text, agent, state, h("label", { class: "board-check" }, alerts, t("board.filter.alerts")),
  );
  return { element, agents, values, key };
}

/** Tells those who hear the page of alerts that have become final, a few at a time. */
class Announcements {
  #context;
  #known = new Map();
  #waiting = [];
  #timer = 0;
  #since = Date.now();

  constructor(context) {
    this.#context = context;
  }

  look(brief) {
    const before = this.#known.get(brief.call_id);
    const now = new Set(brief.alerts.filter((alert) => severity(alert.status) === 0).map((alert) => alert.alert_id));
    this.#known.set(brief.call_id, now);
    const fresh = before ? brief.alerts.filter((alert) => now.has(alert.alert_id) && !before.has(alert.alert_id)) : [];
    for (const alert of fresh) this.#waiting.push({ agent: brief.agent || brief.call_id.slice(0, 8), category: alert.category });
    if (this.#waiting.length && !this.#timer) this.#timer = setTimeout(() => this.#say(), this.#pause());
  }

  #pause() {
    return Math.max(0, this.#since + ANNOUNCE_EVERY_MS - Date.now());
  }

  #say() {
    const { t, announce } = this.#context;
    const told = this.#waiting.splice(0);
    this.#timer = 0;
    this.#since = Date.now();
    if (told.length === 1) announce(t("board.announce", told[0]));
    else announce(t("board.announce_several", { count: told.length }));
  }

  forget(callId) {
    this.#known.delete(callId);
  }
}
