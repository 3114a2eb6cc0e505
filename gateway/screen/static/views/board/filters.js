// What is looked for among the calls, kept in the address so that it can be shared and survives a reload.

import { fill, h } from "../../dom.js";

const STATES = ["live", "paused", "disconnected", "judging"];

/**
 * The fields; `changed(values)` hears every change. Answers `{element, values(), agents(names), key}`: `agents` says whose calls
 * there are to choose from, `key` is what the page's keys go to.
 */
export function filterBar({ t, setQuery }, changed) {
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
    const same = known !== null && known.join("\n") === every.join("\n");
    if (same || agent === document.activeElement) return; // a list that is open must not change
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
