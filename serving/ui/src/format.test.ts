import { describe, expect, test } from "vitest";

import { duration, isZero, signed, sum, value, words } from "./format";

describe("values keep every digit", () => {
  test.each([
    ["4596039.58", "4,596,039.58"],
    ["-0.05", "−0.05"],
    // Beyond 2^53, where a float would round.
    ["9007199254740993.07", "9,007,199,254,740,993.07"],
    ["170141183460469231731687303715884105727", "170,141,183,460,469,231,731,687,303,715,884,105,727"],
    [1469307, "1,469,307"],
    ["12.345", "12.345"],
    ["0.00", "0.00"],
    ["n/a", "n/a"],
  ])("%s", (given, expected) => expect(value(given)).toBe(expected));

  test("differences have a sign, zeros have none", () => {
    expect([signed("6941.22"), signed(-3), signed("0.00"), signed(0)]).toEqual(["+6,941.22", "−3", "0.00", "0"]);
  });

  test("zero is zero however it is written", () => {
    expect(["0", "0.00", "-0.0", 0].every(isZero)).toBe(true);
    expect(["0.01", "-1", 10].some(isZero)).toBe(false);
  });
});

describe("sums are exact", () => {
  test("of cents, across zero and beyond floats", () => {
    expect(sum(["0.10", "0.20"])).toBe("0.30");
    expect(sum(["-1.05", "1.00"])).toBe("-0.05");
    expect(sum(["90071992547409.93", "0.01", "0.01"])).toBe("90071992547409.95");
  });

  test("of integers and of nothing", () => {
    expect(sum([1, 2, "3"])).toBe("6");
    expect(sum([])).toBe("0");
  });

  test("of different numbers of decimals", () => expect(sum(["1.5", "2", "0.125"])).toBe("3.625"));
});

test("durations are told in one unit", () => {
  expect([0, 89_000, 600_000, 7_200_000, 432_000_000].map(duration)).toEqual(["0 s", "89 s", "10 min", "2 h", "5 days"]);
});

test("names are written as words", () => expect(words("not_yet_seen")).toBe("Not yet seen"));
