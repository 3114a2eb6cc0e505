// One rule of a category: its expression, what else it asks, and how it has done.

import { fill, h } from "../../dom.js";
import { OPTIONS, isObject } from "./draft.js";
import { ExpressionField } from "./expression.js";
import { recordLine } from "./record.js";

export class RuleForm {
  #context;
  #rule;
  #changed;

  /** `changed()` hears every edit of `rule`, which is changed in place; `remove()` is called when it is to go. */
  constructor(context, rule, number, track, { changed, remove }) {
    const { t } = context;
    this.#context = context;
    this.#rule = rule;
    this.#changed = changed;
    this.field = new ExpressionField(t, {
      label: t("rules.expression_n", { n: number }), value: rule.expression,
      changed: (text) => {
        rule.expression = text;
        changed();
      },
    });
    this.asked = h("span", { class: "rule-asked" });
    const mode = h("select", {
      class: "select", aria: { label: t("rules.mode_n", { n: number }) },
      on: { change: (event) => this.#set(() => (rule.shadow = event.target.value === "shadow")) },
    },
      h("option", { value: "live", text: t("rules.live"), selected: !rule.shadow }),
      h("option", { value: "shadow", text: t("rules.shadow"), selected: rule.shadow }),
    );
    const removal = h("button", {
      type: "button", class: "button quiet", text: t("rules.remove"), aria: { label: t("rules.remove_n", { n: number }) },
      on: { click: remove },
    });
    this.element = h("li", { class: "rule" },
      h("div", { class: "rule-line" }, this.field.element, mode, removal),
      h("details", { class: "rule-options" }, h("summary", {}, t("rules.options"), " ", this.asked), this.#options()),
      recordLine(context, track),
    );
    this.#showAsked();
  }

  #set(change) {
    change();
    this.#showAsked();
    this.#changed();
  }

  #showAsked() {
    const { t } = this.#context;
    const { options, extended } = this.#rule;
    const chips = Object.entries(options).map(([name, value]) => (
      h("span", { class: "chip accent", text: value === true ? t(`rules.option.${name}`) : `${t(`rules.option.${name}`)}: ${value}` })
    ));
    if (!chips.length) chips.push(h("span", { class: "hint", text: t(extended ? "rules.extended_only" : "rules.plain") }));
    fill(this.asked, chips);
    if (this.extended) {
      this.extended.checked = isObject(this.#rule);
      this.extended.disabled = this.#rule.shadow || Object.keys(options).length > 0;
    }
  }

  #options() {
    const { t } = this.#context;
    this.extended = h("input", { type: "checkbox", on: { change: (event) => this.#set(() => (this.#rule.extended = event.target.checked)) } });
    return h("div", { class: "rule-fields" },
      OPTIONS.filter((one) => one.kind !== "flag").map((one) => this.#field(one)),
      h("div", { class: "rule-flags" },
        OPTIONS.filter((one) => one.kind === "flag").map((one) => this.#flag(one)),
        h("label", { class: "rule-flag" }, this.extended, h("span", {}, t("rules.extended"), h("span", { class: "hint", text: t("rules.extended.hint") }))),
      ),
    );
  }

  #field({ name, kind, min, max, step, list }) {
    const { t } = this.#context;
    const id = `${this.field.input.id}-${name}`;
    const input = h("input", {
      id, class: "input", type: kind === "number" ? "number" : "text", min, max, step, value: this.#rule.options[name] ?? "",
      list: list && `${id}-list`, maxlength: 256, autocomplete: "off", on: { input: () => this.#set(() => this.#take(name, kind, input)) },
    });
    return h("div", { class: "rule-field" },
      h("label", { class: "label", for: id, text: t(`rules.option.${name}`) }), input,
      list && h("datalist", { id: `${id}-list` }, list.map((value) => h("option", { value }))),
      h("span", { class: "hint", text: t(`rules.option.${name}.hint`) }),
    );
  }

  #take(name, kind, input) {
    const text = input.value.trim();
    if (text === "") delete this.#rule.options[name];
    else this.#rule.options[name] = kind === "number" ? Number(text) : text;
  }

  #flag({ name }) {
    const { t } = this.#context;
    const box = h("input", {
      type: "checkbox", checked: Boolean(this.#rule.options[name]),
      on: {
        change: () => this.#set(() => {
          if (box.checked) this.#rule.options[name] = true;
          else delete this.#rule.options[name];
        }),
      },
    });
    return h("label", { class: "rule-flag" }, box, h("span", {}, t(`rules.option.${name}`), h("span", { class: "hint", text: t(`rules.option.${name}.hint`) })));
  }
}
