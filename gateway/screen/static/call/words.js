// What things of a call are called, for every part of the page.

import { clock } from "../format.js";
import { labelOf, nameOf } from "./speakers.js";

/** Names in the reader's language; `model` says which role a channel has. */
export function wordsOf({ t, maybe }, model) {
  const role = (name) => (name ? maybe(`call.role.${name}`, name) : t("call.role.none"));
  const status = (name) => maybe(`call.status.${name}`, name);
  return {
    t, maybe, role, status,
    roleOf: (channel) => model.call.roles[channel] ?? "",
    /** Who says a segment: a name, else the role. */
    who: (segment) => nameOf(segment) || role(segment.role),
    speaker: (segment) => t(`call.speaker.${labelOf(segment)}`),
    silence: ({ begin_ms: begin, end_ms: end }) => t("call.timeline.silence", { seconds: Math.round((end - begin) / 1000) }),
    gap: ({ cause }) => maybe(`call.gap.${cause}`, cause),
    note: ({ kind, value }) => (kind === "dtmf" ? t("call.note.dtmf", { value }) : value),
    alert: (alert) => `${status(alert.status)}: ${alert.category} (${alert.rule}), ${clock(alert.at_ms ?? 0)}`,
  };
}
