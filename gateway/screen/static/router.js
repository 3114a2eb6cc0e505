// Which view an address shows, and its coming and going. A view is fetched when it is first visited.

const VIEWS = [
  { name: "board", pattern: /^\/screen\/?$/ },
  { name: "call", pattern: /^\/screen\/calls\/(?<call_id>[^/]+)\/?$/ },
  { name: "phone", pattern: /^\/screen\/phone\/?$/ },
  { name: "rules", pattern: /^\/screen\/rules\/?$/ },
  { name: "voices", pattern: /^\/screen\/voices\/?$/ },
];

export function viewAt(path) {
  for (const { name, pattern } of VIEWS) {
    const found = pattern.exec(path);
    if (found) return { name, params: decoded(found.groups ?? {}) };
  }
  return null;
}

function decoded(groups) {
  try {
    return Object.fromEntries(Object.entries(groups).map(([key, value]) => [key, decodeURIComponent(value)]));
  } catch {
    return { ...groups }; // not written as an address should be: then as it stands
  }
}

export class Router {
  #root;
  #words;
  #contextOf;
  #failed;
  #missing;
  #arrived;
  #unmount = null;
  #visit = 0;

  /**
   * Shows views in `root`. `contextOf(name, params)` makes what a view gets; `failed(root, fault)` and `missing(root)` show what
   * is shown instead of a view; `arrived(name, moved)` hears that one stands, `moved` when somebody went there.
   */
  constructor(root, words, { contextOf, failed, missing, arrived }) {
    this.#root = root;
    this.#words = words;
    this.#contextOf = contextOf;
    this.#failed = failed;
    this.#missing = missing;
    this.#arrived = arrived;
    addEventListener("popstate", () => this.show(true));
    document.addEventListener("click", (event) => this.#follow(event));
  }

  /** Go to a path of the screen, which may bear a query. */
  navigate = (path, { replace = false } = {}) => {
    if (replace) history.replaceState(null, "", path);
    else history.pushState(null, "", path);
    return this.show(true);
  };

  /** Show what the address names. */
  async show(moved = false) {
    const visit = ++this.#visit;
    const found = viewAt(location.pathname);
    this.clear();
    if (found === null) {
      this.#missing(this.#root);
      this.#arrived(null, moved);
      return;
    }
    this.#root.setAttribute("aria-busy", "true");
    try {
      const [view] = await Promise.all([import(`./views/${found.name}.js`), this.#words.load(found.name)]);
      await Promise.all((view.styles ?? []).map(stylesheet));
      if (visit !== this.#visit) return;
      this.#unmount = view.mount(this.#root, this.#contextOf(found.name, found.params)) ?? null;
    } catch (fault) {
      if (visit !== this.#visit) return;
      console.error(fault);
      this.clear();
      this.#failed(this.#root, fault);
    } finally {
      if (visit === this.#visit) {
        this.#root.removeAttribute("aria-busy");
        this.#arrived(found.name, moved);
      }
    }
  }

  /** Take away the view that stands. */
  clear() {
    const unmount = this.#unmount;
    this.#unmount = null;
    try {
      unmount?.();
    } catch (fault) {
      console.error(fault); // the next view must not suffer from it
    }
    this.#root.replaceChildren();
    // A question of that view stands above the page, and nobody is there any more to be answered.
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close("");
  }

  /** Leave: nothing that is still being fetched may appear any more. */
  leave() {
    this.#visit++;
    this.clear();
  }

  #follow(event) {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (!link || link.target || link.hasAttribute("download")) return;
    const url = new URL(link.href, location.href);
    if (url.origin !== location.origin || viewAt(url.pathname) === null) return;
    if (url.pathname === location.pathname && url.search === location.search && url.hash) return;
    event.preventDefault();
    this.navigate(url.pathname + url.search + url.hash);
  }
}

const sheets = new Map();

/** Have a stylesheet of the screen, such as "views/board.css", in the page. Rejects when it cannot be had. */
function stylesheet(path) {
  if (!sheets.has(path)) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(path, import.meta.url).pathname;
    const loaded = new Promise((done, failed) => {
      link.onload = done;
      link.onerror = () => failed(new Error(`${path} cannot be fetched`));
    });
    document.head.append(link);
    sheets.set(path, loaded);
    loaded.catch(() => {
      sheets.delete(path);
      link.remove();
    });
  }
  return sheets.get(path);
}
