// What is to be called with: devices or a file, who speaks where, in which language.

import { audioInputs, decodeFile, openMicrophone } from "../earshot.js";
import { fill, h, setText } from "../dom.js";
import { clock } from "../format.js";
import { faultText } from "./faults.js";

const RATE_HZ = 16000;
const LANGUAGES = ["auto", "en", "zh"];
const MONO_ROLES = ["mixed", "agent", "customer"];
const DRAGGING = ["dragover", "dragleave", "drop"];
const STEREO_ROLES = ["agent,customer", "customer,agent"];

export class Setup {
  #t;
  #maybe;
  #file = null;

  /** `onCall({start, sources})` when somebody wants to call. */
  constructor({ t, maybe, announce }, onCall) {
    this.#t = t;
    this.#maybe = maybe;
    this.announce = announce;
    const submit = (event) => this.#submit(event, onCall);
    this.element = h("form", { class: "phone-setup panel", aria: { label: t("phone.setup") }, on: { submit } },
      this.#sources(),
      h("div", { class: "phone-fields" }, this.#language(), this.#roles(), this.#agent()),
      (this.fault = h("p", { class: "fault", role: "alert" })),
      (this.button = h("button", { type: "submit", class: "button primary phone-big", text: t("phone.call") })),
    );
    this.#offer([]);
    this.#choose("microphone");
    this.#list();
    this.changed = () => this.#list();
    navigator.mediaDevices?.addEventListener("devicechange", this.changed);
    for (const type of DRAGGING) document.addEventListener(type, this.#dragged);
  }

  close() {
    navigator.mediaDevices?.removeEventListener("devicechange", this.changed);
    for (const type of DRAGGING) document.removeEventListener(type, this.#dragged);
  }

  /** A file may be dropped anywhere on the page; its place shows that it is welcome. */
  #dragged = (event) => {
    if (!event.dataTransfer?.types.includes("Files") || this.button.disabled) return;
    event.preventDefault();
    const leaves = event.type === "dragleave" && event.relatedTarget === null;
    this.zone.classList.toggle("over", event.type !== "drop" && !leaves);
    if (event.type !== "drop") return;
    this.#choose("file");
    this.#load(event.dataTransfer.files[0]);
  };

  /** Say why it did not work, and let it be tried again. */
  failed(fault) {
    this.button.disabled = false;
    setText(this.button, this.#t("phone.call"));
    setText(this.fault, faultText(this.#t, this.#maybe, fault));
    this.#list();
  }

  // --- the parts ---

  #sources() {
    const t = this.#t;
    const choice = (name) => h("label", { class: "phone-choice" },
      (this[`${name}Choice`] = h("input", { type: "radio", name: "source", value: name, on: { change: () => this.#choose(name) } })),
      t(`phone.source.${name}`),
    );
    return h("fieldset", {},
      h("legend", { class: "label", text: t("phone.source") }),
      h("div", { class: "phone-choices" }, choice("microphone"), choice("file")),
      (this.microphonePart = h("div", { class: "phone-fields" },
        this.#select("agent", t("phone.device.first")),
        this.#select("customer", t("phone.device.second")),
        (this.reveal = h("button", {
          type: "button", class: "button", text: t("phone.device.reveal"), on: { click: () => this.#reveal() },
        })),
      )),
      (this.filePart = this.#drop()),
    );
  }

  #select(name, label) {
    return h("label", {}, h("span", { class: "label", text: label }),
      h("select", { class: "select phone-wide", ref: (one) => (this[name] = one), on: { change: () => this.#adapt() } }));
  }

  #drop() {
    const t = this.#t;
    const change = () => this.#load(input.files[0]);
    const input = h("input", { type: "file", accept: "audio/*,video/*", class: "phone-file", on: { change } });
    this.zone = h("label", { class: "phone-drop" },
      input,
      h("span", { class: "phone-drop-name", text: t("phone.file.drop"), ref: (one) => (this.fileName = one) }),
      h("span", { class: "hint", text: t("phone.file.hint"), ref: (one) => (this.fileHint = one) }),
    );
    return h("div", { class: "phone-file-part" }, this.zone,
      h("label", { class: "phone-choice" }, h("input", { type: "checkbox", ref: (one) => (this.audible = one) }), t("phone.file.audible")));
  }

  #language() {
    const t = this.#t;
    return h("label", {}, h("span", { class: "label", text: t("phone.language") }),
      h("select", { class: "select phone-wide", ref: (one) => (this.language = one) },
        LANGUAGES.map((code) => h("option", { value: code, text: t(`phone.language.${code}`) }))));
  }

  #roles() {
    return h("label", {}, h("span", { class: "label", text: this.#t("phone.roles") }),
      h("select", { class: "select phone-wide", ref: (one) => (this.roles = one) }));
  }

  #agent() {
    return h("label", {}, h("span", { class: "label", text: this.#t("phone.agent") }),
      h("input", { class: "input", type: "text", maxlength: 128, autocomplete: "off", ref: (one) => (this.agentName = one) }),
      h("span", { class: "hint", text: this.#t("phone.agent.hint") }));
  }

  // --- what is chosen ---

  #choose(name) {
    this.source = name;
    this[`${name}Choice`].checked = true;
    this.microphonePart.hidden = name !== "microphone";
    this.filePart.hidden = name !== "file";
    this.#adapt();
  }

  get #channels() {
    if (this.source === "file") return Math.min(2, this.#file?.buffer.numberOfChannels ?? 1);
    return this.customer.value === "none" || !this.customer.value ? 1 : 2;
  }

  /** Who speaks where depends on how many channels there are. */
  #adapt() {
    if (!this.roles) return;
    const known = this.#channels === 2 ? STEREO_ROLES : MONO_ROLES;
    if (this.roles.dataset.known === known.join()) return;
    this.roles.dataset.known = known.join();
    fill(this.roles, known.map((roles) => h("option", { value: roles, text: this.#t(`phone.roles.${roles}`) })));
  }

  async #list() {
    this.#offer((await audioInputs()).filter((one) => one.deviceId && one.deviceId !== "default"));
    this.#adapt();
  }

  #offer(inputs) {
    const t = this.#t;
    const nameOf = (one, at) => one.label || t("phone.device.number", { number: at + 1 });
    const named = inputs.map((one, at) => h("option", { value: one.deviceId, text: nameOf(one, at) }));
    const [agent, customer] = [this.agent.value, this.customer.value];
    fill(this.agent, h("option", { value: "", text: t("phone.device.default") }), named);
    fill(this.customer, h("option", { value: "none", text: t("phone.device.none") }), named.map((one) => one.cloneNode(true)));
    if (agent) this.agent.value = agent;
    if (customer) this.customer.value = customer;
    this.reveal.hidden = inputs.some((one) => one.label);
  }

  /** Names of devices are for pages that may use one: ask for it. */
  async #reveal() {
    setText(this.fault, "");
    try {
      for (const track of (await openMicrophone()).getTracks()) track.stop();
      await this.#list();
      this.agent.focus();
    } catch (fault) {
      this.failed(fault);
    }
  }

  async #load(file) {
    if (!file) return;
    const t = this.#t;
    setText(this.fault, "");
    this.#file = null;
    this.chosen = file;
    setText(this.fileName, file.name);
    setText(this.fileHint, t("phone.file.reading"));
    try {
      const buffer = await decodeFile(file, RATE_HZ);
      if (this.chosen !== file) return; // another was chosen while this one was read
      this.#file = { name: file.name, buffer };
      const told = { length: clock(buffer.duration * 1000), count: Math.min(2, buffer.numberOfChannels) };
      setText(this.fileHint, t("phone.file.ready", told));
      this.announce(`${file.name}: ${t("phone.file.ready", told)}`);
    } catch (fault) {
      setText(this.fileHint, t("phone.file.hint"));
      this.failed(fault);
    }
    this.#adapt();
  }

  #submit(event, onCall) {
    event.preventDefault();
    const t = this.#t;
    setText(this.fault, "");
    if (this.source === "file" && !this.#file) {
      setText(this.fault, t("phone.file.missing"));
      return;
    }
    this.button.disabled = true;
    setText(this.button, t("phone.calling"));
    const channels = this.#channels;
    const agent = this.agentName.value.trim();
    const [language, roles] = [this.language.value, this.roles.value.split(",")];
    const start = { rate: RATE_HZ, channels, language, roles, metadata: agent ? { agent } : {} };
    const devices = [this.agent.value, this.customer.value].slice(0, channels);
    const file = this.#file && { buffer: this.#file.buffer, fileName: this.#file.name, audible: this.audible.checked };
    onCall({ start, sources: this.source === "file" ? { devices: [], ...file } : { devices } });
  }
}
