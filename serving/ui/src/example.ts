/** An answer for the tests: three hours of revenue, the first one settled. */

import type { Answer, Figure, Group, State } from "./api";

export function figure(value: string, state: State = "provisional"): Figure {
  return { value, method: "exact", error_bound: "0.00", state, as_of: null, run_id: state === "provisional" ? null : "run-1" };
}

export function group(values: Record<string, string>, dimensions: Record<string, string> = {}): Group {
  const points = Object.entries(values).map(([hour, value]) => ({
    start: `2026-05-01T${hour}:00:00Z`,
    end: `2026-05-01T${String(Number(hour) + 1).padStart(2, "0")}:00:00Z`,
    number: figure(value, hour === "10" ? "settled" : "provisional"),
  }));
  return { dimensions, total: figure("0.00"), parts: [], points };
}

export function answer(change: Partial<Answer> = {}): Answer {
  return {
    tenant: "shop",
    metric: "revenue",
    measure: "money",
    unit: "USD",
    grain: "1h",
    time_zone: "UTC",
    from: "2026-05-01T10:00:00Z",
    to: "2026-05-01T14:00:00Z",
    horizon: "2026-05-01T11:00:00Z",
    watermark: "2026-05-01T12:30:00Z",
    computed_at: "2026-05-01T12:31:00Z",
    age_ms: 0,
    speed_lag_ms: 500,
    coverage: [
      { from: "2026-05-01T10:00:00Z", to: "2026-05-01T11:00:00Z", layer: "batch", state: "settled", as_of: null, run_ids: ["run-1"] },
      { from: "2026-05-01T11:00:00Z", to: "2026-05-01T14:00:00Z", layer: "speed", state: "provisional", as_of: null, run_ids: [] },
    ],
    gaps: [],
    notes: [],
    truncated: false,
    total: figure("30.00"),
    parts: [],
    groups: [group({ "10": "10.00", "12": "20.00" })],
    ...change,
  };
}
