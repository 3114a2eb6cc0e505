// A question that must be answered before anything else.

import { h } from "./dom.js";

let count = 0;

/** Ask; true when it was confirmed. `danger` marks what cannot be taken back. */
export function ask({ title, body, confirm, cancel, danger = false }) {
  return new Promise((answer) => {
    const id = `ask-${++count}`;
    const before = document.activeElement;
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": id },
      h("h2", { id, text: title }),
      typeof body === "string" ? h("p", { text: body }) : body,
      h("div", { class: "dialog-buttons" },
        h("button", { type: "button", class: "button", text: cancel, on: { click: () => dialog.close("") } }),
        h("button", {
          type: "button", class: ["button", danger ? "danger" : "primary"], text: confirm,
          on: { click: () => dialog.close("yes") },
        }),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      before?.focus?.();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
