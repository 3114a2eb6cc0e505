// Runs before the page is drawn, so that nobody who works in the dark is dazzled by a light page first.
"use strict";
(() => {
  const KEY = "earshot.theme";
  const system = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      const kept = localStorage.getItem(KEY);
      return kept === "light" || kept === "dark" ? kept : "auto";
    } catch {
      return "auto"; // storage may be switched off: then the system's wish counts
    }
  }

  function apply() {
    const wish = chosen();
    const theme = wish === "auto" ? (system.matches ? "dark" : "light") : wish;
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("earshot:theme", { detail: { theme } }));
  }

  system.addEventListener("change", apply);
  document.addEventListener("earshot:choose-theme", (event) => {
    try {
      localStorage.setItem(KEY, event.detail);
    } catch {
      document.documentElement.dataset.theme = event.detail === "auto" ? "" : event.detail;
    }
    apply();
  });
  apply();
})();
