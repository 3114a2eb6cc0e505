// The one call of this tab. It goes on while other views are shown, and what another page needs to go on with it is kept.

import { CallModel } from "../call/model.js";
import { EarshotCall, openMicrophone } from "../earshot.js";

const KEY = "earshot.phone";
const EVENTS = ["message", "connection", "level", "audiolost", "device", "played", "failed"];

export class PhoneCall extends EventTarget {
  /** The call of this tab, going on or over but not put away; null when there is none. */
  static current = null;
  /** The call that is being started, so that there is never another beside it whose microphone nobody could close. */
  static #starting = null;

  /** What was said so far, and what was made of it: as on the call's page. */
  model = null;
  /** The EarshotCall. */
  line = null;
  /** Role to the latest `speaker` message. */
  speakers = new Map();
  /** The server's last message, once it has come. */
  ended = null;
  /** The file that is played into it; null for a microphone. */
  fileName = null;
  connection = { state: "connecting", keptMs: 0 };
  levels = [];
  /** How much audio there was no room to keep. */
  lostMs = 0;
  deviceLost = false;
  hangingUp = false;
  /** The EarshotError that ended it, if one did. */
  fault = null;
  #pagehide = () => this.#keep();
  #api;

  /** Use `start` or `resume`. */
  constructor(api) {
    super();
    this.#api = api;
    this.appId = api.session.app_id;
  }

  /** The call of this tab, if it is of the app that is signed in now. */
  static of(session) {
    if (PhoneCall.current && PhoneCall.current.appId !== session.app_id) PhoneCall.current.put();
    return PhoneCall.current;
  }

  /** Get `url` and tickets from `api`; sound from devices (`sources.devices`) or a decoded file (`sources.buffer`). Throws EarshotError. */
  static start(api, start, sources) {
    PhoneCall.#starting ??= PhoneCall.#start(api, start, sources).finally(() => (PhoneCall.#starting = null));
    return PhoneCall.#starting;
  }

  static async #start(api, start, sources) {
    const call = new PhoneCall(api);
    call.fileName = sources.fileName ?? null;
    // Before the call is one: a microphone that is refused should cost nothing.
    const streams = sources.buffer ? [] : await microphones(sources.devices);
    try {
      call.#take(await EarshotCall.start({ ...way(api), start }), sources.devices);
      if (sources.buffer) await call.line.play(sources.buffer, { audible: sources.audible });
      else await call.line.listen(streams);
    } catch (fault) {
      for (const stream of streams) for (const track of stream.getTracks()) track.stop();
      if (call.line) call.hangUp();
      throw fault;
    }
    return call;
  }

  /** Go on with what this tab left behind: with its microphones, or (`listen` false) only to hang up. Throws EarshotError. */
  static async resume(api, kept, { listen }) {
    const call = new PhoneCall(api);
    call.fileName = kept.fileName;
    const streams = listen ? await microphones(kept.devices) : [];
    const positionMs = listen ? kept.positionMs + (Date.now() - kept.atMs) : 0;
    try {
      call.#take(await EarshotCall.resume({ ...way(api), saved: kept.saved, positionMs }), kept.devices);
      if (listen) await call.line.listen(streams);
    } catch (fault) {
      for (const stream of streams) for (const track of stream.getTracks()) track.stop();
      if (fault.code === "unknown_call" || fault.code === "not_resumable") PhoneCall.forget();
      throw fault;
    }
    return call;
  }

  /** What this tab left behind of a call of this app that the server still keeps, or null. */
  static left(session) {
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEY));
      const windowMs = (kept?.saved.started.resume_window_s ?? 0) * 1000;
      if (kept?.appId === session.app_id && Date.now() - kept.atMs < windowMs) return kept;
    } catch {
      // Storage may be switched off: then a reload ends the call, by and by.
    }
    PhoneCall.forget();
    return null;
  }

  static forget() {
    try {
      sessionStorage.removeItem(KEY);
    } catch {
      // There is none.
    }
  }

  get id() {
    return this.line.callId;
  }

  get over() {
    return this.line.state === "over";
  }

  hangUp(reason = "hangup") {
    if (this.hangingUp) return;
    this.hangingUp = true;
    this.#tell("changed");
    this.line.hangUp({ reason }).catch(() => {}); // `failed` says so
  }

  /** The first press begins the pause, the next ends it. */
  togglePause() {
    if (this.line.paused) this.line.continue();
    else this.line.pause();
    this.#tell("changed");
  }

  /** Put the call away. */
  put() {
    PhoneCall.current = null;
    PhoneCall.forget();
  }

  #take(line, devices = []) {
    this.line = line;
    this.model = new CallModel(line.callId);
    this.model.hear(line.started);
    this.devices = devices;
    this.connection = { state: line.state, keptMs: line.keptMs };
    for (const type of EVENTS) line.addEventListener(type, ({ detail }) => this.#hear(type, detail));
    addEventListener("pagehide", this.#pagehide);
    PhoneCall.current = this;
    this.#keep();
  }

  #hear(type, detail) {
    if (type === "message") {
      if (detail.type === "ack") this.#keep();
      else if (detail.type === "speaker") this.speakers.set(detail.role, detail);
      else if (detail.type === "ended") this.ended = detail;
      const { kind } = this.model.hear(detail);
      if (kind !== "nothing") this.#tell(kind, detail);
      return;
    }
    // Nobody could hang up any more, and the microphone would stay open behind the sign-in form.
    if (type === "level" && !this.#api.session) this.hangUp("signed_out");
    if (type === "connection") this.connection = detail;
    else if (type === "level") this.levels = detail.peaksDb;
    else if (type === "audiolost") this.lostMs += detail.toMs - detail.fromMs;
    else if (type === "device") this.deviceLost = true;
    else if (type === "failed") this.fault = detail;
    else if (type === "played") this.hangUp();
    if (this.over) {
      removeEventListener("pagehide", this.#pagehide);
      PhoneCall.forget();
    }
    this.#tell(type === "level" ? type : "changed", detail);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #keep() {
    if (this.over) return;
    const { saved, positionMs } = this.line;
    try {
      const { appId, devices, fileName } = this;
      sessionStorage.setItem(KEY, JSON.stringify({ appId, saved, positionMs, atMs: Date.now(), devices, fileName }));
    } catch {
      // Storage may be switched off: see `left`.
    }
  }
}

/** Where calls go and how they are let in. */
function way(api) {
  return { url: api.session.call_url, ticket: () => api.ticket("call") };
}

async function microphones(devices) {
  const streams = [];
  try {
    for (const device of devices) streams.push(await openMicrophone(device));
  } catch (fault) {
    for (const stream of streams) for (const track of stream.getTracks()) track.stop();
    throw fault;
  }
  return streams;
}
