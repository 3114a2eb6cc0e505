// Calls that are over: the latest first, page by page.

import { fill, h } from "../../dom.js";
import { clock, stamp } from "../../format.js";

const PAGE = 20;
const AT_ONCE = 50;
const MOST_REQUESTS = 10;
const REFRESH_AFTER_MS = 600;
const RUNNING = new Set(["live", "paused"]);

export class PastCalls {
  #context;
  #before = null;
  #known = new Map();
  #stop = new AbortController();
  #refreshTimer = 0;
  /** How many there are at most: as many as were asked for. What ends takes the place of the oldest. */
  #most = PAGE;

  constructor(context) {
    const { t } = context;
    this.#context = context;
    this.rows = h("tbody", {});
    this.note = h("p", { class: "hint board-note", role: "status" });
    this.more = h("button", { type: "button", class: "button", text: t("board.past.more"), hidden: true, on: { click: () => this.#page() } });
    this.element = h("section", { class: "panel board-past", aria: { labelledby: "past-title" } },
      h("h2", { id: "past-title", text: t("board.past.title") }),
      h("div", { class: "board-past-scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ["began", "agent", "time", "alerts", "state"].map((name) => (
          h("th", { scope: "col", text: t(`board.past.${name}`) })
        )))),
        this.rows,
      )),
      this.note, this.more,
    );
    this.#page();
  }

  close() {
    this.#stop.abort();
    clearTimeout(this.#refreshTimer);
  }

  /** A call has just ended: have it here too, and others that end about now. */
  refresh() {
    this.#refreshTimer ||= setTimeout(() => { // not put off by the next: where many calls end there is always one
      this.#refreshTimer = 0;
      this.#read(async (signal) => {
        await this.#ask(null, signal);
        this.#trim();
      });
    }, REFRESH_AFTER_MS);
  }

  /** Have a page more of them; those that still run are passed over. */
  #page() {
    return this.#read(async (signal) => {
      const wanted = this.#known.size + PAGE;
      for (let asked = 0; asked < MOST_REQUESTS && this.#known.size < wanted; asked++) {
        const calls = await this.#ask(this.#before, signal);
        this.#before = calls.at(-1)?.call_id ?? this.#before;
        this.#most = Math.max(this.#most, this.#known.size);
        this.more.hidden = calls.length < AT_ONCE;
        if (this.more.hidden) return;
      }
    });
  }

  async #ask(before, signal) {
    const query = new URLSearchParams({ limit: AT_ONCE, ...(before && { before }) });
    const { calls } = await this.#context.api.get(`/v1/calls?${query}`, { signal });
    for (const call of calls) if (!RUNNING.has(call.state)) this.#known.set(call.call_id, call);
    return calls;
  }

  /** Let the oldest go that are too many: a board stands for days. They can be asked for again. */
  #trim() {
    const calls = this.#sorted();
    for (const { call_id: id } of calls.slice(this.#most)) this.#known.delete(id);
    if (calls.length <= this.#most) return;
    this.#before = calls[this.#most - 1].call_id;
    this.more.hidden = false;
  }

  #sorted() {
    return [...this.#known.values()].sort((a, b) => b.began_at_ms - a.began_at_ms);
  }

  async #read(ask) {
    const { t } = this.#context;
    this.more.disabled = true;
    try {
      await ask(this.#stop.signal);
      this.note.textContent = this.#known.size ? "" : t("board.past.none");
      this.#draw();
    } catch (fault) {
      if (fault.name !== "AbortError") this.note.textContent = t("board.past.failed", { why: fault.message });
    } finally {
      this.more.disabled = false;
    }
  }

  #draw() {
    fill(this.rows, this.#sorted().map((call) => this.#row(call)));
  }

  #row(call) {
    const { t, maybe, language } = this.#context;
    const agent = call.metadata?.agent;
    return h("tr", {},
      h("td", {}, h("a", { href: `/screen/calls/${encodeURIComponent(call.call_id)}`, text: stamp(call.began_at_ms, language) })),
      h("td", { text: typeof agent === "string" && agent ? agent : "–" }),
      h("td", { class: "number", text: clock(call.duration_ms) }),
      h("td", {}, call.alerts ? h("span", { class: "chip confirmed number", text: call.alerts }) : h("span", { class: "hint", text: "0" })),
      h("td", {}, h("span", { class: ["chip", { judged: "ok", failed: "final" }[call.state]], text: maybe(`board.state.${call.state}`, call.state) })),
    );
  }
}
