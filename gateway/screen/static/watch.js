// A watch socket that survives its connections.

const SUBPROTOCOL = "earshot.watch.v1";
const FIRST_DELAY_MS = 500;
const MOST_DELAY_MS = 15000;
const ASK_AGAIN_MS = 5000;
/** A server that has not begun the watch by then will not on this socket: a network can swallow what it is given. */
const ANSWER_MS = 15000;
/** Answers to asking for a ticket that the same request will get again. */
const FOR_GOOD = new Set([400, 401, 403, 404]);
/** Messages that are about the watch and not a call's own. */
const OF_THE_WATCH = new Set(["watching", "call", "call_gone", "caught_up", "levels", "going_away"]);

/** See `Api.watch`. */
export function watch(api, request, handlers) {
  const { call_id: callId, agent } = request;
  let lastSeq = request.from_seq ?? 0;
  let socket = null;
  let timer = 0;
  let failures = 0;
  /** Which attempt to connect is the latest: of one before it nothing may come. */
  let attempts = 0;
  let closed = false;
  let over = false;

  async function connect() {
    const attempt = ++attempts;
    clearTimeout(timer);
    timer = setTimeout(giveUp, ANSWER_MS);
    handlers.state("connecting");
    let ticket;
    try {
      ticket = await api.ticket("watch", { ...(callId && { call_id: callId }), ...(agent && { agent }) });
    } catch (fault) {
      if (closed || attempt !== attempts) return;
      if (FOR_GOOD.has(fault.status)) refuse(fault.code, fault.message);
      else later();
      return;
    }
    if (closed || attempt !== attempts) return;
    const url = new URL(api.session.watch_url);
    url.searchParams.set("ticket", ticket);
    const mine = (socket = new WebSocket(url, [SUBPROTOCOL]));
    mine.onopen = ask;
    mine.onmessage = (event) => mine === socket && hear(JSON.parse(event.data));
    mine.onclose = () => mine === socket && later();
  }

  function ask() {
    socket?.send(JSON.stringify({ ...request, type: "watch", from_seq: lastSeq }));
  }

  function hear(message) {
    if (message.type === "watching") {
      failures = 0;
      clearTimeout(timer);
      handlers.state("live");
    } else if (message.type === "error" && !("seq" in message)) {
      if (!message.retryable) return refuse(message.code, message.message);
      if (message.code !== "cluster_unavailable") {
        drop();
        return later();
      }
      clearTimeout(timer); // what this server holds itself goes on meanwhile
      timer = setTimeout(ask, ASK_AGAIN_MS);
    } else if (callId && !OF_THE_WATCH.has(message.type) && message.seq !== undefined) {
      if (message.seq <= lastSeq) return undefined; // told before the connection broke
      lastSeq = message.seq;
    }
    if (message.type === "caught_up" && !message.live) over = true;
    handlers.message(message);
    return undefined;
  }

  /** Connect again after a while: at random up to a bound that doubles, so that a thousand pages do not come at once. */
  function later() {
    if (closed) return;
    socket = null;
    if (over) { // there is nothing more to come back for
      end();
      handlers.state("closed");
      return;
    }
    handlers.state("connecting");
    const bound = Math.min(MOST_DELAY_MS, FIRST_DELAY_MS * 2 ** failures++);
    clearTimeout(timer);
    timer = setTimeout(connect, Math.random() * bound);
  }

  function giveUp() {
    attempts += 1;
    drop();
    later();
  }

  function drop() {
    const old = socket;
    socket = null;
    old?.close();
  }

  function refuse(code, message) {
    end();
    handlers.state("refused", { code, message });
  }

  function end() {
    closed = true;
    clearTimeout(timer);
    removeEventListener("online", soon);
    removeEventListener("offline", renew);
    drop();
  }

  /** What is connected is not to be trusted any more. */
  function renew() {
    if (closed || !socket) return;
    drop();
    later();
  }

  function soon() {
    if (closed || socket) return;
    failures = 0;
    clearTimeout(timer);
    connect();
  }

  addEventListener("online", soon);
  addEventListener("offline", renew);
  connect();
  return {
    close() {
      end();
      handlers.state("closed");
    },
    renew,
    get lastSeq() {
      return lastSeq;
    },
  };
}
