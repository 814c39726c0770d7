import { expect, test } from "vitest";

import { type Alert, type AlertEvent, condition, definitionOf, headline, receiver, told } from "./alerts";
import type { Metric } from "./api";

const REVENUE: Metric = { name: "revenue", event: "purchase", measure: "money", currency: "USD" };
const FIELDS = { name: " Little ", metric: "revenue", side: "below", threshold: " 100.50 ", seconds: "60", minutes: "5", webhook: "" };

function alert(change: Partial<Alert> = {}): Alert {
  const written = { name: "Little", metric: "revenue", side: "below", threshold: "1000", over_minutes: 5, for_seconds: 60 } as const;
  return { ...written, id: "a", phase: "ok", since: null, number: null, created_by: "ada@example.com", ...change };
}

function event(type: AlertEvent["body"]["type"], number: string | null): AlertEvent {
  return { id: "e", alert: "a", at: "2026-05-01T10:00:00Z", body: { type, data: { name: "Little", metric: "revenue", side: "below", threshold: "1000", number } } };
}

test("what is watched is a sentence", () => {
  expect(condition(alert(), REVENUE)).toBe("Revenue over 5 min below 1,000 USD for more than 60 s");
  expect(condition(alert({ filter: ["store:A:1"], clear: "1200", for_seconds: 0 }), REVENUE)).toBe("Revenue, store A:1 over 5 min below 1,000 USD, until it is back at 1,200");
  expect(condition(alert(), { ...REVENUE, measure: "active_users" })).toBe("Revenue below 1,000 users for more than 60 s");
  expect(condition(alert(), undefined)).toBe("Revenue over 5 min below 1,000 for more than 60 s");
});

test("the worst is in the headline", () => {
  const [ok, pending, firing, blind] = (["ok", "pending", "firing", "no_data"] as const).map((phase) => alert({ phase }));
  expect(headline([ok, pending] as Alert[])).toEqual({ kind: "good", text: "None of 2 is firing" });
  expect(headline([ok, blind] as Alert[])).toEqual({ kind: "unsure", text: "None of 2 is firing, 1 has no data" });
  expect(headline([firing, firing, blind, blind] as Alert[])).toEqual({ kind: "bad", text: "2 of 4 are firing, 2 have no data" });
});

test("what was told says the number and the threshold", () => {
  expect(told(event("alert.firing", "30"))).toEqual({ phase: "firing", word: "firing", text: "Little: 30, below 1,000" });
  expect(told(event("alert.resolved", "1030"))).toEqual({ phase: "ok", word: "resolved", text: "Little: 1,030, not below 1,000 any more" });
  expect(told(event("alert.no_data", null))).toEqual({ phase: "no_data", word: "no data", text: "Little" });
});

test("what is left empty is left to the server", () => {
  const whole = { name: "Little", metric: "revenue", side: "below", threshold: "100.50" };
  expect(definitionOf(FIELDS)).toEqual({ ...whole, for_seconds: 60, over_minutes: 5 });
  expect(definitionOf({ ...FIELDS, seconds: "", minutes: " ", webhook: " https://example.com/hook " })).toEqual({ ...whole, webhook: "https://example.com/hook" });
});

test("of a webhook only the host is shown", () => {
  expect(receiver("https://hooks.example.com/services/s3cret")).toBe("hooks.example.com");
  expect(receiver("not an address")).toBe("a webhook");
});
