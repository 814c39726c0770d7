/** Sign in, then the board; back to sign-in when the key is no longer good. */

import "./style.css";

import { type Api, type Catalog, Refused } from "./api";
import { showBoard } from "./board";
import { fill, h } from "./dom";
import { forgetKey, showSignIn, storedKey, tryKey } from "./signin";

const root = document.getElementById("app");
if (!root) throw new Error("the page has no #app");

function signIn(why: string | null): void {
  forgetKey();
  showSignIn(root as Element, why, board);
}

function board(api: Api, catalog: Catalog): void {
  showBoard(root as Element, api, catalog, signIn);
}

/** With a key from before, straight to the board; while the server is away, a way to try again that keeps the key. */
async function start(): Promise<void> {
  const key = storedKey();
  if (key === null) return signIn(null);
  try {
    board(...(await tryKey(key)));
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) return signIn(error.message);
    const message = error instanceof Error ? error.message : String(error);
    fill(
      root as Element,
      h(
        "main",
        { class: "signin" },
        h("h1", {}, "Reckon"),
        h("p", { class: "problem", role: "alert" }, message),
        h("button", { type: "button", class: "primary", onclick: () => void start() }, "Try again"),
        h("button", { type: "button", onclick: () => signIn(null) }, "Use another key"),
      ),
    );
  }
}

void start();
