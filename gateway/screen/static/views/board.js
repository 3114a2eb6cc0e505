// The supervisor's board: every live call, what needs a look first, and the calls that are over.

import { fill, h, setText } from "../dom.js";
import { Announcements } from "./board/announcements.js";
import { filterBar } from "./board/filters.js";
import { CallList } from "./board/list.js";
import { PastCalls } from "./board/past.js";

export const styles = ["views/board.css"];

const SILENT_MS = 15000;
/** So long after calls were asked for again nobody is missing, if the server has not said so. */
const WHOLE_AFTER_MS = 15000;

export function mount(root, context) {
  const { api, t, navigate } = context;
  const counts = h("p", { class: "board-counts number" });
  const partly = h("p", { class: "fault", role: "status" });
  const empty = h("div", { class: "board-empty", hidden: true });
  const moved = h("button", { type: "button", class: "button board-moved", hidden: true, on: { click: () => list.sort() } });
  const bar = filterBar(context, (values) => list.filter(values));
  const alerts = new Announcements(context);
  const past = new PastCalls(context);
  const list = new CallList(context, {
    open: (callId) => navigate(`/screen/calls/${encodeURIComponent(callId)}`),
    changed: (now) => {
      fillCounts(counts, t, now);
      bar.agents(now.agents);
      moved.hidden = now.moved === 0;
      setText(moved, now.moved ? t("board.moved", { count: now.moved }) : "");
      empty.hidden = now.shown > 0;
      setText(emptyText, t(now.all ? "board.none_match" : heard ? "board.none" : "shell.connection.connecting"));
      emptyLink.hidden = now.all > 0 || !heard;
    },
  });
  let heard = false;
  const emptyText = h("p", {});
  const emptyLink = h("a", { href: "/screen/phone", text: t("board.none.call") });
  fill(empty, emptyText, emptyLink);

  fill(root,
    h("div", { class: "board-top" }, h("h1", { text: t("board.title") }), counts),
    h("div", { class: "board-bar" }, bar.element, moved),
    partly,
    h("section", { class: "panel board-live" }, list.element, empty),
    past.element,
  );
  list.filter(bar.values());

  let toldAt = 0;
  let whole = 0;
  /** Other processes hold calls too: where they cannot be asked, this board is not all there is. */
  const tellWhole = (message) => {
    if (message.type === "error" && message.code === "cluster_unavailable") {
      clearTimeout(whole);
      setText(partly, t("board.partly"));
    } else if (message.type === "watching") {
      clearTimeout(whole);
      whole = setTimeout(() => setText(partly, ""), WHOLE_AFTER_MS);
    }
  };
  const watching = api.watch({ levels: true }, {
    message(message) {
      toldAt = performance.now();
      if (message.type === "levels") list.hear(message.calls);
      else if (message.type === "call") {
        alerts.look(message);
        list.tell(message);
      } else if (message.type === "call_gone") {
        alerts.forget(message.call_id);
        list.forget(message.call_id);
        past.refresh();
      } else tellWhole(message);
    },
    state(state, detail) {
      if (state === "live") {
        list.began();
        if (!heard) {
          heard = true;
          list.sort();
        }
      } else if (state !== "closed") list.lost();
      if (state === "refused") setText(emptyText, t("board.refused", { why: detail.message }));
    },
  });
  // Of each call that is on something is told every 5 s: where nothing comes, the network has swallowed the connection.
  const watchdog = setInterval(() => {
    if (list.busy && performance.now() - toldAt > SILENT_MS) watching.renew();
  }, SILENT_MS / 3);
  addEventListener("keydown", bar.key);
  return () => {
    removeEventListener("keydown", bar.key);
    clearInterval(watchdog);
    clearTimeout(whole);
    watching.close();
    list.close();
    alerts.close();
    past.close();
  };
}

function fillCounts(element, t, now) {
  const parts = [
    t("board.count.live", { count: now.live }),
    now.alerts && t("board.count.alerts", { count: now.alerts }),
    now.disconnected && t("board.count.disconnected", { count: now.disconnected }),
    now.judging && t("board.count.judging", { count: now.judging }),
    now.shown !== now.all && t("board.count.shown", { shown: now.shown }),
  ];
  setText(element, parts.filter(Boolean).join(" · "));
}
