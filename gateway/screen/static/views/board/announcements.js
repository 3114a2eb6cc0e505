// Tells those who hear the page of alerts that have become final, a few at a time.

import { severity } from "./ranking.js";

const ANNOUNCE_EVERY_MS = 3000;

export class Announcements {
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

  close() {
    clearTimeout(this.#timer);
  }

  forget(callId) {
    this.#known.delete(callId);
  }
}
