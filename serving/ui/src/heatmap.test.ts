import { expect, test } from "vitest";

import type { HeatCell } from "./api";
import { usual } from "./heatmap";

const cell = (value: string | number | null, hours: number): HeatCell => ({
  weekday: 7,
  hour: 1,
  hours,
  number: value === null && hours === 0 ? null : { value, method: "exact", error_bound: 0, state: "settled", as_of: null, run_id: null },
});

test("an hour that comes twice is not twice as dark, users are not divided", () => {
  expect(usual(cell("30.00", 2), { measure: "money" })).toBe(15);
  expect(usual(cell("-30.00", 2), { measure: "money" })).toBe(15);
  expect(usual(cell(30, 2), { measure: "users" })).toBe(30);
  expect(usual(cell(null, 0), { measure: "money" })).toBe(0);
  expect(usual(cell(null, 3), { measure: "formula" })).toBe(0);
});
