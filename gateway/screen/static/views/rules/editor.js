// The form of one category: its rules are checked while they are typed, tried, saved and deleted.

import { ask } from "../../dialog.js";
import { fill, h } from "../../dom.js";
import { bodyOf, newRule } from "./draft.js";
import { RuleForm } from "./rule_form.js";
import { Trial, faultText } from "./trial.js";

const CHECK_AFTER_MS = 350;
const BETWEEN_CHECKS_OF_A_BUSY_SERVER_MS = 2000;

export class CategoryEditor {
  #context;
  #draft;
  #record;
  #on;
  #version;
  #forms = [];
  #timer = 0;
  #checking = null;

  /**
   * `version`: of the rules that `draft` was read from. `on.saved(name)`, `on.deleted(name)` hear when that is done,
   * `on.moved()` when the rules are to be read anew, `on.changed()` of each edit.
   */
  constructor(context, draft, record, version, on) {
    const { t } = context;
    this.#context = context;
    this.#draft = draft;
    this.#record = record;
    this.#version = version;
    this.#on = on;
    this.name = h("input", {
      id: "category-name", class: "input", value: draft.name, maxlength: 256, required: true, readOnly: !draft.isNew,
      autocomplete: "off", aria: { describedby: "category-fault" }, on: { input: () => this.#edit(() => (draft.name = this.name.value)) },
    });
    const description = h("input", {
      id: "category-description", class: "input", value: draft.description, maxlength: 4096,
      on: { input: (event) => this.#edit(() => (draft.description = event.target.value), false) },
    });
    this.list = h("ol", { class: "rule-list" });
    this.fault = h("p", { id: "category-fault", class: "fault", role: "alert" });
    this.result = h("div", { class: "editor-result", role: "status" });
    this.save = h("button", { type: "submit", class: "button primary", text: t("rules.save") });
    this.trial = new Trial(context, () => ({ contents: bodyOf(draft).contents, ...(draft.name.trim() && { category: draft.name.trim() }) }));
    this.element = h("form", { class: "panel editor", noValidate: true, on: { submit: (event) => this.#submit(event) } },
      h("h2", { class: "editor-title", text: draft.isNew ? t("rules.new") : draft.name }),
      draft.isNew && [h("label", { class: "label", for: "category-name", text: t("rules.name") }), this.name],
      h("label", { class: "label", for: "category-description", text: t("rules.description") }), description,
      h("h3", { text: t("rules.expressions") }), h("p", { class: "hint", text: t("rules.language") }),
      this.list,
      h("button", { type: "button", class: "button", text: t("rules.add"), on: { click: () => this.#add() } }),
      this.trial.element, this.fault, this.result,
      h("div", { class: "editor-buttons" },
        this.save,
        draft.changed && !draft.isNew && this.#discard(),
        !draft.isNew && h("button", { type: "button", class: "button danger", text: t("rules.delete"), on: { click: () => this.#remove() } }),
      ),
    );
    this.#draw();
    if (draft.changed) {
      fill(this.result, h("span", { class: "hint", text: t("rules.unsaved") }));
      this.#checkSoon();
    }
  }

  close() {
    clearTimeout(this.#timer);
    this.#checking?.abort();
    this.trial.close();
  }

  #discard() {
    return h("button", { type: "button", class: "button quiet", text: this.#context.t("rules.discard"), on: { click: () => this.#on.moved() } });
  }

  #draw() {
    const { rules, name } = this.#draft;
    this.#forms = rules.map((rule, at) => new RuleForm(this.#context, rule, at + 1, this.#record.of(name, rule.expression), {
      changed: () => this.#edit(() => {}),
      remove: () => this.#drop(at),
    }));
    fill(this.list, this.#forms.map((form) => form.element));
  }

  #add() {
    this.#edit(() => this.#draft.rules.push(newRule()), false);
    this.#draw();
    this.#forms.at(-1).field.input.focus();
    this.#checkSoon();
  }

  #drop(at) {
    this.#edit(() => this.#draft.rules.splice(at, 1));
    if (!this.#draft.rules.length) this.#draft.rules.push(newRule());
    this.#draw();
    this.#forms[Math.min(at, this.#forms.length - 1)].field.input.focus();
  }

  #edit(change, check = true) {
    change();
    this.#draft.changed = true;
    this.#on.changed();
    this.result.replaceChildren();
    this.fault.textContent = "";
    if (check) this.#checkSoon();
  }

  // --- checking ---

  #checkSoon(afterMs = CHECK_AFTER_MS) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#check(), afterMs);
  }

  /** Ask the server's own grammar: a dry run on nothing answers what is wrong with a rule before it runs. */
  async #check() {
    const written = this.#draft.rules.map((rule, at) => at).filter((at) => this.#draft.rules[at].expression.trim());
    this.#checking?.abort();
    const { signal } = (this.#checking = new AbortController());
    try {
      const contents = bodyOf(this.#draft).contents;
      if (written.length) {
        await this.#context.api.post("/v1/rules/try", { contents: written.map((at) => contents[at]), text: [""] }, { signal });
      }
      this.#mark([], written);
    } catch (fault) {
      if (fault.name === "AbortError") return;
      if (fault.code === "bad_rule") this.#mark(fault.body.faults, written);
      else if (fault.code === "busy") this.#checkSoon(BETWEEN_CHECKS_OF_A_BUSY_SERVER_MS);
    }
  }

  /** Show each fault at its rule; `written[index]` is the rule that the server calls `index`. */
  #mark(faults, written) {
    const byRule = new Map(faults.filter((fault) => fault.index !== null).map((fault) => [written[fault.index], fault]));
    for (const [at, form] of this.#forms.entries()) form.field.show(byRule.get(at) ?? null);
    return faults.filter((fault) => fault.index === null);
  }

  // --- saving ---

  async #submit(event) {
    event.preventDefault();
    const { t } = this.#context;
    this.result.replaceChildren();
    if (!this.#draft.name.trim()) {
      this.fault.textContent = t("rules.name_missing");
      this.name.focus();
      return;
    }
    await this.#put({ "If-Match": `"${this.#version}"` });
  }

  async #put(headers) {
    const { api } = this.#context;
    const name = this.#draft.name.trim();
    this.save.disabled = true;
    this.fault.textContent = "";
    try {
      const { version } = await api.put(`/v1/rules/${encodeURIComponent(name)}`, bodyOf(this.#draft), { headers });
      this.#on.saved(name, version);
    } catch (fault) {
      this.#refused(fault);
    } finally {
      this.save.disabled = false;
    }
  }

  #refused(fault) {
    const { t } = this.#context;
    if (fault.code === "rules_moved") {
      this.fault.textContent = t("rules.moved");
      fill(this.result,
        h("button", { type: "button", class: "button", text: t("rules.moved.reload"), on: { click: () => this.#on.moved() } }),
        h("button", { type: "button", class: "button danger", text: t("rules.moved.save"), on: { click: () => this.#put({}) } }),
      );
      return;
    }
    if (fault.code === "bad_rule") {
      const others = this.#mark(fault.body.faults, this.#draft.rules.map((_, at) => at));
      this.fault.textContent = others[0]?.message ?? t("rules.not_well_formed");
      this.#forms.find((form) => form.field.input.hasAttribute("aria-invalid"))?.field.goTo();
      return;
    }
    this.fault.textContent = faultText(t, fault);
  }

  async #remove() {
    const { api, t } = this.#context;
    const { name } = this.#draft;
    const sure = await ask({
      title: t("rules.delete.title"), body: t("rules.delete.body", { name, count: this.#draft.rules.length }),
      confirm: t("rules.delete"), cancel: t("shell.cancel"), danger: true,
    });
    if (!sure) return;
    try {
      await api.delete(`/v1/rules/${encodeURIComponent(name)}`);
      this.#on.deleted(name);
    } catch (fault) {
      this.fault.textContent = faultText(t, fault);
    }
  }
}
