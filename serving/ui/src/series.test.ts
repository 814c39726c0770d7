import { expect, test } from "vitest";

import { answer, figure, group } from "./example";
import { sum } from "./format";
import { drawn, missing, shares, windows } from "./series";

const NOON = Date.parse("2026-05-01T12:30:00Z");
const shown = (of: ReturnType<typeof windows>): [string, string | null, string | null][] =>
  of.map(({ start, number, state }) => [new Date(start).toISOString().slice(11, 16), number === null ? null : String(number.value), state]);

test("a window without a point is a zero where a layer has seen its end", () => {
  expect(shown(windows(answer(), NOON))).toEqual([
    ["10:00", "10.00", "settled"],
    ["11:00", null, "provisional"],
    ["12:00", "20.00", "provisional"],
  ]);
});

test("what nobody has counted yet, or what is in a gap, is not a zero", () => {
  const gap = { from: "2026-05-01T11:00:00Z", to: "2026-05-01T12:00:00Z", reason: "away" };
  expect(shown(windows(answer({ gaps: [gap] }), NOON))[1]).toEqual(["11:00", null, null]);
  const unfinished = answer({ watermark: "2026-05-01T11:59:59Z", groups: [group({ "10": "10.00" })] });
  expect(shown(windows(unfinished, NOON))).toEqual([["10:00", "10.00", "settled"]]);
});

test("only gaps in what should be counted by now are told", () => {
  const past = { from: "2026-05-01T11:00:00Z", to: "2026-05-01T12:00:00Z", reason: "away" };
  const ahead = { from: "2026-05-01T13:00:00Z", to: "2026-05-01T14:00:00Z", reason: "not counted yet" };
  const open = { ...past, to: "2026-05-01T14:00:00Z" };
  expect(missing(answer({ gaps: [past, ahead] }))).toEqual([past]);
  expect(missing(answer({ gaps: [open] }))).toEqual([{ ...past, to: "2026-05-01T12:31:00Z" }]);
});

test("a step ends with its window, and the kinds do not touch", () => {
  const { x, settled, provisional, window } = drawn(windows(answer(), NOON), true);
  const hour = Date.parse("2026-05-01T10:00:00Z") / 1000;
  expect(x).toEqual([hour, hour + 3599.999, hour + 3600, hour + 7200, hour + 10799.999]);
  expect(settled).toEqual([10, 10, null, null, null]);
  expect(provisional).toEqual([null, null, 0, 20, 20]);
  expect(window).toEqual([0, 0, 1, 2, 2]);
});

test("a bar stands in the middle of its window", () => {
  const { x, settled } = drawn(windows(answer(), NOON), false);
  expect(x[0]).toBe(Date.parse("2026-05-01T10:30:00Z") / 1000);
  expect(settled).toEqual([10, null, null]);
});

test("the shares of a total are added exactly, the most certain first", () => {
  const parts = [figure("0.20"), figure("0.10", "settled"), figure("0.10")].map((number) => ({ state: number.state, number }));
  expect(shares(parts, sum)).toEqual([
    { state: "settled", value: "0.10" },
    { state: "provisional", value: "0.30" },
  ]);
});
