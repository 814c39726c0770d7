/** Sign in, then the board; back to sign-in when the key or the session is no longer good. */

import "./style.css";

import { Refused } from "./api";
import { showBoard } from "./board";
import { fill, h } from "./dom";
import { current, invitationIn, signOut } from "./session";
import { type Entered, enter, forgetKey, showSignIn, storedKey, tryKey } from "./signin";

const REFUSED = "The provider knows you, but nobody has invited you here.";

const root = document.getElementById("app");
if (!root) throw new Error("the page has no #app");

function signIn(why: string | null): void {
  forgetKey();
  showSignIn(root as Element, why, board);
}

function board({ api, catalog, session }: Entered): void {
  showBoard(root as Element, api, catalog, (why) => {
    // Signed out here, whether the server hears it or not: it ends the session by itself in time.
    if (why === null && session !== null) void signOut(session).catch(() => undefined);
    signIn(why);
  });
}

/** Who was let in before goes straight to the board; while the server is away, there is a way to try again. */
async function start(): Promise<void> {
  if (new URLSearchParams(location.search).get("signin") === "refused") {
    history.replaceState(null, "", location.pathname);
    return signIn(REFUSED);
  }
  try {
    const key = storedKey();
    if (key !== null) return board(await tryKey(key));
    const session = invitationIn(location.hash) === null ? await current() : null;
    if (session === null) return signIn(null);
    board(await enter(session));
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
        h("button", { type: "button", onclick: () => signIn(null) }, "Sign in another way"),
      ),
    );
  }
}

void start();
