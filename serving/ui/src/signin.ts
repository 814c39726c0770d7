/** Asks for the read key and tries it. The key stays in this tab's session storage and is sent only in a header. */

import { Api, type Catalog, Refused } from "./api";
import { fill, h } from "./dom";

const STORED = "reckon.key";

export function storedKey(): string | null {
  return sessionStorage.getItem(STORED);
}

export function forgetKey(): void {
  sessionStorage.removeItem(STORED);
}

/** Shows the form; calls back once the server took the key. `why` is said first, if there is a reason to be here again. */
export function showSignIn(root: Element, why: string | null, onSignedIn: (api: Api, catalog: Catalog) => void): void {
  const message = h("p", { class: "problem", role: "alert", id: "signin-problem" }, why);
  message.hidden = why === null;
  const input = h("input", {
    id: "key",
    name: "key",
    type: "password",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "rk_…",
    "aria-describedby": "key-hint signin-problem",
  });
  const button = h("button", { type: "submit", class: "primary" }, "Show the numbers");
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    message.hidden = true;
    button.disabled = true;
    fill(button, "Trying the key…");
    try {
      const [api, catalog] = await tryKey(input.value.trim());
      onSignedIn(api, catalog);
    } catch (error) {
      message.textContent = error instanceof Error ? error.message : String(error);
      message.hidden = false;
      button.disabled = false;
      fill(button, "Show the numbers");
      input.focus();
      input.select();
    }
  };
  fill(
    root,
    h(
      "main",
      { class: "signin" },
      h("h1", {}, "Reckon"),
      h("p", { class: "lead" }, "Counted twice: at once while it happens, exactly at night. The page says which is which."),
      h(
        "form",
        { onsubmit: (event) => void submit(event) },
        h("label", { for: "key" }, "Read key"),
        input,
        h("p", { id: "key-hint", class: "hint" }, "A key with the scope “read”. It is kept until this tab is closed."),
        message,
        button,
      ),
    ),
  );
  input.focus();
}

/** Tries a key, and keeps it if it is good. */
export async function tryKey(key: string): Promise<[Api, Catalog]> {
  // What cannot be put into a header cannot be a key either.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new Refused(401, "This is not a key: keys are plain letters, digits and signs without spaces.");
  const api = new Api(key);
  const catalog = await api.catalog();
  sessionStorage.setItem(STORED, key);
  return [api, catalog];
}
