import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { type Problem, reckon } from "./reckon";

const WRITE_KEY = "rk_00000000_0";

/** What reached the collector, and what it answers next. */
let received: { event_id: string; user_id: string }[][] = [];
let answers: (() => Response)[] = [];
let beacons: Blob[] = [];
const listeners = new Map<string, () => void>();

beforeEach(() => {
  vi.useFakeTimers();
  [received, answers, beacons] = [[], [], []];
  vi.stubGlobal("addEventListener", (name: string, listener: () => void) => listeners.set(name, listener));
  vi.stubGlobal("navigator", { sendBeacon: (_: string, body: Blob) => (beacons.push(body), true) });
  vi.stubGlobal("fetch", async (_: string, request: RequestInit) => {
    received.push(JSON.parse(request.body as string));
    return (answers.shift() ?? (() => Response.json({ accepted: 1, rejected: [] }, { status: 202 })))();
  });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const client = (problems: Problem[] = []) =>
  reckon({ url: "http://collect/", writeKey: WRITE_KEY, userId: "u", onProblem: (problem) => problems.push(problem) });

test("events of 50 ms are one request", async () => {
  const events = client();
  const ids = [events.track("a"), events.track("b")];
  await vi.advanceTimersByTimeAsync(49);
  expect(received).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(received.map((items) => items.map((item) => item.event_id))).toEqual([ids]);
});

test("what is not acknowledged is sent again under the same id", async () => {
  answers = [
    () => { throw new TypeError("no network"); },
    () => new Response(null, { status: 503, headers: { "retry-after": "7" } }),
  ];
  const events = client();
  const id = events.track("a");
  await vi.advanceTimersByTimeAsync(1_000);
  expect(received.length).toBe(2);
  await vi.advanceTimersByTimeAsync(5_500);
  expect(received.length, "the collector asked for 7 s").toBe(2);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(received.map((items) => items.map((item) => item.event_id))).toEqual([[id], [id], [id]]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(received.length).toBe(3);
});

test("what the collector refuses is told, and not sent again", async () => {
  answers = [
    () => Response.json({ accepted: 1, rejected: [{ index: 1, field: "name", reason: "is empty" }] }, { status: 202 }),
    () => new Response("no", { status: 401 }),
  ];
  const problems: Problem[] = [];
  const events = client(problems);
  events.track("a");
  const empty = events.track("");
  await events.flush();
  expect(problems).toEqual([{ reason: "name is empty", eventIds: [empty] }]);
  const last = events.track("b");
  await events.flush();
  expect(problems[1]).toEqual({ reason: "the collector refused 1 events: 401 no", eventIds: [last] });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(received.length).toBe(2);
});

test("the queue is bounded, and says so", async () => {
  answers = Array.from({ length: 100 }, () => () => new Response(null, { status: 503 }));
  const problems: Problem[] = [];
  const events = client(problems);
  for (let count = 0; count < 1_002; count++) events.track("a");
  expect(problems.length).toBe(2);
});

test("a page that is left hands over what is queued, in pieces that a beacon can carry", async () => {
  const events = client();
  const ids = Array.from({ length: 150 }, () => events.track("a", { properties: { text: "x".repeat(900) } }));
  listeners.get("pagehide")?.();
  const bodies = await Promise.all(beacons.map(async (beacon) => JSON.parse(await beacon.text())));
  expect(bodies.flatMap((body) => body.events.map((item: { event_id: string }) => item.event_id))).toEqual(ids);
  expect(bodies.every((body) => body.write_key === WRITE_KEY)).toBe(true);
  expect(Math.max(...beacons.map((beacon) => beacon.size))).toBeLessThan(64 * 1_024);
  // For a page that is not left after all.
  await events.flush();
  expect(received.flat().map((item) => item.event_id)).toEqual(ids);
});
