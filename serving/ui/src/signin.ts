/** Lets somebody in: with an address and a password, by an OpenID provider, with an invitation, or with a key. */

import { Api, type Catalog, Refused } from "./api";
import { fill, h } from "./dom";
import { accept, apiOf, invitationIn, type Session, signIn, type Ways, ways } from "./session";

const STORED = "reckon.key";

/** Somebody who was let in, and how to let them out again. */
export interface Entered {
  api: Api;
  catalog: Catalog;
  session: Session | null;
}

export function storedKey(): string | null {
  return sessionStorage.getItem(STORED);
}

export function forgetKey(): void {
  sessionStorage.removeItem(STORED);
}

/** Shows the ways in; calls back once one was open. `why` is said first, if there is a reason to be here again. */
export function showSignIn(root: Element, why: string | null, onEntered: (entered: Entered) => void): void {
  const message = h("p", { class: "problem", role: "alert", id: "signin-problem" }, why);
  message.hidden = why === null;
  const others = h("div", { class: "others" });
  const invitation = invitationIn(location.hash);
  const attempt = async (button: HTMLButtonElement, input: HTMLInputElement, enter: () => Promise<Entered>): Promise<void> => {
    const label = button.textContent;
    message.hidden = true;
    button.disabled = true;
    fill(button, "One moment…");
    try {
      const entered = await enter();
      if (invitation !== null) history.replaceState(null, "", location.pathname + location.search);
      onEntered(entered);
    } catch (error) {
      message.textContent = error instanceof Error ? error.message : String(error);
      message.hidden = false;
      button.disabled = false;
      fill(button, label);
      input.focus();
      input.select();
    }
  };
  const form = invitation === null ? personForm(attempt) : invitationForm(invitation, attempt);
  fill(
    root,
    h(
      "main",
      { class: "signin" },
      h("h1", {}, "Reckon"),
      h("p", { class: "lead" }, "Counted twice: at once while it happens, exactly at night. The page says which is which."),
      message,
      form,
      others,
      h("details", {}, h("summary", {}, "Use a key"), keyForm(attempt)),
    ),
  );
  form.querySelector("input")?.focus();
  // Without an answer there is still the form, which will say what is wrong.
  void ways().then((offered) => showOthers(others, offered)).catch(() => undefined);
}

type Attempt = (button: HTMLButtonElement, input: HTMLInputElement, enter: () => Promise<Entered>) => Promise<void>;

function personForm(attempt: Attempt): HTMLFormElement {
  const email = h("input", { id: "email", name: "email", type: "email", required: true, autocomplete: "username" });
  const password = passwordInput("current-password");
  return form([h("label", { for: "email" }, "E-mail address"), email, h("label", { for: "password" }, "Password"), password], "Sign in", (button) =>
    attempt(button, password, async () => enter(await signIn(email.value, password.value))),
  );
}

function invitationForm(invitation: string, attempt: Attempt): HTMLFormElement {
  const password = passwordInput("new-password");
  const hint = h("p", { class: "hint" }, "You are invited. If you have an account already, give its password; if not, choose one of at least 12 characters.");
  return form([hint, h("label", { for: "password" }, "Password"), password], "Accept the invitation", (button) =>
    attempt(button, password, async () => enter(await accept(invitation, password.value))),
  );
}

function keyForm(attempt: Attempt): HTMLFormElement {
  const attributes = { id: "key", name: "key", type: "password", required: true, autocomplete: "off", spellcheck: "false", placeholder: "rk_…" };
  const key = h("input", { ...attributes, "aria-describedby": "key-hint signin-problem" });
  const hint = h("p", { id: "key-hint", class: "hint" }, "A key with the scope “read”. It is kept until this tab is closed.");
  return form([h("label", { for: "key" }, "Read key"), key, hint], "Show the numbers", (button) => attempt(button, key, () => tryKey(key.value.trim())));
}

function passwordInput(autocomplete: string): HTMLInputElement {
  return h("input", { id: "password", name: "password", type: "password", required: true, autocomplete, "aria-describedby": "signin-problem" });
}

function form(children: Node[], label: string, onSubmit: (button: HTMLButtonElement) => Promise<void>): HTMLFormElement {
  const button = h("button", { type: "submit", class: "primary" }, label);
  const submit = (event: Event): void => {
    event.preventDefault();
    void onSubmit(button);
  };
  return h("form", { onsubmit: submit }, ...children, button);
}

function showOthers(others: Element, offered: Ways): void {
  if (offered.oidc !== null) fill(others, h("a", { class: "button", href: "v1/session/oidc" }, `Sign in with ${offered.oidc}`));
}

/** Goes on as somebody who is signed in. */
export async function enter(session: Session): Promise<Entered> {
  const api = apiOf(session);
  return { api, catalog: await api.catalog(), session };
}

/** Tries a key, and keeps it if it is good. */
export async function tryKey(key: string): Promise<Entered> {
  // What cannot be put into a header cannot be a key either.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new Refused(401, "This is not a key: keys are plain letters, digits and signs without spaces.");
  const api = new Api(key);
  const catalog = await api.catalog();
  sessionStorage.setItem(STORED, key);
  return { api, catalog, session: null };
}
