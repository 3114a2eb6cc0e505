/**
 * A call's connection: it outlives its sockets and the server's process. What protocol/client.py does for Python.
 *
 * Each message is handed on once and in order. What the server has not acknowledged is kept in the outbox, and sent again
 * behind `resume` on the next socket.
 */
import { EarshotError, Line } from "./line.js";

const FIRST_RETRY_MS = 100;
const MOST_RETRY_MS = 5_000;
/** What a server may take to be there again. Its resume window counts from then. */
const RESTART_MS = 120_000;
const TICKET_TIMEOUT_MS = 10_000;
/** Close code of a server that shuts down: another node, if there is one, is the better place to come back to. */
const GOING_AWAY = 1012;
/** Close codes that follow an `error`. */
const COMPLAINTS = new Set([1007, 1008]);
/** Refusals that are about one message of ours, which is not sent again; all other faults of ours would come again. */
const MESSAGE_REFUSED = new Set(["bad_json", "unknown_type", "bad_message", "said_too_much"]);
/** How much the browser may hold for the network; what is beyond that stays here, where acks can take it away. */
const MOST_BUFFERED_BYTES = 64 * 1024;
const FLUSH_MS = 50;
const FRAME_MS = 500;

export class Connection {
  /** The server's `started`; of a call that another page began, what it was there. */
  started = null;
  /** Why nothing more will come, once that is so. */
  over = null;
  #terms;
  #bytesPerInstant;
  #outbox;
  #urls;
  #ticket;
  #patienceMs;
  #onMessage;
  #onState;
  #onEnd;
  #line = null;
  #flowing = true;
  #lastSeq = 0;
  /** The last `error`, if it is of the kind that would come again. */
  #complaint = null;
  #flushing = null;
  #wake = () => {};
  #hearOnline = () => this.#wake();

