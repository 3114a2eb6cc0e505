// The supervisor's board.

import { h } from "../dom.js";

export function mount(root, { t }) {
  root.append(h("h1", { text: t("board.title") }));
  return () => {};
}
