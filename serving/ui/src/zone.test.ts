import { expect, test } from "vitest";

import { addDays, dayOf, dayStart, instant, weekdayOf, windowEnd } from "./zone";

const NEW_YORK = "America/New_York";
const at = (text: string): number => Date.parse(text);

test("days begin at the zone's midnight, on both sides of a clock change", () => {
  expect(dayStart("2026-03-08", NEW_YORK)).toBe(at("2026-03-08T05:00:00Z"));
  expect(dayStart("2026-03-09", NEW_YORK)).toBe(at("2026-03-09T04:00:00Z"));
  expect(dayStart("2026-11-02", NEW_YORK)).toBe(at("2026-11-02T05:00:00Z"));
  expect(dayStart("2026-05-01", "Asia/Kolkata")).toBe(at("2026-04-30T18:30:00Z"));
});

test("a day without midnight begins after the gap", () => {
  expect(dayStart("2018-11-04", "America/Sao_Paulo")).toBe(at("2018-11-04T03:00:00Z"));
});

test("a day window is 23 to 25 hours long, an hour always one", () => {
  const hours = (day: string): number => (windowEnd(dayStart(day, NEW_YORK), "1d", NEW_YORK) - dayStart(day, NEW_YORK)) / 3_600_000;
  expect([hours("2026-03-07"), hours("2026-03-08"), hours("2026-11-01")]).toEqual([24, 23, 25]);
  expect(windowEnd(at("2026-03-08T06:00:00Z"), "1h", NEW_YORK)).toBe(at("2026-03-08T07:00:00Z"));
});

test("instants are read in the tenant's zone", () => {
  expect(dayOf(at("2026-03-08T04:59:59Z"), NEW_YORK)).toBe("2026-03-07");
  expect(instant("2026-03-08T12:00:00Z", NEW_YORK)).toBe("2026-03-08 08:00");
  expect(instant("2026-03-08T12:00:07Z", "UTC")).toBe("2026-03-08 12:00:07");
});

test("days are added on the calendar", () => {
  expect(addDays("2028-02-28", 1)).toBe("2028-02-29");
  expect(addDays("2026-01-01", -1)).toBe("2025-12-31");
});

test("the day of the week is the tenant's", () => {
  expect([weekdayOf(at("2026-03-08T04:59:59Z"), NEW_YORK), weekdayOf(at("2026-03-08T05:00:00Z"), NEW_YORK)]).toEqual(["Sat", "Sun"]);
});