  /**
   * `onMessage(message)` gets the server's messages, `onState(more)` hears of each change of `state`, and `onEnd(fault)`
   * that it is over; `fault` is null after `ended`.
   */
  constructor({ terms, bytesPerInstant, outbox, url, ticket, patienceSeconds }, { onMessage, onState, onEnd }) {
    this.#terms = terms;
    this.#bytesPerInstant = bytesPerInstant;
    this.#outbox = outbox;
    this.#urls = [url].flat();
    this.#ticket = ticket;
    this.#patienceMs = patienceSeconds === undefined ? null : patienceSeconds * 1000;
    this.#onMessage = onMessage;
    this.#onState = onState;
    this.#onEnd = onEnd;
    globalThis.addEventListener("online", this.#hearOnline);
  }

  get state() {
    if (this.over) return "over";
    if (!this.#line) return "lost";
    return this.#flowing ? "live" : "held";
  }

  /** Start the call, or go on with one of another page (`resuming`). Throws EarshotError when no server takes it. */
  async open(resuming) {
    let fault;
    for (let left = this.#urls.length; left > 0; left -= 1) {
      try {
        await (resuming ? this.#resumeOf(resuming) : this.#start());
        this.#onState();
        return;
      } catch (refusal) {
        fault = refusal;
        if (!fault.retryable) break;
        this.#tryNextUrl();
      }
    }
    this.end(fault);
    throw fault;
  }

  /** Give the socket what it may have; later the rest, when the browser has passed it on. */
  pump() {
    const line = this.#line;
    if (!line?.open || !this.#flowing) return;
    const frameBytes = ((FRAME_MS * this.#terms.rate) / 1000) * this.#bytesPerInstant;
    while (line.bufferedBytes < MOST_BUFFERED_BYTES) {
      const next = this.#outbox.next(frameBytes);
      if (!next) return;
      if (next.text !== undefined) line.sendText(next.text);
      else if (this.#terms.framing === "raw") line.sendRaw(next.bytes);
      else line.sendFramed(next.bytes, next.at / this.#bytesPerInstant);
    }
    this.#flushing ??= setTimeout(() => {
      this.#flushing = null;
      this.pump();
    }, FLUSH_MS);
  }

  /** Nothing more will come: of a fault, or because the call has ended. */
  end(fault) {
    if (this.over) return;
    this.over = fault ?? new EarshotError("ended", "the call has ended");
    globalThis.removeEventListener("online", this.#hearOnline);
    clearTimeout(this.#flushing);
    this.#line?.close();
    this.#line = null;
    this.#wake();
    this.#onEnd(fault);
  }

  // --- what is heard ---

  #receive(line, message) {
    if (this.over || line !== this.#line || (message.seq && message.seq <= this.#lastSeq)) return;
    this.#lastSeq = message.seq || this.#lastSeq;
    if (message.type === "ack") this.#outbox.forget(message.samples * this.#bytesPerInstant);
    else if (message.type === "error") this.#complaint = message.retryable ? null : message;
    this.#onMessage(message);
    if (message.type === "flow") this.#heed(line, message);
    // To come back from there would throw the other socket out in turn.
    else if (message.type === "replaced") this.end(new EarshotError("replaced", "another page goes on with this call"));
    else if (message.type === "ended") this.end(null);
  }

  #heed(line, { state }) {
    line.held = state === "xoff";
    this.#flowing = state === "xon";
    this.#onState();
    this.pump();
  }

  // --- the sockets ---

  async #start() {
    const { line, answer } = await this.#connect({ ...this.#terms, type: "start" }, "started");
    this.started = answer;
    this.#use(line, answer);
  }

  /** Go on with a call that is new to this page: where the server is, or later, if its time has come to `positionBytes`. */
  async #resumeOf({ started, positionBytes }) {
    this.started = started;
    const { line, answer } = await this.#connect(this.#resumeMessage(), "resumed");
    const byte = answer.samples * this.#bytesPerInstant;
    this.#outbox.beginAt(byte, answer.controls);
    this.#outbox.skip(Math.max(0, positionBytes - byte));
    this.#use(line, answer);
  }

  async #resume() {
    const from_sample = this.#outbox.firstByte / this.#bytesPerInstant;
    const { line, answer } = await this.#connect({ ...this.#resumeMessage(), from_sample }, "resumed");
    const byte = answer.samples * this.#bytesPerInstant;
    if (byte < this.#outbox.ackedByte) {
      line.close();
      throw new EarshotError("audio_gone", "the server no longer has what it had acknowledged");
    }
    if (this.#complaint) this.#outbox.dropRefused(answer.controls);
    this.#complaint = null;
    this.#outbox.rewind(byte, answer.controls);
    this.#use(line, answer);
  }

  #resumeMessage() {
    const { call_id, resume_token } = this.started;
    return { type: "resume", call_id, resume_token, last_seq: this.#lastSeq };
  }

  #use(line, answer) {
    if (this.over) {
      line.close();
      return;
    }
    this.#line = line;
    this.#flowing = true; // a new socket begins with `xon`
    this.#receive(line, answer);
    this.pump();
  }

  async #connect(first, expected) {
    const line = new Line(await this.#address(), first, {
      onMessage: (from, message) => this.#receive(from, message),
      onClose: (from, code, fault) => this.#lost(from, code, fault),
    });
    const answer = await line.answered;
    if (answer.type === expected) return { line, answer };
    line.close();
    throw new EarshotError("bad_message", `expected ${expected}, got ${answer.type}`);
  }

  async #address() {
    const url = this.#urls[0];
    if (!this.#ticket) return url;
    try {
      const ticket = await inTime(this.#ticket(), TICKET_TIMEOUT_MS);
      return `${url}${url.includes('?') ? '&' : '?'}ticket=${encodeURIComponent(ticket)}`;
    } catch (cause) {
      // Who is told no by name stays out; all else may be the network.
      const retryable = cause.status !== 401 && cause.status !== 403;
      throw new EarshotError("no_ticket", `no ticket: ${cause.message}`, { retryable, cause });
    }
  }

  #tryNextUrl() {
    this.#urls.push(this.#urls.shift());
  }

  // --- coming back ---

  #lost(line, code, fault) {
    if (line !== this.#line || this.over) return;
    this.#line = null;
    if (code === GOING_AWAY) this.#tryNextUrl();
    const complaint = COMPLAINTS.has(code) ? this.#complaint : (this.#complaint = null);
    if (fault) this.end(fault);
    else if (complaint && !MESSAGE_REFUSED.has(complaint.code)) {
      this.end(new EarshotError(complaint.code, complaint.message));
    } else this.#comeBack();
  }

  async #comeBack() {
    const patienceMs = this.#patienceMs ?? this.started.resume_window_s * 1000 + RESTART_MS;
    let giveUpAtMs = performance.now() + patienceMs;
    let retryMs = FIRST_RETRY_MS;
    this.#onState({ attempt: 1, retryInMs: 0, code: "closed" });
    for (let attempt = 2; !this.over; attempt += 1) {
      try {
        await this.#resume();
        if (!this.over) this.#onState();
        return;
      } catch (fault) {
        if (this.over) return;
        const nowMs = performance.now();
        if (fault.code === "recovering") giveUpAtMs = nowMs + patienceMs; // it is there, and it has the call
        if (!fault.retryable || nowMs > giveUpAtMs) {
          this.end(fault.retryable ? tooLate(patienceMs, fault) : fault);
          return;
        }
        this.#tryNextUrl();
        const retryInMs = fault.retryAfterMs + Math.random() * retryMs;
        retryMs = Math.min(MOST_RETRY_MS, retryMs * 2);
        this.#onState({ attempt, retryInMs, code: fault.code });
        await this.#sleep(retryInMs);
      }
    }
  }

  /** Returns early when the machine says that its network is back. */
  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function tooLate(patienceMs, cause) {
  const text = `no connection within ${Math.round(patienceMs / 1000)} s: ${cause.message}`;
  return new EarshotError("call_lost", text, { cause });
}

function inTime(promise, ms) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`none within ${ms / 1000} s`)), ms);
    Promise.resolve(promise).then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
