// Get a recording, see how good it is, and say what is to be done with it.

import { aria, fill, h, setText } from "../dom.js";
import { clock } from "../format.js";
import { flaws, recordingOf, Recorder } from "./recording.js";
import { audioInputs } from "../earshot.js";

const GOOD_SPEECH_MS = 10_000;

export class RecorderPanel {
  #t;
  #maybe;
  #recorder = null;
  #recording = null;
  #address = null;

  /** `onEnrol(name, file, mode)` and `onRecognize(file)` when somebody wants that. */
  constructor({ t, maybe, announce }, { onEnrol, onRecognize }) {
    this.#t = t;
    this.#maybe = maybe;
    this.announce = announce;
    this.on = { onEnrol, onRecognize };
    this.element = h("section", { class: "panel voices-recorder", aria: { label: t("voices.recording") } },
      h("h2", { text: t("voices.recording") }),
      this.#sources(),
      (this.fault = h("p", { class: "fault", role: "alert" })),
      (this.readout = h("div", { class: "voices-readout", hidden: true })),
      (this.player = h("audio", { class: "voices-player", controls: true, hidden: true, aria: { label: t("voices.listen") } })),
      this.#actions(),
    );
    this.#list();
    this.#draw();
  }

  close() {
    this.closed = true;
    this.#recorder?.stop();
    this.#release();
  }

