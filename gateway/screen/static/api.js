// The gateway's HTTP routes, with the session's cookie as credentials.

import { watch } from "./watch.js";

/** A request that was refused or failed. `status` 0: the server was not reached. `body`: what it answered, if JSON. */
export class ApiError extends Error {
  constructor(status, code, message, body = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.body = body;
  }
}

export class Api {
  /** The session of `GET /v1/session`, once there is one. */
  session = null;
  /** Called when the server says that nobody is signed in. */
  onSignedOut = () => {};
  /** Called with "live", "connecting" or "refused" as watch sockets come and go, and with "idle" when there is none. */
  onConnection = () => {};

  #watches = new Map();

  get = (path, options) => this.request("GET", path, undefined, options);
  post = (path, body, options) => this.request("POST", path, body, options);
  put = (path, body, options) => this.request("PUT", path, body, options);
  delete = (path, body, options) => this.request("DELETE", path, body, options);

  /**
   * The JSON that the server answers, null for an empty answer. `body`: a Blob, ArrayBuffer or FormData goes as it is, anything
   * else as JSON. `options`: `headers`, `signal`. Throws ApiError, and AbortError when `signal` says so.
   */
  async request(method, path, body, options = {}) {
    const answer = await this.#fetch(method, path, body, options);
    const text = await answer.text();
    return text ? JSON.parse(text) : null;
  }

  /** The objects of an answer that holds one JSON object a line, as they come. */
  async *lines(method, path, body, options = {}) {
    const answer = await this.#fetch(method, path, body, options);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = done ? "" : lines.pop();
      for (const line of lines) if (line.trim()) yield JSON.parse(line);
      if (done) return;
    }
  }

  async #fetch(method, path, body, { headers = {}, signal } = {}) {
    const raw = body instanceof Blob || body instanceof ArrayBuffer || body instanceof FormData || ArrayBuffer.isView(body);
    const request = { method, signal, credentials: "same-origin", headers: { ...headers, "X-Earshot-Screen": "1" } };
    if (body !== undefined && body !== null) {
      request.body = raw ? body : JSON.stringify(body);
      if (!raw) request.headers["Content-Type"] ??= "application/json";
    }
    let answer;
    try {
      answer = await fetch(path, request);
    } catch (fault) {
      if (fault.name === "AbortError") throw fault;
      throw new ApiError(0, "unreachable", "the server cannot be reached");
    }
    if (answer.ok) return answer;
    throw await this.#refusal(answer, path);
  }

  async #refusal(answer, path) {
    let told = null;
    try {
      told = await answer.json();
    } catch {
      // Not every refusal is JSON, a proxy's least of all: its status says enough.
    }
    if (answer.status === 401 && path !== "/v1/session") this.onSignedOut();
    const message = told?.message ?? told?.desc ?? `${answer.status} ${answer.statusText}`.trim();
    return new ApiError(answer.status, String(told?.code ?? "refused"), message, told);
  }

  /** A single-use ticket for a socket: `purpose` "watch" or "call", `limits` such as `{call_id}` or `{agent}`. */
  async ticket(purpose, limits = {}) {
    return (await this.post("/v1/tickets", { purpose, ...limits })).ticket;
  }

  /**
   * Watch one call (`request.call_id`, `from_seq`) or all (`agent`), with `levels` if asked. Connects again by itself, and goes
   * on where it was. `handlers.message(message)` gets every message, `handlers.state(state, detail)` "connecting", "live",
   * "refused" (for good) or "closed". Answers `{close(), renew(), lastSeq}`; `renew` gives the connection up for another one.
   */
  watch(request, handlers) {
    const key = Symbol("watch");
    const told = (state, detail) => {
      if (state === "closed") this.#watches.delete(key);
      else this.#watches.set(key, state);
      handlers.state?.(state, detail);
      this.onConnection(this.#worst());
    };
    return watch(this, request, { message: handlers.message, state: told });
  }

  #worst() {
    const states = [...this.#watches.values()];
    return ["refused", "connecting", "live"].find((state) => states.includes(state)) ?? "idle";
  }
}
