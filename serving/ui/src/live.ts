/** The live stream: server-sent events over fetch, because EventSource cannot send the key in a header. */

import { createParser } from "eventsource-parser";

import { type Answer, type Api, type Question, Refused } from "./api";
import { sentence } from "./format";
import { parseMessage, parseProblem, Replica } from "./messages";

/** The server sends a heartbeat every 15 s; without a word for this long, the numbers may be stale. */
export const SILENCE_MAX_MS = 20_000;
/** Without a word for this long, the connection is given up and made anew. */
const SILENCE_GIVE_UP_MS = 35_000;
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 10_000;

export type Phase = "connecting" | "open" | "broken" | "refused";

export interface Listener {
  /** The whole answer after a message. */
  onAnswer(answer: Answer): void;
  /** The connection changed; the text says what is wrong and what to do. */
  onPhase(phase: Phase, text: string | null): void;
  /** Bytes arrived, a heartbeat is enough. */
  onHeard(): void;
}

/** Watches a question until the signal aborts; reconnects for as long as it makes sense. */
export async function watch(api: Api, question: Question, listener: Listener, signal: AbortSignal): Promise<void> {
  const replica = new Replica();
  let failures = 0;
  listener.onPhase("connecting", null);
  while (!signal.aborted) {
    let wait = 0;
    try {
      const read = await readOnce(api, question, replica, listener, signal);
      if (read === "gap") replica.reset();
      failures = read !== "gap" && read.isFailure ? failures + 1 : 0;
      if (read !== "gap") listener.onPhase("broken", read.text);
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      const refused = error instanceof Refused ? error : new Refused(0, "The connection broke.");
      const final = refused.status >= 400 && refused.status < 500 && refused.status !== 429 && refused.status !== 408;
      listener.onPhase(final ? "refused" : "broken", refused.message);
      if (final) throw refused;
      wait = (refused.retryAfterSeconds ?? 0) * 1000;
    }
    // Half of the pause is random, so that many pages do not come back in the same instant.
    const pause = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(failures, 6));
    await sleep(Math.max(wait, pause / 2 + (Math.random() * pause) / 2), signal);
  }
}

/** Why a stream ended, in words; after a failure the next one is not tried at once. */
interface Ended {
  text: string;
  isFailure: boolean;
}

async function readOnce(api: Api, question: Question, replica: Replica, listener: Listener, signal: AbortSignal): Promise<"gap" | Ended> {
  const connection = new AbortController();
  const abort = (): void => connection.abort();
  signal.addEventListener("abort", abort);
  let heardAt = Date.now();
  let silent = false;
  const watchdog = setInterval(() => {
    silent = Date.now() - heardAt > SILENCE_GIVE_UP_MS;
    if (silent) connection.abort();
  }, 1000);
  try {
    const response = await api.live(question, replica.position, connection.signal);
    const ended: Ended = { text: "The connection was closed.", isFailure: false };
    if (!response.body) return ended;
    listener.onPhase("open", null);
    listener.onHeard();
    let gap = false;
    const parser = createParser({
      onEvent: ({ event, data }) => {
        if (event === "problem") Object.assign(ended, { text: sentence(parseProblem(data) ?? ended.text), isFailure: true });
        const message = gap ? null : parseMessage(data);
        if (!message) return;
        gap = replica.apply(message) === "gap";
        if (!gap && replica.answer) listener.onAnswer(replica.answer);
      },
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return ended;
      heardAt = Date.now();
      listener.onHeard();
      parser.feed(value);
      if (gap) return "gap";
    }
  } catch (error) {
    if (silent && !signal.aborted) return { text: "The server fell silent.", isFailure: true };
    throw error;
  } finally {
    clearInterval(watchdog);
    signal.removeEventListener("abort", abort);
    connection.abort();
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}
