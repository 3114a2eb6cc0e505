/**
 * earshot.js: calls into Earshot from a web page. No dependencies, no build; copy nothing, import it from your server:
 *
 *     import { EarshotCall } from "https://earshot.example.com/earshot.js";
 *     const call = await EarshotCall.start({ url: "wss://earshot.example.com:8081/v1/calls", ticket: () => fetch("/my-ticket").then((r) => r.text()) });
 *     call.addEventListener("transcript", ({ detail }) => console.log(detail.role, detail.text)); await call.microphone();
 *
 * and `call.hangUp()` in the end. `/my-ticket` is yours: it asks `POST /v1/tickets {"purpose": "call"}` with your app's
 * secret, which never reaches the page, and answers the ticket. It is asked again for each new connection, since a ticket
 * opens one. The page's origin has to be among the server's `origins`.
 *
 * The call outlives its connection. What the server has not acknowledged is kept (`keepSeconds`) and sent again, in
 * order, on a new socket; waits between attempts grow and are random. The whole: docs/screen.md, docs/protocol.md.
 *
 * Events. Each message of the server, under its type (`transcript`, `speaker`, `alert`, `qc_result`, `ended`, `error` ...)
 * and as `message`, each once and in order, with the message in `detail`. And ours:
 *
 * - `connection` {state, keptMs, attempt, retryInMs, code}: `live`; `lost`: no connection, audio is kept, next attempt in
 *   `retryInMs`; `held`: the server takes no audio for now, it is kept.
 * - `level` {peaksDb}: how loud each channel was in the last 40 ms, -90 to 0.
 * - `audiolost` {fromMs, toMs}: there was no room to keep this; the recording has a gap (`raw`: silence) there.
 * - `device` {channel}: the microphone of this channel is gone; silence in its place.
 * - `played`: a file is at its end.
 * - `failed` {code, message}: nothing more will come. The call, if it still is one, is hung up by the server in time.
 */
import { Capture, decodeFile, openMicrophone } from "./earshot/capture.js";
import { Connection } from "./earshot/connection.js";
import { EarshotError } from "./earshot/line.js";
import { Outbox } from "./earshot/outbox.js";

export { audioInputs, decodeFile, openMicrophone } from "./earshot/capture.js";
export { EarshotError } from "./earshot/line.js";

/** The server takes holes of up to 120 s. */
const MOST_HOLE_S = 100;
const DIVIDER_MS = 20;
const SILENCE = { pcm_s16le: 0, pcmu: 0xff, pcma: 0xd5 };

export class EarshotCall extends EventTarget {
  /** The terms of the call, as sent in `start`. */
  terms;
  /** `ended` of the server; rejects with the EarshotError of `failed`. */
  ended;
  #bytesPerInstant;
  #outbox;
  #connection;
  #capture = null;
  #paused = false;
  #hungUp = false;
  #hangingUp = null;

  /**
   * Start a call and resolve when the server has it.
   *
   * `url`: of `/v1/calls`, or several, one for each node of a cluster. `ticket`: an async function that gets a fresh one.
   * `start`: fields of the `start` message (rate, channels, roles, language, metadata ...), framing `framed` unless said
   * otherwise. `keepSeconds`: audio kept at most while it cannot be sent. `patienceSeconds`: how long a broken
   * connection is tried again, by default the server's resume window and two minutes for it to start anew.
   * Throws EarshotError.
   */
  static async start({ url, ticket, start = {}, keepSeconds, patienceSeconds }) {
    const call = new EarshotCall({ url, ticket, start, keepSeconds, patienceSeconds });
    await call.#connection.open();
    return call;
  }

  /**
   * Go on with a call that another page began, by what its `saved` was there. All its messages come again. `positionMs`:
   * where the call's time stands by now; what the server lacks up to there is a gap in the recording. Without it the call
   * goes on where the server is. Throws EarshotError, `unknown_call` when it is too late.
   */
  static async resume({ url, ticket, saved, positionMs = 0, keepSeconds, patienceSeconds }) {
    const call = new EarshotCall({ url, ticket, start: saved.start, keepSeconds, patienceSeconds });
    await call.#connection.open({ started: saved.started, positionBytes: call.#bytes(positionMs) });
    return call;
  }

