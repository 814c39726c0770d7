import { expect, test } from "vitest";

import { percent } from "./compared";

test("a ratio is said as a change", () => {
  expect(percent("1.333333")).toBe("+33.3 %");
  expect(percent("0.5")).toBe("−50.0 %");
  expect(percent("1")).toBe("±0.0 %");
  expect(percent(0)).toBe("−100.0 %");
});
