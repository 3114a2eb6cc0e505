// What stands around every view: where one can go, who is signed in, how the connection is, language and theme.

import { aria, fill, h, setText } from "./dom.js";
import { LANGUAGES } from "./i18n.js";

const PLACES = [
  ["board", "/screen/"],
  ["phone", "/screen/phone"],
  ["rules", "/screen/rules"],
  ["voices", "/screen/voices"],
];
const THEMES = ["auto", "light", "dark"];

function keptTheme() {
  try {
    return localStorage.getItem("earshot.theme") ?? "auto";
  } catch {
    return "auto";
  }
}

export class Shell {
  #words;
  #on;
  #links = new Map();
  #connection = "idle";

  /** `on`: `signOut()` and `language(code)`, called when somebody asks for it. */
  constructor(words, on) {
    this.#words = words;
    this.#on = on;
    this.main = h("main", { id: "main", tabIndex: -1 });
    this.polite = h("div", { class: "unseen", role: "status", aria: { live: "polite" } });
    this.header = h("header", { class: "shell-head" });
    this.skip = h("a", { class: "skip", href: "#main", on: { click: (event) => this.#skip(event) } });
    document.body.replaceChildren(this.skip, this.header, this.main, this.polite);
  }

  #skip(event) {
    event.preventDefault();
    this.main.focus();
    this.main.scrollIntoView();
  }

  /** Say something to those who hear the page. */
  announce = (text) => {
    this.polite.textContent = "";
    // Its own turn, so that the same words said twice are heard twice.
    requestAnimationFrame(() => (this.polite.textContent = text));
  };

  /** Draw it in the language of now. `session`: null when nobody is signed in. */
  draw(session) {
    const t = this.#words.t;
    setText(this.skip, t("shell.skip"));
    this.#links.clear();
    const nav = session && h("nav", { class: "shell-nav", aria: { label: t("shell.views") } },
      PLACES.map(([name, href]) => {
        const link = h("a", { href, text: t(`shell.${name}`) });
        this.#links.set(name, link);
        return link;
      }),
    );
    this.state = h("span", { class: "shell-state", role: "status" });
    fill(this.header,
      h("a", { class: "shell-name", href: "/screen/" }, mark(), "Earshot"),
      nav,
      h("div", { class: "shell-side" }, session && this.state, this.#languages(), this.#themes(), session && this.#account(session)),
    );
    this.connection(this.#connection);
  }

  #languages() {
    return h("select", {
      class: "select quiet", aria: { label: this.#words.t("shell.language") },
      on: { change: (event) => this.#on.language(event.target.value) },
    }, Object.entries(LANGUAGES).map(([code, name]) => (
      h("option", { value: code, text: name, lang: code, selected: code === this.#words.language })
    )));
  }

  #themes() {
    const t = this.#words.t;
    const chosen = keptTheme();
    return h("select", {
      class: "select quiet", aria: { label: t("shell.theme") },
      on: {
        change: (event) => document.dispatchEvent(new CustomEvent("earshot:choose-theme", { detail: event.target.value })),
      },
    }, THEMES.map((one) => h("option", { value: one, text: t(`shell.theme.${one}`), selected: one === chosen })));
  }

  #account(session) {
    const t = this.#words.t;
    return h("span", { class: "shell-account" },
      h("span", { class: "shell-app", text: session.app_id, title: t("shell.signed_in", { app: session.app_id }) }),
      h("button", { type: "button", class: "button quiet", text: t("shell.sign_out"), on: { click: () => this.#on.signOut() } }),
    );
  }

  /** Show how the watch sockets are: "idle", "connecting", "live" or "refused". */
  connection(state) {
    this.#connection = state;
    if (!this.state) return;
    this.state.dataset.state = state;
    setText(this.state, state === "idle" ? "" : this.#words.t(`shell.connection.${state}`));
  }

  /** Mark where one is, and say so in the title and, after a move, to those who hear the page. */
  arrived(name, moved) {
    for (const [one, link] of this.#links) aria(link, "current", one === name ? "page" : null);
    const heading = this.main.querySelector("h1");
    document.title = heading ? `${heading.textContent} · Earshot` : "Earshot";
    if (!moved) return;
    const target = heading ?? this.main;
    if (!target.hasAttribute("tabindex")) target.tabIndex = -1;
    target.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function mark() {
  return h("svg", { viewBox: "0 0 32 32", width: 22, height: 22, "aria-hidden": "true", class: "shell-mark" },
    h("path", { d: "M5 14v4M11 9v14M17 5v22M23 11v10M29 14v4" }));
}
