// Puts the screen together: signs in, then shows the view that the address names.

import { Api } from "./api.js";
import { fill, h } from "./dom.js";
import { Words } from "./i18n.js";
import { Router } from "./router.js";
import { Shell } from "./shell.js";
import { showSignIn } from "./signin.js";

const api = new Api();
const words = new Words();
const shell = new Shell(words, { signOut, language });
const router = new Router(shell.main, words, {
  contextOf,
  failed: showFailed,
  missing: showMissing,
  arrived: (name, moved) => shell.arrived(name, moved),
});

api.onConnection = (state) => shell.connection(state);
api.onSignedOut = () => enter(words.t("shell.session_over"));

/** What a view gets. */
function contextOf(name, params) {
  return {
    api,
    t: words.t,
    maybe: words.maybe,
    language: words.language,
    navigate: router.navigate,
    params,
    session: api.session,
    announce: shell.announce,
    /** Name the page by what it shows, once that is known. */
    title: (text) => (document.title = `${text} · Earshot`),
    /** Keep `values` in the address as its query, without a visit; empty ones are left out. */
    setQuery(values) {
      const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined));
      const text = query.toString();
      history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
    },
  };
}

function showFailed(root, fault) {
  const t = words.t;
  fill(root, h("section", { class: "panel message", role: "alert" },
    h("h1", { text: t("shell.failed") }),
    h("p", { text: t("shell.failed.hint") }),
    h("p", {}, h("code", { text: String(fault?.message ?? fault) })),
    h("button", { type: "button", class: "button primary", text: t("shell.reload"), on: { click: () => location.reload() } }),
  ));
}

function showMissing(root) {
  const t = words.t;
  fill(root, h("section", { class: "panel message" },
    h("h1", { text: t("shell.missing") }),
    h("p", {}, h("a", { href: "/screen/", text: t("shell.missing.home") })),
  ));
}

/** Ask who it is. */
function enter(notice = "") {
  api.session = null;
  router.leave();
  shell.connection("idle");
  shell.draw(null);
  document.title = `${words.t("shell.sign_in")} · Earshot`;
  showSignIn(shell.main, words.t, async (credentials) => {
    api.session = await api.post("/v1/session", credentials);
    await begin(true);
  }, notice);
}

async function begin(moved = false) {
  shell.draw(api.session);
  await router.show(moved);
}

async function signOut() {
  router.leave();
  try {
    await api.delete("/v1/session");
  } catch (fault) {
    if (fault.status !== 401) return begin(); // still signed in, and must not look otherwise
  }
  return enter();
}

async function language(code) {
  words.choose(code);
  await words.load("shell");
  if (api.session) await begin();
  else enter();
  shell.header.querySelector("select")?.focus();
}

/** The ticket of a link `#ticket=...`, which leaves the address at once so that it is neither kept nor shared. */
function ticketOfLink() {
  const found = /^#ticket=([^&]+)$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return decodeURIComponent(found[1]);
}

async function start() {
  const ticket = ticketOfLink();
  await words.load("shell");
  shell.draw(null);
  try {
    api.session = ticket ? await api.post("/v1/session", { ticket }) : await api.get("/v1/session");
  } catch (fault) {
    if (fault.status === 401 && ticket) return enter(words.t("shell.ticket_spent"));
    return enter(fault.status === 401 ? "" : words.t("shell.unreachable"));
  }
  return begin();
}

addEventListener("hashchange", () => {
  if (location.hash.startsWith("#ticket=")) start().catch(fatal);
});

/** A file that misses the place that is meant for it must not take the page's place, and with it a call. */
addEventListener("dragover", (event) => {
  if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "none";
});

function fatal(fault) {
  console.error(fault);
  document.body.append(h("p", { class: "fault", role: "alert", text: String(fault?.message ?? fault) }));
}

start().catch(fatal);
