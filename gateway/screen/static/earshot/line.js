/** One WebSocket of a call, from its first message on: it is dead as soon as nobody answers on it. */

const SUBPROTOCOL = "earshot.v1";
/** The upgrade and the answer to the first message: both come before any slow work. */
const ANSWER_TIMEOUT_MS = 10_000;
const PING_MS = 5_000;
/** A server that says nothing for so long, not even to a ping, is as good as gone. */
const SILENCE_MS = 15_000;
const FRAME_VERSION = 1;
const ALL_CHANNELS = 255;
const HEADER_BYTES = 16;

/** What went wrong, by a code of docs/protocol.md or one of earshot.js, and whether the same may work later. */
export class EarshotError extends Error {
  constructor(code, message, { retryable = false, retryAfterMs = 0, cause } = {}) {
    super(message, { cause });
    this.name = "EarshotError";
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

export class Line {
  #socket;
  #onMessage;
  #onClose;
  #answer;
  #timeout;
  #pinging;
  #heardAtMs = performance.now();
  #frames = 0;
  /** Whether the server has said that it does not read for now: then it answers no ping. */
  held = false;
  /** Settles with the answer to the first message; rejects with an EarshotError. */
  answered;

  /**
   * Connect and say `first`. After the answer every message goes to `onMessage`, and the end of the socket to `onClose`
   * with its close code. Throws EarshotError for an address that is none.
   */
  constructor(url, first, { onMessage, onClose }) {
    this.#onMessage = onMessage;
    this.#onClose = onClose;
    try {
      this.#socket = new WebSocket(url, SUBPROTOCOL);
    } catch (cause) {
      throw new EarshotError("bad_url", "the address of the server is no ws:// or wss:// address", { cause });
    }
    this.#socket.binaryType = "arraybuffer";
    this.answered = new Promise((resolve, reject) => {
      this.#answer = { resolve, reject };
    });
    this.#socket.onopen = () => this.#socket.send(JSON.stringify(first));
    this.#socket.onmessage = (event) => this.#hear(event.data);
    this.#socket.onclose = (event) => this.#over(event.code);
    this.#timeout = setTimeout(() => this.abandon(), ANSWER_TIMEOUT_MS);
  }

  get bufferedBytes() {
    return this.#socket.bufferedAmount;
  }

  get open() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  sendText(text) {
    this.#socket.send(text);
  }

  sendRaw(bytes) {
    this.#socket.send(bytes);
  }

  /** Send audio behind a header that says where it belongs. */
  sendFramed(bytes, firstSample) {
    const frame = new Uint8Array(HEADER_BYTES + bytes.length);
    const header = new DataView(frame.buffer);
    header.setUint8(0, FRAME_VERSION);
    header.setUint8(1, ALL_CHANNELS);
    header.setUint32(4, this.#frames);
    header.setBigUint64(8, BigInt(firstSample));
    frame.set(bytes, HEADER_BYTES);
    this.#frames += 1;
    this.#socket.send(frame);
  }

  /** Close in good order; nothing is heard of it any more. */
  close() {
    this.#silence();
    this.#socket.close(1000);
  }

  /** Give it up as dead, without waiting for the network to agree. */
  abandon() {
    this.close();
    this.#over(1006);
  }

  #silence() {
    clearTimeout(this.#timeout);
    clearInterval(this.#pinging);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
  }

  #hear(data) {
    this.#heardAtMs = performance.now();
    let message;
    try {
      message = JSON.parse(data);
    } catch (cause) {
      const fault = new EarshotError("bad_message", "the server sent something that is no JSON", { cause });
      this.#silence();
      this.#socket.close(1000);
      this.#over(1007, fault);
      return;
    }
    if (this.#answer && message.type === "error") {
      const { code, message: text, retryable, retry_after_ms: retryAfterMs } = message;
      this.close();
      this.#over(1008, new EarshotError(code, text, { retryable, retryAfterMs }));
      return;
    }
    if (!this.#answer) {
      this.#onMessage(this, message);
      return;
    }
    clearTimeout(this.#timeout);
    this.#pinging = setInterval(() => this.#ping(), PING_MS);
    // Whoever awaits it goes on before the next message is heard: promises come before events.
    this.#answer.resolve(message);
    this.#answer = null;
  }

  #ping() {
    if (!this.held && performance.now() - this.#heardAtMs > SILENCE_MS) this.abandon();
    else if (this.open) this.#socket.send('{"type":"ping","id":""}');
  }

  #over(code, fault) {
    this.#silence();
    if (!this.#answer) {
      this.#onClose(this, code, fault);
      return;
    }
    // A page is not told why an upgrade was refused: ticket, origin, load and no network all look like this.
    const text = "no connection: the server is away or full, the ticket is spent, or this origin may not connect";
    this.#answer.reject(fault ?? new EarshotError("no_connection", text, { retryable: true }));
    this.#answer = null;
  }
}
