// The app's rules: what there is, how it has done, and a form for one category at a time.

import { fill, h, setText } from "../dom.js";
import { percent } from "../format.js";
import { draftOf, newDraft } from "./rules/draft.js";
import { CategoryEditor } from "./rules/editor.js";
import { TrackRecord } from "./rules/record.js";

export const styles = ["views/rules.css"];

const PERIODS_DAYS = [7, 30, 90];
const DAY_MS = 24 * 3600 * 1000;
const NEW = "";
/** Edits that have not been saved, by app and category: going to another view and back loses none. */
const unsaved = new Map();

export function mount(root, context) {
  const page = new RulesPage(root, context);
  page.read(true);
  return () => page.close();
}

class RulesPage {
  #context;
  #editor = null;
  #chosen;
  #categories = [];
  #version = 0;
  #asked = 0;
  #answered = 0;
  #record = new TrackRecord([]);
  #stop = new AbortController();

  constructor(root, context) {
    const { t } = context;
    this.#context = context;
    const asked = new URLSearchParams(location.search);
    this.#chosen = asked.has("new") ? NEW : asked.get("category");
    this.search = h("input", {
      class: "input", type: "search", placeholder: t("rules.find"), aria: { label: t("rules.find") }, on: { input: () => this.#draw() },
    });
    this.period = h("select", { class: "select", aria: { label: t("rules.period") }, on: { change: () => this.read() } },
      PERIODS_DAYS.map((days) => h("option", { value: days, text: t("rules.period.days", { days }), selected: days === 30 })));
    this.note = h("p", { class: "rules-note", role: "status" });
    this.rows = h("tbody", {});
    this.pane = h("div", { class: "rules-pane" });
    this.version = h("span", { class: "hint number" });
    fill(root,
      h("div", { class: "rules-top" },
        h("h1", { text: t("rules.title") }), this.version,
        h("button", { type: "button", class: "button primary", text: t("rules.new"), on: { click: () => this.choose(NEW, true) } }),
      ),
      this.note,
      h("div", { class: "rules-columns" },
        h("section", { class: "panel rules-list", aria: { label: t("rules.categories") } },
          h("div", { class: "rules-bar" }, this.search, this.period),
          h("div", { class: "rules-scroll" }, h("table", {},
            h("thead", {}, h("tr", {}, ["category", "alerts", "precision", "recall"].map((name) => (
              h("th", { scope: "col", class: name === "category" ? null : "figure", text: t(`rules.column.${name}`) })
            )))),
            this.rows,
          )),
        ),
        this.pane,
      ),
    );
    addEventListener("beforeunload", this.#warn);
  }

  close() {
    removeEventListener("beforeunload", this.#warn);
    this.#stop.abort();
    this.#editor?.close();
  }

  #warn = (event) => {
    if ([...unsaved.values()].some((draft) => draft.changed)) event.preventDefault();
  };

  /** Read everything anew; with `open` also the form that the address names. */
  async read(open = false) {
    const { api, t } = this.#context;
    const { signal } = this.#stop;
    const turn = ++this.#asked;
    const sinceMs = Date.now() - Number(this.period.value) * DAY_MS;
    try {
      const [rules, record] = await Promise.all([
        api.get("/v1/rules", { signal }), api.get(`/v1/rules/record?since_ms=${sinceMs}`, { signal }),
      ]);
      if (turn < this.#answered) return; // what was asked later has come already
      this.#answered = turn;
      this.#categories = rules.categories;
      this.#version = rules.version;
      this.#record = new TrackRecord(record.rules);
      setText(this.version, t("rules.version", { n: rules.version }));
      this.note.textContent = rules.sync_error ? t("rules.sync_error", { why: rules.sync_error }) : "";
      this.#draw();
      if (open) this.choose(this.#chosen, false);
    } catch (fault) {
      if (fault.name !== "AbortError") this.note.textContent = t("rules.unreadable", { why: fault.message });
    }
  }

  #draw() {
    const { t, language } = this.#context;
    const wanted = this.search.value.trim().toLowerCase();
    const found = this.#categories.filter((one) => JSON.stringify([one.category, one.description, one.contents]).toLowerCase().includes(wanted));
    fill(this.rows, found.map((one) => {
      const track = this.#record.ofCategory(one.category);
      const shadows = one.contents.filter((content) => content.shadow === true).length;
      const link = h("a", {
        href: `?category=${encodeURIComponent(one.category)}`, class: "rules-name", text: one.category,
        aria: { current: one.category === this.#chosen ? "true" : null },
        on: {
          click: (event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            this.choose(one.category, true);
          },
        },
      });
      return h("tr", { class: one.category === this.#chosen ? "chosen" : null },
        h("td", {}, link, h("div", { class: "rules-about" },
          h("span", { class: "hint", text: t("rules.count", { count: one.contents.length }) }),
          shadows > 0 && h("span", { class: "chip", text: shadows === one.contents.length ? t("rules.shadow") : t("rules.some_shadow", { n: shadows }) }),
          one.at_vendor === true && h("span", { class: "chip accent", text: t("rules.at_vendor") }),
        )),
        h("td", { class: "figure number", text: track ? track.alerts : "–" }),
        h("td", { class: "figure number", text: percent(track?.precision, language) }),
        h("td", { class: "figure number", text: percent(track?.recall, language) }),
      );
    }));
    if (!found.length) fill(this.rows, h("tr", {}, h("td", { colspan: 4, class: "hint", text: t(this.#categories.length ? "rules.none_match" : "rules.none") })));
  }

  #key(name) {
    return JSON.stringify([this.#context.session.app_id, name]);
  }

  /** Open the form of a category, of a new one, or (null) none. */
  choose(name, focus, said = "") {
    const { t, setQuery } = this.#context;
    this.#editor?.close();
    this.#editor = null;
    this.#chosen = name;
    setQuery(name === null ? {} : name === NEW ? { new: "1" } : { category: name });
    this.#draw();
    const stored = this.#categories.find((one) => one.category === name);
    const key = this.#key(name);
    const draft = unsaved.get(key) ?? (name === NEW ? newDraft() : stored && draftOf(stored));
    if (!draft) {
      fill(this.pane, h("p", { class: "hint rules-pick", text: name === null ? t("rules.pick") : t("rules.gone", { name }) }));
      return;
    }
    this.#editor = new CategoryEditor(this.#context, draft, this.#record, this.#version, {
      changed: () => unsaved.set(key, draft),
      saved: (saved, version) => this.#settled(key, saved, t("rules.saved", { name: saved, version })),
      deleted: () => this.#settled(key, null, t("rules.deleted", { name })),
      moved: () => this.#settled(key, name, ""),
    });
    fill(this.pane, this.#editor.element);
    if (said) fill(this.#editor.result, h("p", { class: "saved", text: said }));
    const first = draft.isNew ? this.#editor.name : this.#editor.element.querySelector("textarea");
    if (focus) first.focus();
  }

  async #settled(key, next, said) {
    unsaved.delete(key);
    if (said) this.#context.announce(said);
    await this.read();
    if (this.#stop.signal.aborted) return; // somebody has gone to another view, whose address is not ours to change
    this.choose(next, false, said);
    if (next === null) fill(this.pane, h("p", { class: "saved rules-pick", role: "status", text: said }));
  }
}