  /** @private Use `start` or `resume`. */
  constructor({ start, keepSeconds = 300, ...connection }) {
    super();
    this.terms = { encoding: "pcm_s16le", rate: 16000, channels: 1, framing: "framed", ...start };
    const { encoding, rate, channels, framing } = this.terms;
    this.#bytesPerInstant = channels * (encoding === "pcm_s16le" ? 2 : 1);
    this.#outbox = new Outbox({
      framed: framing === "framed",
      silence: SILENCE[encoding],
      maxBytes: this.#bytes(keepSeconds * 1000),
      maxHoleBytes: this.#bytes(MOST_HOLE_S * 1000),
      shortBytes: this.#bytes(DIVIDER_MS),
    });
    this.#connection = new Connection(
      { ...connection, terms: this.terms, bytesPerInstant: this.#bytesPerInstant, outbox: this.#outbox },
      {
        onMessage: (message) => this.#pass(message),
        onState: (more) => this.#tellState(more),
        onEnd: (fault) => this.#end(fault),
      },
    );
    this.ended = new Promise((resolve, reject) => {
      this.addEventListener("ended", ({ detail }) => resolve(detail), { once: true });
      this.addEventListener("failed", ({ detail }) => reject(detail), { once: true });
    });
    this.ended.catch(() => {}); // whoever does not ask is told by `failed`
  }

  /** The server's `started` or, of a call that another page began, what it was there. */
  get started() {
    return this.#connection.started;
  }

  get callId() {
    return this.started.call_id;
  }

  /** What another page needs to go on with this call: plain data, `resume_token` in it, so keep it to yourself. */
  get saved() {
    return { start: this.terms, started: this.started };
  }

  /** `live`, `lost` (no connection), `held` (the server takes nothing for now) or `over`. */
  get state() {
    return this.#connection.state;
  }

  /** Audio that the server does not have for certain. */
  get keptMs() {
    return this.#ms(this.#outbox.keptBytes);
  }

  /** Audio said so far: the media clock of what is said next. */
  get positionMs() {
    return this.#ms(this.#outbox.endByte);
  }

  get paused() {
    return this.#paused;
  }

  // --- sound ---

  /**
   * Send a microphone; of a two-channel call two: `{devices: [agentId, customerId]}`, ids of `audioInputs()`.
   * `constraints` go to getUserMedia. Throws EarshotError (`microphone_refused`, `no_microphone`, `microphone_busy`).
   */
  async microphone({ devices = [], constraints } = {}) {
    const streams = [];
    try {
      for (let channel = 0; channel < this.terms.channels; channel += 1) {
        streams.push(await openMicrophone(devices[channel], constraints));
      }
      await this.listen(streams);
    } catch (fault) {
      for (const stream of streams) for (const track of stream.getTracks()) track.stop();
      throw fault;
    }
  }

  /** Send MediaStreams, one for each channel: what `openMicrophone` gave, or the far end of another call. */
  async listen(streams) {
    await this.#take(() =>
      Capture.ofStreams(streams, {
        rate: this.terms.rate,
        onAudio: (audio) => this.#hear(audio),
        onLost: (channel) => this.#tell("device", { channel }),
      }),
    );
  }

  /** Send a file (a Blob, or what `decodeFile` made of it) at the speed of speech; `played` follows its last sample. */
  async play(file, { audible = false } = {}) {
    const { rate, channels } = this.terms;
    const buffer = file instanceof AudioBuffer ? file : await decodeFile(file, rate);
    await this.#take(() =>
      Capture.ofBuffer(buffer, {
        rate,
        channels,
        audible,
        onAudio: (audio) => this.#hear(audio),
        onEnded: () => this.#tell("played"),
      }),
    );
  }

  /** Send sound of your own: whole instants of the call's encoding, channels interleaved. */
  sendAudio(pcm) {
    const given = pcm instanceof ArrayBuffer ? new Uint8Array(pcm) : new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength);
    if (given.length % this.#bytesPerInstant) {
      throw new RangeError(`${given.length} bytes are no whole instants of ${this.#bytesPerInstant} bytes`);
    }
    if (this.#connection.over || this.#hungUp) return;
    const bytes = given.slice();
    // In a pause silence keeps the time, and nothing that is said leaves the page.
    if (this.#paused) bytes.fill(SILENCE[this.terms.encoding]);
    const fromMs = this.positionMs;
    if (!this.#outbox.keep(bytes)) this.#tell("audiolost", { fromMs, toMs: this.positionMs });
    this.#connection.pump();
  }

  /** Let go of microphone or file; the call goes on, and expects other sound within 15 s. */
  async stopAudio() {
    const capture = this.#capture;
    this.#capture = null;
    await capture?.stop();
  }

  // --- messages ---

  /** Change `language`, `roles`, `metadata` or `categories` of the running call. */
  update(fields) {
    this.#say({ ...fields, type: "update" });
  }

  /** Until `continue`, nothing that is said leaves the page: for card numbers. */
  pause() {
    this.#say({ type: "pause" });
    this.#paused = true;
  }

  continue() {
    this.#say({ type: "continue" });
    this.#paused = false;
  }

  /** A key pressed: 0-9, A-D, * or #. */
  dtmf(digit) {
    if (!/^[0-9A-D*#]$/.test(digit)) throw new RangeError(`no key of a phone: ${digit}`);
    this.#say({ type: "dtmf", digit });
  }

  /** A named point of the call. */
  mark(name) {
    this.#say({ type: "mark", name });
  }

  /** A sentence that the page recognised itself; times on the call's media clock (`positionMs`). */
  transcript({ text, beginMs, endMs, channel = 0 }) {
    this.#say({ type: "transcript", text, begin_ms: beginMs, end_ms: endMs, channel });
  }

  /** End the call, after what is still on its way; messages go on until `ended`, which this promises. */
  hangUp({ reason = "hangup", waitQcMs = 180_000 } = {}) {
    this.#hangingUp ??= this.#hangUp({ type: "hangup", reason, wait_qc_ms: waitQcMs });
    return this.#hangingUp;
  }

  /** Leave without hanging up: the server keeps the call for its resume window. */
  async leave() {
    this.#connection.end(new EarshotError("left", "this page has left the call"));
    await this.stopAudio();
  }

  // --- what is sent ---

  async #hangUp(hangup) {
    await this.stopAudio(); // what was said last goes first
    this.#say(hangup);
    this.#hungUp = true;
    return this.ended;
  }

  #bytes(ms) {
    return Math.round((ms * this.terms.rate) / 1000) * this.#bytesPerInstant;
  }

  #ms(bytes) {
    return Math.round((bytes / this.#bytesPerInstant / this.terms.rate) * 1000);
  }

  async #take(open) {
    if (this.terms.encoding !== "pcm_s16le") throw new RangeError("microphones and files need encoding pcm_s16le");
    await this.stopAudio();
    const capture = await open();
    const over = this.#connection.over || this.#hungUp;
    // Another may have been opened meanwhile, and two would talk over one another.
    const needless = over ? capture : this.#capture;
    if (!over) this.#capture = capture;
    await needless?.stop();
  }

  #hear({ pcm, peaks }) {
    this.sendAudio(pcm);
    this.#tell("level", { peaksDb: peaks.map((peak) => Math.max(-90, 20 * Math.log10(peak / 32768))) });
  }

  #say(message) {
    if (this.#connection.over) throw this.#connection.over;
    if (this.#hungUp) throw new EarshotError("unexpected_message", "the call is hung up");
    this.#outbox.addControl(JSON.stringify(message));
    this.#connection.pump();
  }

  // --- what is told ---

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #pass(message) {
    this.#tell("message", message);
    this.#tell(message.type, message);
  }

  #tellState(more = {}) {
    this.#tell("connection", { state: this.state, keptMs: this.keptMs, ...more });
  }

  #end(fault) {
    this.stopAudio();
    if (fault) this.#tell("failed", fault);
    this.#tellState();
  }
}
