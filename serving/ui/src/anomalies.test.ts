import { expect, test } from "vitest";

import { canBeJudged, estimate, type Judged, type JudgedHour, pieces, reach, sentences } from "./anomalies";
import { figure } from "./example";

const USUAL = { mean: 1, deviation: 0.4, low: 0.2, high: 1.8, weeks: 4 };

function hour(start: string, change: Partial<JudgedHour> = {}): JudgedHour {
  return { start: `2026-11-23T${start}:00:00Z`, number: figure("1"), usual: USUAL, unusual: false, complete: true, ...change };
}

function judged(...hours: JudgedHour[]): Judged {
  return { metric: "purchases", unit: "events", time_zone: "America/New_York", deviations: 2, weeks: 8, notes: [], groups: [{ dimensions: {}, hours }] };
}

test("hours are judged, of a month at most", () => {
  const question = { metric: "purchases", from: "2026-11-01", to: "2026-12-02", grain: "1h" };
  expect(canBeJudged(question)).toBe(true);
  expect(canBeJudged({ ...question, grain: "1d" })).toBe(false);
  expect(canBeJudged({ ...question, to: "2026-12-03" })).toBe(false);
});

test("the band has a hole where nobody knows what is usual, or where an hour is missing", () => {
  const hours = [hour("10"), hour("11"), hour("12", { usual: null }), hour("13"), hour("15")];
  const starts = pieces(hours).map((steps) => steps.map(({ start }) => new Date(start).getUTCHours()));
  expect(starts).toEqual([[10, 11], [13], [15]]);
  expect(pieces([hour("10", { usual: null })])).toEqual([]);
});

test("the axis reaches as far as the band, and below zero only if the numbers do", () => {
  const band = [[{ start: 0, end: 1, low: -10, high: 100 }, { start: 1, end: 2, low: -500, high: 500 }]];
  expect(reach(1, 50, band, 1)).toEqual([0, 108]);
  expect(reach(-2, 50, band, 1)).toEqual([-10.5, 108]);
  expect(reach(1, 50, band, 2)).toEqual([0, 540]);
  expect(reach(1, 50, [], 1)).toEqual([0, 54]);
  expect(reach(0, 0, [], 1)).toEqual([0, 1]);
});

test("unusual hours are told in the tenant's zone, the newest first", () => {
  const many = hour("19", { number: figure("1030"), unusual: true });
  const none = hour("21", { number: null, unusual: true });
  expect(sentences(judged(hour("18"), many, hour("20"), none))).toEqual([
    "Mon 2026-11-23 16:00: 0 events instead of 1 (0.2 to 1.8 is usual)",
    "Mon 2026-11-23 14:00: 1,030 events instead of 1 (0.2 to 1.8 is usual)",
  ]);
});

test("an estimate keeps its bound", () => {
  const users = hour("19", { number: { ...figure("30"), method: "hll", error_bound: 2 }, unusual: true });
  expect(sentences(judged(users))[0]).toContain("14:00: 30 ± 2 events instead");
});

test.each([
  [0, "0"],
  [-0.001, "0"],
  [0.256, "0.26"],
  [12.34, "12.3"],
  [-1234.5, "−1,235"],
])("%d is about %s", (number, text) => expect(estimate(number)).toBe(text));
