/** From an answer to what a chart draws: every window of the range, and who answered for it. */

import type { Answer, Figure, Gap, State, Value } from "./api";
import { pixels } from "./format";
import { windowEnd } from "./zone";

/** More windows than the server would ever answer; a bound, in case an answer is nonsense. */
const WINDOWS_MAX = 20_000;

export interface Window {
  /** Milliseconds. */
  start: number;
  end: number;
  /** Null if nothing was counted there. */
  number: Figure | null;
  /** Null if nobody answers for the window: it is not over yet, or it is in a gap. */
  state: State | null;
}

/** Whether a number of that state can be signed: it is counted from the lake. */
export function isSettled(state: State | null): boolean {
  return state !== null && state !== "provisional";
}

/**
 * Every window of the range, up to now. One without a point is a zero only where a layer answers for it and has seen
 * its end; else nothing is known, and nothing is drawn.
 */
export function windows(answer: Answer, now: number): Window[] {
  const series = answer.groups.find((group) => Object.keys(group.dimensions).length === 0) ?? answer.groups[0];
  const points = (series?.points ?? []).map((point) => ({ ...point, at: Date.parse(point.start) })).sort((a, b) => a.at - b.at);
  const seenUpTo = answer.watermark === null ? Number.NEGATIVE_INFINITY : Date.parse(answer.watermark);
  const coverage = answer.coverage.map((c) => ({ ...c, from: Date.parse(c.from), to: Date.parse(c.to) }));
  const gaps = answer.gaps.map((gap) => ({ from: Date.parse(gap.from), to: Date.parse(gap.to) }));
  const to = Date.parse(answer.to);
  const all: Window[] = [];
  let next = 0;
  for (let start = Date.parse(answer.from); start < to && all.length < WINDOWS_MAX; ) {
    const point = points[next];
    const end = windowEnd(start, answer.grain, answer.time_zone);
    if (point && point.at < end) {
      all.push({ start: point.at, end: Date.parse(point.end), number: point.number, state: point.number.state });
      start = Date.parse(point.end);
      next += 1;
      continue;
    }
    if (start > now) break;
    const by = coverage.find((c) => c.from <= start && end <= c.to);
    const answered = by && !gaps.some((gap) => gap.from < end && start < gap.to) && (by.layer === "batch" || end <= seenUpTo);
    all.push({ start, end, number: null, state: answered ? by.state : null });
    start = end;
  }
  while (all.length > 0 && all.at(-1)?.state === null) all.pop();
  return all;
}

export interface Drawn {
  /** Seconds, as the chart wants them. */
  x: number[];
  settled: (number | null)[];
  provisional: (number | null)[];
  /** To which window each x belongs. */
  window: number[];
}

/**
 * The columns of the chart. A bar stands in the middle of its window. With `steps`, a value is held from its window's
 * start until just before its end, so that a step ends there.
 */
export function drawn(of: readonly Window[], steps: boolean): Drawn {
  const columns: Drawn = { x: [], settled: [], provisional: [], window: [] };
  const push = (at: number, index: number, window: Window): void => {
    const y = window.state === null ? null : height(window);
    columns.x.push(at / 1000);
    columns.settled.push(isSettled(window.state) ? y : null);
    columns.provisional.push(isSettled(window.state) ? null : y);
    columns.window.push(index);
  };
  of.forEach((window, index) => {
    push(steps ? window.start : (window.start + window.end) / 2, index, window);
    const next = of[index + 1];
    const lastOfItsKind = !next || isSettled(next.state) !== isSettled(window.state) || (next.state === null) !== (window.state === null);
    if (steps && lastOfItsKind) push(window.end - 1, index, window);
  });
  return columns;
}

function height(window: Window): number {
  return window.number === null ? 0 : pixels(window.number.value);
}

/** The gaps that are told, up to now: that the future is not counted yet is no news. */
export function missing(answer: Answer): Gap[] {
  const computed = Date.parse(answer.computed_at);
  return answer.gaps
    .filter((gap) => Date.parse(gap.from) < computed)
    .map((gap) => (Date.parse(gap.to) <= computed ? gap : { ...gap, to: answer.computed_at }));
}

export interface Share {
  state: State;
  value: Value;
}

/** How much of a total is in which state. Only for what may be added; distinct users overlap between the parts. */
export function shares(parts: readonly { state: State; number: Figure }[], add: (values: Value[]) => Value): Share[] {
  const order: State[] = ["closed", "restated", "settled", "provisional"];
  return order
    .map((state) => ({ state, values: parts.filter((part) => part.state === state).map((part) => part.number.value) }))
    .filter(({ values }) => values.length > 0)
    .map(({ state, values }) => ({ state, value: add(values) }));
}
