import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Api, type Answer, Refused } from "./api";
import { health } from "./connection";
import { answer, figure } from "./example";
import { watch } from "./live";

const QUESTION = { metric: "revenue", from: "2026-05-01", to: "2026-05-02", grain: "1h" };
const encoder = new TextEncoder();
const bytes = (seq: number, kind: string, of: Partial<Answer>): string => `id: f-${seq}\nevent: ${kind}\ndata: ${JSON.stringify({ position: `f-${seq}`, seq, kind, answer: of })}\n\n`;

/** A response that sends these pieces and then ends. */
function stream(...pieces: string[]): Response {
  return new Response(
    new ReadableStream({
      start(controller) {
        for (const piece of pieces) controller.enqueue(encoder.encode(piece));
        controller.close();
      },
    }),
  );
}

/** Watches while the server gives these responses, one per connection; ends with the last of them. */
async function watched(...responses: (Response | Error)[]): Promise<{ totals: unknown[]; phases: string[]; texts: (string | null)[]; headers: Headers[]; error: unknown }> {
  const end = new AbortController();
  const result = { totals: [] as unknown[], phases: [] as string[], texts: [] as (string | null)[], headers: [] as Headers[], error: null as unknown };
  const fetched = vi.fn(async (_path: string, init: RequestInit) => {
    result.headers.push(new Headers(init.headers));
    const next = responses.shift();
    if (next === undefined) end.abort();
    if (next === undefined || next instanceof Error) throw next ?? new Error("over");
    return next;
  });
  vi.stubGlobal("fetch", fetched);
  const listener = {
    onAnswer: (of: Answer) => result.totals.push(of.total.value),
    onPhase: (phase: string, text: string | null) => {
      result.phases.push(phase);
      result.texts.push(text);
    },
    onHeard: () => {},
  };
  const watching = watch(new Api("rk_test"), QUESTION, listener, end.signal).catch((error: unknown) => {
    result.error = error;
    end.abort();
  });
  while (!end.signal.aborted) await vi.advanceTimersByTimeAsync(1000);
  await watching;
  return result;
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("adds messages up, also when they are cut anywhere", async () => {
  const whole = `${bytes(1, "snapshot", answer())}: heartbeat\n\n${bytes(2, "change", { total: figure("31.00"), groups: [] })}`;
  const { totals, phases } = await watched(stream(whole.slice(0, 40), whole.slice(40, -7), whole.slice(-7)));
  expect(totals).toEqual(["30.00", "31.00"]);
  expect(phases.slice(0, 3)).toEqual(["connecting", "open", "broken"]);
});

test("resumes after the last message it has, with the key in a header", async () => {
  const { totals, headers } = await watched(stream(bytes(5, "snapshot", answer())), new TypeError("network"), stream(bytes(6, "change", { total: figure("32.00"), groups: [] })));
  expect(totals).toEqual(["30.00", "32.00"]);
  expect(headers.map((one) => one.get("Last-Event-ID"))).toEqual([null, "f-5", "f-5", "f-6"]);
  expect(headers[0]?.get("Authorization")).toBe("Bearer rk_test");
});

test("reads everything again after a gap", async () => {
  const { totals, headers } = await watched(stream(bytes(1, "snapshot", answer()), bytes(4, "change", { total: figure("99.00"), groups: [] })), stream(bytes(4, "snapshot", answer({ total: figure("40.00") }))));
  expect(totals).toEqual(["30.00", "40.00"]);
  expect(headers[1]?.get("Last-Event-ID")).toBeNull();
});

test("says why the server ended the stream, and comes back", async () => {
  const problem = 'event: problem\ndata: {"detail":"ClickHouse does not answer"}\n\n';
  const { totals, texts } = await watched(stream(bytes(1, "snapshot", answer()), problem), stream(bytes(2, "change", { total: figure("31.00"), groups: [] })));
  expect(texts).toContain("ClickHouse does not answer.");
  expect(totals).toEqual(["30.00", "31.00"]);
});

test("gives up when the key is refused, and says so", async () => {
  const { error, phases } = await watched(new Response("{}", { status: 401 }));
  expect(error).toBeInstanceOf(Refused);
  expect(phases).toEqual(["connecting", "refused"]);
});

test("goes on while the stores are away", async () => {
  const { totals, error } = await watched(new Response('{"detail":"ClickHouse is away."}', { status: 503, headers: { "Retry-After": "2" } }), stream(bytes(1, "snapshot", answer())));
  expect([totals, error]).toEqual([["30.00"], null]);
});

test("never calls itself live while it is stale", () => {
  const facts = { phase: "open" as const, text: null, silentMs: 500, lagMs: 900, stale: null };
  expect(health(facts)).toBe("live");
  expect(health({ ...facts, silentMs: null, phase: "connecting" })).toBe("connecting");
  expect(health({ ...facts, silentMs: 21_000 })).toBe("stale");
  expect(health({ ...facts, lagMs: 31_000 })).toBe("behind");
  expect(health({ ...facts, stale: { age_ms: 6_000, reason: "speed_behind" } })).toBe("behind");
  expect(health({ ...facts, stale: { age_ms: 90_000, reason: "store_away" } })).toBe("last-good");
  expect(health({ ...facts, phase: "broken" })).toBe("reconnecting");
  expect(health({ ...facts, phase: "broken", silentMs: 4_000 })).toBe("stale");
  expect(health({ ...facts, phase: "refused" })).toBe("refused");
});
