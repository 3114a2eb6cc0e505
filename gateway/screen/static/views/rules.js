// The rules of the app.

import { h } from "../dom.js";

export function mount(root, { t }) {
  root.append(h("h1", { text: t("rules.title") }));
  return () => {};
}