  /** Prepare to give a voice that exists another recording. */
  prepare(name, mode) {
    this.name.value = name;
    this.mode.value = mode;
    (this.#recording ? this.enrol : this.record).focus();
    this.announce(this.#t(`voices.prepared.${mode}`, { name }));
  }

  /** While a request is under way nothing else may be asked. */
  busy(is) {
    this.working = is;
    this.#draw();
  }

  /** The recording has been used; the next voice needs another. */
  clear() {
    this.#take(null);
    this.name.value = "";
    this.mode.value = "new";
  }

  #sources() {
    const t = this.#t;
    const change = () => this.#load(this.file.files[0]);
    this.file = h("input", { type: "file", accept: "audio/*,video/*", class: "phone-file", on: { change } });
    const zone = h("label", { class: "phone-drop" }, this.file,
      h("span", { class: "phone-drop-name", text: t("voices.drop") }), h("span", { class: "hint", text: t("voices.drop.hint") }));
    const over = (is) => (event) => {
      event.preventDefault();
      zone.classList.toggle("over", is);
    };
    zone.addEventListener("dragover", over(true));
    zone.addEventListener("dragleave", over(false));
    zone.addEventListener("drop", (event) => {
      over(false)(event);
      this.#load(event.dataTransfer.files[0]);
    });
    return h("div", { class: "voices-sources" },
      h("div", { class: "voices-microphone" },
        h("label", {}, h("span", { class: "label", text: t("voices.device") }),
          (this.device = h("select", { class: "select phone-wide" }, h("option", { value: "", text: t("voices.device.default") })))),
        (this.record = h("button", { type: "button", class: "button phone-big", on: { click: () => this.#toggle() } })),
        h("p", { class: "hint", text: t("voices.record.hint") }),
      ),
      zone,
    );
  }

  #actions() {
    const t = this.#t;
    const submit = (event) => {
      event.preventDefault();
      const name = this.name.value.trim();
      setText(this.fault, name ? "" : t("voices.name.missing"));
      if (name) this.on.onEnrol(name, this.#recording.file, this.mode.value);
      else this.name.focus();
    };
    return h("div", { class: "voices-actions" },
      h("form", { class: "voices-enrol", on: { submit } },
        h("label", {}, h("span", { class: "label", text: t("voices.name") }),
          h("input", { class: "input", type: "text", maxlength: 128, autocomplete: "off", ref: (one) => (this.name = one) })),
        h("label", {}, h("span", { class: "label", text: t("voices.mode") }),
          h("select", { class: "select phone-wide", ref: (one) => (this.mode = one) },
            ["new", "add", "replace"].map((mode) => h("option", { value: mode, text: t(`voices.mode.${mode}`) })))),
        (this.enrol = h("button", { type: "submit", class: "button primary", text: t("voices.enrol") })),
      ),
      (this.recognize = h("button", {
        type: "button", class: "button", text: t("voices.recognize"), on: { click: () => this.on.onRecognize(this.#recording.file) },
      })),
    );
  }

  async #list() {
    const inputs = (await audioInputs()).filter((one) => one.deviceId && one.deviceId !== "default" && one.label);
    const chosen = this.device.value;
    const named = inputs.map((one) => h("option", { value: one.deviceId, text: one.label }));
    fill(this.device, h("option", { value: "", text: this.#t("voices.device.default") }), named);
    this.device.value = chosen;
  }

  async #toggle() {
    setText(this.fault, "");
    if (this.#recorder) {
      await this.#finish();
      return;
    }
    if (this.starting) return; // the browser still asks for the microphone
    this.starting = true;
    this.#take(null);
    try {
      this.#recorder = await Recorder.start(this.device.value, {
        onHeard: (quality, peakDb) => this.#show(quality, peakDb),
        onFull: () => this.#finish(),
      });
      if (this.closed) this.#recorder.stop(); // somebody left while the browser asked for the microphone
      this.#list();
    } catch (fault) {
      this.#failed(fault);
    }
    this.starting = false;
    this.#draw();
  }

  async #finish() {
    const recorder = this.#recorder;
    this.#recorder = null;
    if (recorder) this.#take(await recorder.stop());
  }

  async #load(file) {
    if (!file) return;
    setText(this.fault, "");
    this.#take(null);
    this.chosen = file;
    try {
      const recording = await recordingOf(file);
      if (this.chosen === file) this.#take(recording); // else another was chosen while this one was read
    } catch (fault) {
      this.#failed(fault);
    }
    this.file.value = "";
  }

  #failed(fault) {
    setText(this.fault, this.#maybe(`voices.fault.${fault.code}`, fault.message));
  }

  #take(recording) {
    if (this.closed) return; // nobody would let its address go
    this.#recording = recording;
    this.#release();
    this.player.hidden = !recording;
    if (recording) {
      this.#address = URL.createObjectURL(recording.file);
      this.player.src = this.#address;
      this.#show(recording.quality);
      this.announce(this.readout.textContent);
    } else {
      this.player.removeAttribute("src");
      this.readout.hidden = true;
    }
    this.#draw();
  }

  #release() {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = null;
  }

  #draw() {
    const t = this.#t;
    setText(this.record, t(this.#recorder ? "voices.record.stop" : "voices.record"));
    aria(this.record, "pressed", Boolean(this.#recorder));
    this.record.classList.toggle("phone-hangup", Boolean(this.#recorder));
    this.enrol.disabled = this.recognize.disabled = !this.#recording || Boolean(this.working);
    this.record.disabled = Boolean(this.working);
  }

  /** How good it is; while it is recorded with the level of now. */
  #show(quality, peakDb) {
    const t = this.#t;
    this.readout.hidden = false;
    if (!quality) {
      fill(this.readout, h("p", { class: "hint", text: t("voices.quality.unread") }));
      return;
    }
    const found = flaws(quality);
    const figure = (name, value, bad) => h("div", { class: ["voices-figure", bad && "bad"] },
      h("dt", { text: t(`voices.quality.${name}`) }), h("dd", { class: "number", text: value }));
    fill(this.readout,
      h("dl", { class: "voices-figures" },
        figure("duration", clock(quality.durationMs)),
        figure("speech", t("voices.quality.seconds", { seconds: (quality.speechMs / 1000).toFixed(1) }), quality.speechMs < 1000),
        figure("level", t("voices.quality.db", { db: quality.levelDb.toFixed(0) }), quality.levelDb < -50),
        figure("clipped", `${(quality.clippedShare * 100).toFixed(1)} %`, quality.clippedShare > 0.05),
      ),
      peakDb === undefined ? this.#advice(quality, found) : this.#level(peakDb),
    );
  }

  #advice(quality, found) {
    const t = this.#t;
    if (found.length) return h("ul", { class: "voices-advice" }, found.map((one) => h("li", { text: t(`voices.advice.${one}`) })));
    return h("p", { class: "voices-good", text: t(quality.speechMs < GOOD_SPEECH_MS ? "voices.advice.usable" : "voices.advice.good") });
  }

  #level(peakDb) {
    const bar = h("span", { class: "phone-meter-bar", style: { transform: `scaleX(${Math.max(0, 1 + peakDb / 60)})` } });
    const told = { label: this.#t("voices.level"), valuemin: -90, valuemax: 0, valuenow: Math.round(peakDb) };
    return h("div", { class: "phone-meter", role: "meter", aria: told }, bar);
  }
}
