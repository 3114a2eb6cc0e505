// A field for an expression that underlines the place where it is wrong.

import { aria, fill, h } from "../../dom.js";
import { unitsOf } from "./draft.js";

let count = 0;

export class ExpressionField {
  #t;
  #at = null;

  /** `changed(text)` hears every edit. `label`: what it is called; `value`: what stands in it. */
  constructor(t, { label, value, changed }) {
    this.#t = t;
    const id = `expression-${++count}`;
    this.mirror = h("div", { class: "expression-mirror", "aria-hidden": "true" });
    this.input = h("textarea", {
      id, class: "input expression-input", rows: 1, spellcheck: "false", autocapitalize: "none", autocomplete: "off", value,
      maxlength: 4096, aria: { label, describedby: `${id}-fault` },
      on: {
        input: () => {
          this.show(null);
          changed(this.input.value);
        },
        keydown: (event) => event.key === "Enter" && event.preventDefault(), // an expression is one line, however long
        scroll: () => (this.mirror.scrollTop = this.input.scrollTop),
      },
    });
    this.fault = h("p", { id: `${id}-fault`, class: "fault expression-fault" });
    this.element = h("div", { class: "expression" }, h("div", { class: "expression-box" }, this.mirror, this.input), this.fault);
    this.show(null);
  }

  /** Show what is wrong, of `faults` in the server's answer; null: nothing. */
  show(fault) {
    const text = this.input.value;
    aria(this.input, "invalid", fault ? "true" : null);
    if (!fault) {
      this.#at = null;
      this.fault.replaceChildren();
      this.mirror.textContent = `${text}\n`;
      return;
    }
    this.#at = fault.position === null ? null : Math.min(unitsOf(text, fault.position), text.length);
    const wanted = this.#t("rules.expected", { expected: fault.expected });
    if (this.#at === null) {
      fill(this.fault, wanted);
      this.mirror.textContent = `${text}\n`;
      return;
    }
    const wrong = [...text.slice(this.#at)][0] ?? " ";
    fill(this.mirror,
      text.slice(0, this.#at), h("span", { class: "expression-wrong", text: wrong }), `${text.slice(this.#at + wrong.length)}\n`,
    );
    const where = this.#at < text.length ? this.#t("rules.at", { n: fault.position + 1, found: wrong }) : this.#t("rules.at_end");
    fill(this.fault, h("button", { type: "button", class: "expression-goto", text: where, on: { click: () => this.goTo() } }), ` ${wanted}`);
  }

  /** Put the cursor where the fault is. */
  goTo() {
    this.input.focus();
    if (this.#at !== null) this.input.setSelectionRange(this.#at, Math.min(this.#at + 1, this.input.value.length));
  }
}
