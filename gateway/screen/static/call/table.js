// The segments as a table, for whoever does not see the drawing. Built while it is open.

import { fill, h } from "../dom.js";
import { clock } from "../format.js";

export class SegmentTable {
  /** `on.seek(ms)`. */
  constructor(words, on) {
    this._words = words;
    this._on = on;
    const { t } = words;
    this._body = h("tbody");
    this.element = h("details", { class: "call-table", on: { toggle: () => this._draw() } },
      h("summary", { text: t("call.table.title") }),
      h("div", { class: "call-scroll", tabIndex: 0, role: "region", aria: { label: t("call.table.title") } },
        h("table", {},
          h("thead", {}, h("tr", {}, ["begin", "end", "channel", "speaker", "text"].map((name) => h("th", { scope: "col", text: t(`call.table.${name}`) })))),
          this._body,
        ),
      ),
    );
  }

  update(segments) {
    this._segments = segments;
    if (this.element.open) this._draw();
  }

  _draw() {
    const segments = this._segments ?? [];
    const { role, who } = this._words;
    fill(this._body, !this.element.open ? [] : segments.map((segment) => h("tr", {},
      h("td", {}, h("button", { type: "button", class: "call-time", text: clock(segment.begin_ms), on: { click: () => this._on.seek(segment.begin_ms) } })),
      h("td", { class: "number", text: segment.state === "opened" ? "…" : clock(segment.end_ms) }),
      h("td", { text: role(segment.role) }),
      h("td", { text: who(segment) }),
      h("td", { text: segment.text ?? "" }),
    )));
  }
}
