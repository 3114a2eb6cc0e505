// How many calls there are of each kind.

import { isOver, severity } from "./ranking.js";

/** Counts over the rows of all calls; `wanted` are those looked for, in order, and `held` those that stand, if they hold still. */
export function counted(all, wanted, held) {
  const running = all.filter((row) => !isOver(row.brief));
  return {
    live: running.length,
    alerts: running.filter((row) => row.brief.alerts.some((alert) => severity(alert.status) < 2)).length,
    disconnected: running.filter((row) => !row.brief.connected).length,
    judging: all.length - running.length,
    shown: wanted.length,
    all: all.length,
    moved: held === null ? 0 : moved(held, wanted),
    agents: [...new Set(all.map((row) => row.brief.agent).filter(Boolean))].sort(),
  };
}

/** How many calls would stand elsewhere. */
function moved(held, wanted) {
  const places = new Map(held.map((row, at) => [row, at]));
  return wanted.filter((row, at) => places.get(row) !== at).length;
}
