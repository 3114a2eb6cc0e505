// The form that makes a session of an app's id and secret. The secret is sent once and not kept.

import { fill, h } from "./dom.js";

/** Show the form in `root`; `signIn({app_id, secret})` makes the session or throws. `notice`: why one is here, or nothing. */
export function showSignIn(root, t, signIn, notice = "") {
  const fault = h("p", { id: "sign-in-fault", class: "fault", role: "alert", text: notice });
  const app = h("input", { id: "sign-in-app", class: "input", name: "username", autocomplete: "username", required: true, spellcheck: "false", autocapitalize: "none" });
  const secret = h("input", { id: "sign-in-secret", class: "input", name: "password", type: "password", autocomplete: "current-password", required: true });
  const button = h("button", { class: "button primary", text: t("shell.sign_in") });

  async function submit(event) {
    event.preventDefault();
    const missing = [app, secret].find((one) => !one.value);
    if (missing) {
      fault.textContent = t("shell.sign_in.missing");
      missing.focus();
      return;
    }
    button.disabled = true;
    fault.textContent = "";
    try {
      await signIn({ app_id: app.value.trim(), secret: secret.value });
    } catch (refused) {
      fault.textContent = refused.status === 401 ? t("shell.sign_in.refused") : refused.message;
      secret.value = "";
      secret.focus();
    } finally {
      button.disabled = false;
    }
  }

  fill(root,
    h("form", { class: "panel sign-in", method: "post", noValidate: true, aria: { describedby: "sign-in-fault" }, on: { submit } },
      h("h1", { text: t("shell.sign_in") }),
      h("p", { class: "hint", text: t("shell.sign_in.hint") }),
      h("label", { class: "label", for: "sign-in-app", text: t("shell.app_id") }), app,
      h("label", { class: "label", for: "sign-in-secret", text: t("shell.secret") }), secret,
      fault, button,
      h("p", { class: "hint" }, t("shell.sign_in.link"), " ", h("code", { text: "earshot screen --open" })),
    ),
  );
  app.focus();
}
