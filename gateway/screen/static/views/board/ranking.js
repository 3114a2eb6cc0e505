// Which call needs a look first, and which are looked for.

const OVER = new Set(["judging", "judged", "failed"]);
/** From the most urgent down; an alert that was not confirmed needs nobody. */
const SEVERITIES = { final: 0, confirmed: 0, provisional: 1 };

/** Whether the call has ended: what is left is its verdict. */
export const isOver = (brief) => OVER.has(brief.state);

/** How much an alert of this status matters: 0 settled, 1 could still be withdrawn, 2 nothing any more. */
export const severity = (status) => SEVERITIES[status] ?? 2;

/** Whether a known voice is where it cannot be. */
export const hasConflict = (brief) => brief.conflicts.length > 0;

/** Final alerts before provisional ones, then conflicts, then calls without a softphone, then the rest, ended ones last. */
export function rank(brief) {
  if (isOver(brief)) return 5;
  const worst = Math.min(2, ...brief.alerts.map((alert) => severity(alert.status)));
  if (worst < 2) return worst;
  if (hasConflict(brief)) return 2;
  return brief.connected ? 4 : 3;
}

/** Two rows by the rank of their calls, the longest first; calls that began together keep their places. */
export function compare(a, b) {
  return a.rank - b.rank || a.brief.began_at_ms - b.brief.began_at_ms || (a.callId < b.callId ? -1 : 1);
}

/** Whether a call is among those asked for: `q` in anything one can read, `agent`, `alerts` any, `state`. */
export function matches(brief, { q, agent, alerts, state }) {
  if (agent && brief.agent !== agent) return false;
  if (alerts && !brief.alerts.some((alert) => severity(alert.status) < 2)) return false;
  if (state === "disconnected" ? brief.connected || isOver(brief) : state && brief.state !== state) return false;
  if (!q) return true;
  const text = [
    brief.agent, brief.call_id, brief.latest?.text ?? "", ...Object.values(brief.speakers),
    ...brief.alerts.flatMap((alert) => [alert.category, alert.rule]),
  ].join("\n").toLowerCase();
  return text.includes(q.toLowerCase());
}
