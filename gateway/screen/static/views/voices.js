// Voices: enrol, recognise, list, delete. Over the voiceprint service's own API.

import { ask } from "../dialog.js";
import { fill, h, setText } from "../dom.js";
import { RecorderPanel } from "../voices/recorder_panel.js";
import { VoiceprintService } from "../voices/service.js";

export const styles = ["views/phone.css", "views/voices.css"];

const PAGE = 50;
const TAG = "agents";

export function mount(root, context) {
  const { api, t, maybe, announce, session } = context;
  const service = new VoiceprintService(api, { org_id: session.app_id, tag_id: TAG });
  const recorder = new RecorderPanel(context, { onEnrol: enrol, onRecognize: recognize });
  const result = h("section", { class: "panel voices-result", aria: { label: t("voices.result"), live: "polite" }, hidden: true });
  const list = listPanel();
  root.append(h("h1", { text: t("voices.title"), tabIndex: -1 }), h("div", { class: "voices" }, recorder.element, result, list.element));
  list.load();
  return () => recorder.close();

  // --- what the recording is for ---

  async function enrol(name, file, mode) {
    await working(async () => {
      await service.enrol(name, file, mode);
      show(h("p", { class: "voices-good", text: t(`voices.enrolled.${mode}`, { name }) }));
      recorder.clear();
      await list.load();
    });
  }

  async function recognize(file) {
    await working(async () => {
      const hits = await service.recognize(file, list.anyTag);
      if (!hits.length) {
        show(h("p", { text: t("voices.nobody") }));
        return;
      }
      const hint = h("p", { class: "hint", text: t("voices.hits.hint") });
      show(h("h2", { text: t("voices.hits") }), h("ol", { class: "voices-hits" }, hits.map(hitLine)), hint);
    });
  }

  async function working(work) {
    recorder.busy(true);
    show(h("p", { class: "hint", text: t("voices.working") }));
    try {
      await work();
    } catch (fault) {
      show(refusal(fault));
    } finally {
      recorder.busy(false);
    }
  }

  function show(...content) {
    result.hidden = false;
    fill(result, content);
  }

  function hitLine(hit, at) {
    const share = Math.min(1, Math.max(0, hit.score / 100));
    return h("li", { class: ["voices-hit", at === 0 && "first"] },
      h("span", { class: "voices-hit-name" },
        h("strong", { text: hit.spk_name }),
        hit.tag !== service.scope.tag_id && h("span", { class: "chip", text: hit.tag }),
        hit.kind && hit.kind !== "voice" && h("span", { class: "chip", text: maybe(`voices.kind.${hit.kind}`, hit.kind) })),
      h("span", { class: "voices-bar", aria: { hidden: true } }, h("span", { style: { transform: `scaleX(${share})` } })),
      h("span", { class: "number", text: hit.score.toFixed(1) }),
    );
  }

  /** What the service said, and what to do about it. */
  function refusal(fault) {
    const known = fault.reason && maybe(`voices.refused.${fault.reason}`, "");
    const advice = known || maybe(`voices.refused.code.${fault.code}`, "");
    return h("div", { class: "voices-refused", role: "alert" },
      h("p", { class: "fault", text: advice || t("voices.refused") }),
      h("p", { class: "hint", text: t("voices.refused.said", { code: fault.code, message: fault.message }) }),
    );
  }

  // --- the list ---

  function listPanel() {
    const rows = h("ul", { class: "voices-list" });
    const count = h("span", { class: "chip" });
    const fault = h("div", {});
    const next = () => panel.load(rows.children.length);
    const more = h("button", { type: "button", class: "button", text: t("voices.more"), hidden: true, on: { click: next } });
    const tag = h("input", { class: "input", type: "text", value: TAG, maxlength: 128 });
    const organisation = h("input", { class: "input", type: "text", value: session.app_id, maxlength: 128 });
    const anyTag = h("input", { type: "checkbox" });
    const submit = (event) => {
      event.preventDefault();
      service.scope = { org_id: organisation.value.trim() || session.app_id, tag_id: tag.value.trim() || TAG };
      panel.load();
    };
    const panel = {
      get anyTag() {
        return anyTag.checked;
      },
      async load(offset = 0) {
        fill(fault);
        try {
          const [voices, total] = await Promise.all([service.list(offset, PAGE), service.count()]);
          if (!offset) fill(rows);
          for (const voice of voices) rows.append(row(voice));
          setText(count, t("voices.count", { count: total }));
          more.hidden = rows.children.length >= total;
          if (!total) fill(rows, h("li", { class: "hint", text: t("voices.none") }));
        } catch (problem) {
          fill(fault, refusal(problem));
        }
      },
    };
    panel.element = h("section", { class: "panel voices-panel" },
      h("div", { class: "voices-head" }, h("h2", { text: t("voices.list") }), count),
      h("form", { class: "voices-scope", on: { submit } },
        h("label", {}, h("span", { class: "label", text: t("voices.tag") }), tag),
        h("label", {}, h("span", { class: "label", text: t("voices.organisation") }), organisation),
        h("button", { type: "submit", class: "button", text: t("voices.show") }),
        h("label", { class: "phone-choice" }, anyTag, t("voices.any_tag")),
      ),
      fault, rows, more,
    );
    return panel;
  }

  function row(voice) {
    const name = voice.spk_name;
    const action = (key, click, style) => h("button", {
      type: "button", class: ["button", style], aria: { label: t(`voices.${key}.of`, { name }) }, text: t(`voices.${key}`), on: { click },
    });
    return h("li", { class: "voices-row" },
      h("strong", { class: "voices-name", text: name }),
      h("audio", {
        class: "voices-player", controls: true, preload: "none", src: here(voice.audio_path), aria: { label: t("voices.listen.of", { name }) },
      }),
      h("div", { class: "voices-row-buttons" },
        action("add", () => recorder.prepare(name, "add")),
        action("replace", () => recorder.prepare(name, "replace")),
        action("delete", () => remove(name), "danger"),
      ),
    );
  }

  async function remove(name) {
    const sure = await ask({
      title: t("voices.delete.title", { name }), body: t("voices.delete.body"), confirm: t("voices.delete"), cancel: t("shell.cancel"), danger: true,
    });
    if (!sure) return;
    try {
      await service.remove(name);
      announce(t("voices.deleted", { name }));
      root.querySelector("h1").focus(); // the row that had the focus is gone
      await list.load();
    } catch (fault) {
      show(refusal(fault));
    }
  }
}

/** A link of this server's as one of this page's: it may name the server as others reach it. */
function here(link) {
  const url = new URL(link, location.href);
  return url.pathname + url.search;
}
