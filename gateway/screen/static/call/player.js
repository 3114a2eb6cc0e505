// Plays the recording, fetched piece by piece as it is heard.

import { aria, h, setText } from "../dom.js";
import { clock } from "../format.js";

const SPEEDS = [0.75, 1, 1.25, 1.5, 2];
const SKIP_MS = 5000;
const LOOK_AGAIN_MS = 1500;
const LEAST_SKIPPED_MS = 800;
/** So much of a silence is heard before and after what is skipped. */
const EDGE_MS = 200;

export class Player {
  /** `url`: of the WAV; `on`: `position(ms, playing)`, `state(state)`. */
  constructor({ t, announce }, url, on) {
    this._t = t;
    this._announce = announce;
    this._url = url;
    this._on = on;
    /** "waiting" for the hangup, "sealing", "ready", "gone", "elsewhere" (at a node that keeps its own), or "failed". */
    this.state = "waiting";
    this._silences = [];
    this._wantedMs = 0;
    this._audio = h("audio", { preload: "metadata", class: "unseen" });
    for (const type of ["play", "pause", "ended", "ratechange"]) this._audio.addEventListener(type, () => this._changed());
    for (const type of ["timeupdate", "seeked"]) this._audio.addEventListener(type, () => this._tell());
    this._audio.addEventListener("durationchange", () => this._changed());
    this._audio.addEventListener("error", () => this._audio.src && this._become("failed"));
    this._build();
    this._changed();
  }

  close() {
    clearTimeout(this._timer);
    cancelAnimationFrame(this._frame);
    this._closed = true;
    this._audio.pause();
    this._audio.removeAttribute("src");
    this._audio.load();
  }

  _build() {
    const t = this._t;
    const button = (name, text, act) => h("button", {
      type: "button", class: "button", data: { play: name }, title: t(`call.player.${name}`), aria: { label: t(`call.player.${name}`) },
      text, on: { click: act },
    });
    this._toggle = button("play", "▶", () => this.toggle());
    this._time = h("span", { class: "number call-clock", role: "timer", text: "0:00" });
    this._note = h("p", { class: "hint", role: "status" });
    this._skips = h("input", { type: "checkbox" });
    this._speed = h("select", {
      class: "select", aria: { label: t("call.player.speed") }, on: { change: () => this._setSpeed(Number(this._speed.value)) },
    }, SPEEDS.map((speed) => h("option", { value: speed, text: `${speed}×`, selected: speed === 1 })));
    this._controls = h("fieldset", { class: "call-controls", disabled: true },
      h("legend", { class: "unseen", text: t("call.player.title") }),
      this._toggle, button("back", "−5", () => this.skip(-SKIP_MS)), button("forward", "+5", () => this.skip(SKIP_MS)),
      this._time, this._speed, h("label", { class: "call-check" }, this._skips, t("call.player.skip_silence")),
    );
    this.element = h("section", { class: "panel call-player", aria: { label: t("call.player.title") } }, this._audio, this._controls, this._note);
  }

  /** Take over what the call is now; `silences` are stretches that may be skipped. */
  update(model, silences) {
    this._silences = silences;
    this._over = model.over;
    if (!model.live && (this.state === "waiting" || (this.state === "gone" && !this._over))) this._look();
    this._changed();
  }

  /** Ask whether the recording is there. It is sealed shortly after the hangup. */
  async _look() {
    if (this._looking) return;
    this._looking = true;
    this._become("sealing");
    const found = await this._found();
    this._looking = false;
    if (this._closed) return;
    if (found === "ready") this._audio.src = this._url;
    if (found) this._become(found);
    else this._timer = setTimeout(() => this._look(), LOOK_AGAIN_MS);
  }

  /** The state that follows from asking for the first byte, or nothing yet. */
  async _found() {
    try {
      const answer = await fetch(this._url, { headers: { Range: "bytes=0-0" }, credentials: "same-origin" });
      if (answer.ok) return "ready";
      if (answer.status === 404) return "gone";
      return (await answer.json()).code === "recording_elsewhere" ? "elsewhere" : "";
    } catch {
      return ""; // not reached, or a proxy's own words: asked again
    }
  }

  _become(state) {
    this.state = state;
    this._on.state(state);
    this._changed();
    if (state === "ready" && this._wantedMs) this._audio.currentTime = this._wantedMs / 1000;
  }

  get ready() {
    return this.state === "ready";
  }

  get playing() {
    return this.ready && !this._audio.paused && !this._audio.ended;
  }

  get positionMs() {
    return this.ready ? this._audio.currentTime * 1000 : this._wantedMs;
  }

  seek(ms) {
    this._wantedMs = ms;
    if (this.ready) this._audio.currentTime = ms / 1000;
    this._tell();
  }

  skip(ms) {
    this.seek(Math.max(0, Math.min(this.positionMs + ms, (this._audio.duration || Infinity) * 1000)));
  }

  async play() {
    if (!this.ready) return;
    try {
      await this._audio.play();
    } catch (fault) {
      // A browser may ask for a click first, and a pause meanwhile is no fault.
      if (fault.name === "NotAllowedError") this._announce(this._t("call.player.blocked"));
      else if (fault.name !== "AbortError") this._become("failed");
    }
  }

  toggle() {
    if (this.playing) this._audio.pause();
    else this.play();
  }

  _setSpeed(speed) {
    this._audio.playbackRate = speed;
  }

  _changed() {
    const { playing } = this;
    this._controls.disabled = !this.ready;
    setText(this._toggle, playing ? "❚❚" : "▶");
    const name = this._t(playing ? "call.player.pause" : "call.player.play");
    aria(this._toggle, "label", name);
    this._toggle.title = name;
    setText(this._note, this.ready ? "" : this._t(`call.player.${this.state}`));
    this._note.hidden = this.ready;
    this._tell();
    cancelAnimationFrame(this._frame);
    if (playing) this._frame = requestAnimationFrame(() => this._run());
  }

  _run() {
    if (!this.playing) return;
    if (this._skips.checked) this._skipSilence();
    this._tell();
    this._frame = requestAnimationFrame(() => this._run());
  }

  _skipSilence() {
    const ms = this.positionMs;
    const within = this._silences.find((one) => one.begin_ms + EDGE_MS <= ms && ms < one.end_ms - EDGE_MS);
    if (within && within.end_ms - EDGE_MS - ms > LEAST_SKIPPED_MS) this.seek(within.end_ms - EDGE_MS);
  }

  _tell() {
    const duration = this._audio.duration;
    setText(this._time, Number.isFinite(duration) ? `${clock(this.positionMs)} / ${clock(duration * 1000)}` : clock(this.positionMs));
    this._on.position(this.positionMs, this.playing);
  }
}
