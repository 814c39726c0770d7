/**
 * Sends events from a browser to a Reckon collector.
 *
 * Events are sent together every 50 ms. What the collector has not acknowledged stays queued and is sent again under
 * the same `event_id`, so it counts once. A page that is being left hands over a copy of what is queued.
 *
 *     import { reckon } from "https://reckon.example/sdk/reckon.js";
 *     const events = reckon({ url: "https://collect.example", writeKey: "rk_…" });
 *     events.track("purchase", { properties: { store: "330" }, money: { amount: "12.34", currency: "EUR" } });
 */

/** Where events go, and how. */
export interface Options {
  /** The collector's address. */
  url: string;
  /** A key with the scope `write`, and no other: everybody who reads the page reads it. */
  writeKey: string;
  /** Who acts; until it is known, a random id that this browser keeps. */
  userId?: string;
  /** How long events wait for others to be sent together with, in ms. */
  batchMs?: number;
  /** What is told when events are refused or dropped: never silently. */
  onProblem?: (problem: Problem) => void;
}

/** Events that will not count, and why. */
export interface Problem {
  reason: string;
  eventIds: string[];
}

/** What an event is about, beside its name. */
export interface Details {
  properties?: Record<string, string | number | boolean>;
  /** The amount as a decimal text, so that no digit is lost. */
  money?: { amount: string; currency: string };
  /** Known already if the event is known elsewhere, too. */
  eventId?: string;
  occurredAt?: Date;
}

/** See {@link reckon}. */
export interface Client {
  /** Queues an event and returns its id. */
  track(name: string, details?: Details): string;
  /** Says who acts from now on. */
  identify(userId: string): void;
  /** Sends what is queued now; resolves when all of it is acknowledged or refused. */
  flush(): Promise<void>;
}

interface Item extends Record<string, unknown> {
  event_id: string;
}

const EVENTS_MAX = 100;
const QUEUE_MAX = 1_000;
const BEACON_BYTES_MAX = 60_000;
const WAIT_MS_MAX = 30_000;
const USER_KEY = "reckon_user";

/** A client for one collector. */
export function reckon(options: Options): Client {
  const { writeKey, batchMs = 50, onProblem = ({ reason }) => console.warn(`reckon: ${reason}`) } = options;
  const address = `${options.url.replace(/\/+$/, "")}/v1/events`;
  let userId = options.userId ?? anonymous();
  let queue: Item[] = [];
  let sending: Promise<void> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const acknowledge = (items: Item[]) => {
    const done = new Set(items);
    queue = queue.filter((item) => !done.has(item));
  };
  const refuse = (items: Item[], reason: string) => {
    acknowledge(items);
    if (items.length) onProblem({ reason, eventIds: items.map((item) => item.event_id) });
  };

  /** One request; the time to wait before the next one, in ms, if the same has to be tried again. */
  const post = async (items: Item[]): Promise<number | undefined> => {
    const headers = { authorization: `Bearer ${writeKey}`, "content-type": "application/json" };
    let answer: Response;
    try {
      answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(items), credentials: "omit" });
    } catch {
      return 0;
    }
    if (answer.status === 429 || answer.status >= 500) return Number(answer.headers.get("retry-after")) * 1_000 || 0;
    if (!answer.ok) {
      refuse(items, `the collector refused ${items.length} events: ${answer.status} ${await answer.text().catch(() => "")}`);
      return undefined;
    }
    const receipt = (await answer.json().catch(() => ({}))) as { rejected?: { index: number; field: string; reason: string }[] };
    for (const { index, field, reason } of receipt.rejected ?? []) {
      const item = items[index];
      if (item) onProblem({ reason: `${field} ${reason}`, eventIds: [item.event_id] });
    }
    acknowledge(items);
    return undefined;
  };

  const drain = async () => {
    for (let attempt = 0; queue.length; ) {
      const wait = await post(queue.slice(0, EVENTS_MAX));
      if (wait === undefined) {
        attempt = 0;
        continue;
      }
      // Twice as long each time, and not all browsers at the same moment.
      const backoff = Math.min(WAIT_MS_MAX, 500 * 2 ** attempt++) * (0.5 + Math.random() / 2);
      await new Promise((resolve) => setTimeout(resolve, Math.max(wait, backoff)));
    }
  };

  const flush = (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    sending ??= drain().finally(() => {
      sending = undefined;
    });
    return sending;
  };

  /** A copy: what is not acknowledged stays queued, for a page that is not left after all. */
  const leave = () => {
    for (let rest = queue; rest.length; ) {
      let count = Math.min(rest.length, EVENTS_MAX);
      let body = "";
      do {
        body = JSON.stringify({ write_key: writeKey, events: rest.slice(0, count) });
      } while (new Blob([body]).size > BEACON_BYTES_MAX && (count = count >> 1));
      // Text, because other types make the browser ask first, for which there is no time.
      if (!count || !navigator.sendBeacon(address, new Blob([body], { type: "text/plain" }))) return;
      rest = rest.slice(count);
    }
  };
  addEventListener("pagehide", leave);
  addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") leave();
  });

  return {
    track(name, { properties, money, eventId = randomId(), occurredAt = new Date() } = {}) {
      const item: Item = { event_id: eventId, name, occurred_at: occurredAt.toISOString(), user_id: userId };
      if (properties) item["properties"] = properties;
      if (money) item["money"] = money;
      if (queue.length >= QUEUE_MAX) {
        onProblem({ reason: `${QUEUE_MAX} events wait already: this one is dropped`, eventIds: [eventId] });
        return eventId;
      }
      queue.push(item);
      timer ??= setTimeout(() => void flush(), batchMs);
      return eventId;
    },
    identify(id) {
      userId = id;
    },
    flush,
  };
}

/** The random id of this browser; of this page, where nothing may be kept. */
function anonymous(): string {
  const fresh = randomId();
  try {
    const known = localStorage.getItem(USER_KEY);
    if (!known) localStorage.setItem(USER_KEY, fresh);
    return known ?? fresh;
  } catch {
    return fresh;
  }
}

/** 128 random bits; unlike `crypto.randomUUID` also there on pages without HTTPS. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
