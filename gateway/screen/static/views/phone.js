// The browser softphone: call in with a microphone, two of them, or a file, and watch what is made of it.

import { fill, h, setText } from "../dom.js";
import { PhoneCall } from "../phone/call.js";
import { faultText } from "../phone/faults.js";
import { LivePanel } from "../phone/live.js";
import { Setup } from "../phone/setup.js";

export const styles = ["views/phone.css"];

export function mount(root, context) {
  const { t, api, session } = context;
  let part = null;
  let gone = false;
  const place = h("div", { class: "phone-place" });
  root.append(h("h1", { text: t("phone.title"), tabIndex: -1 }), place);

  const show = (next) => {
    part?.close();
    part = next;
    fill(place, part.element);
  };

  const showCall = () => {
    if (!gone) show(new LivePanel(context, PhoneCall.current, putAway));
  };

  const putAway = () => {
    PhoneCall.current?.put();
    showSetup();
    part.button.focus();
  };

  const showSetup = () => {
    const setup = new Setup(context, ({ start, sources }) => begin(setup, () => PhoneCall.start(api, start, sources)));
    const left = PhoneCall.left(session);
    show(setup);
    if (left) place.prepend(offer(left, setup));
  };

  const begin = async (setup, open) => {
    try {
      await open();
      showCall();
    } catch (fault) {
      setup.failed(fault);
    }
  };

  /** This tab was loaded anew in the middle of a call. */
  const offer = (left, setup) => {
    const fault = h("p", { class: "fault", role: "alert" });
    const go = async (listen) => {
      for (const button of buttons) button.disabled = true;
      try {
        const call = await PhoneCall.resume(api, left, { listen });
        if (!listen) call.hangUp();
        showCall();
      } catch (problem) {
        setText(fault, faultText(t, context.maybe, problem));
        const over = PhoneCall.left(session) === null;
        for (const button of buttons) button.disabled = over;
        if (over) panel.append(h("a", { href: `/screen/calls/${encodeURIComponent(left.saved.started.call_id)}`, text: t("phone.open_call") }));
      }
    };
    const buttons = [
      !left.fileName && h("button", { type: "button", class: "button primary", text: t("phone.left.resume"), on: { click: () => go(true) } }),
      h("button", { type: "button", class: "button", text: t("phone.left.hangup"), on: { click: () => go(false) } }),
    ].filter(Boolean);
    const panel = h("section", { class: "panel phone-left", aria: { label: t("phone.left") } },
      h("h2", { text: t("phone.left") }),
      h("p", { text: t(left.fileName ? "phone.left.file" : "phone.left.hint") }),
      h("div", { class: "phone-buttons" }, buttons),
      fault,
    );
    setup.element.addEventListener("submit", () => panel.remove());
    return panel;
  };

  if (PhoneCall.of(session)) showCall();
  else showSetup();
  return () => {
    gone = true;
    part?.close();
  };
}
