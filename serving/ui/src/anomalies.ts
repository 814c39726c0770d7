/** What is usual for each hour of the week, and which hours are not. The server judges; here is what a page says of it. */

import type { Figure, Question } from "./api";
import { MINUS, value } from "./format";
import { instant, weekdayOf } from "./zone";

/** An hour is compared with eight weeks before it: a longer range would be as much again to read, and too fine to see. */
const DAYS_MAX = 31;
const HOUR_MS = 3_600_000;

/** Estimates, in the unit of the number. */
export interface Usual {
  mean: number;
  deviation: number;
  low: number;
  high: number;
  weeks: number;
}

export interface JudgedHour {
  start: string;
  /** Null where nothing happened, which counts as zero. */
  number: Figure | null;
  /** Null if fewer than three weeks before are known. */
  usual: Usual | null;
  unusual: boolean;
  complete: boolean;
}

export interface Judged {
  metric: string;
  unit: string;
  time_zone: string;
  deviations: number;
  weeks: number;
  notes: string[];
  groups: { dimensions: Record<string, string>; hours: JudgedHour[] }[];
}

/** Whether the hours of a question can be compared: they have to be what the chart shows. */
export function canBeJudged({ grain, from, to }: Question): boolean {
  return grain === "1h" && Date.parse(to) - Date.parse(from) <= DAYS_MAX * 24 * HOUR_MS;
}

export function hoursOf(judged: Judged): readonly JudgedHour[] {
  return judged.groups[0]?.hours ?? [];
}

/** One hour of the band. */
export interface Step {
  /** Milliseconds. */
  start: number;
  end: number;
  low: number;
  high: number;
}

/** The band in pieces without a hole: between two of them nobody knows what is usual. */
export function pieces(hours: readonly JudgedHour[]): Step[][] {
  const all: Step[][] = [];
  for (const { start, usual } of hours) {
    if (usual === null) continue;
    const at = Date.parse(start);
    const step = { start: at, end: at + HOUR_MS, low: usual.low, high: usual.high };
    const last = all.at(-1);
    if (last?.at(-1)?.end === at) last.push(step);
    else all.push([step]);
  }
  return all;
}

/**
 * From where to where the vertical axis goes, so that the band fits up to an instant: what is usual for the rest of a day
 * is known, but not shown. A band that reaches below zero does not move the floor of what never does.
 */
export function reach(min: number, max: number, band: readonly Step[][], upTo: number): [number, number] {
  const steps = band.flat().filter(({ start }) => start < upTo);
  const top = Math.max(max, ...steps.map(({ high }) => high));
  const bottom = min < 0 ? Math.min(min, ...steps.map(({ low }) => low)) : 0;
  return [bottom * 1.05, top > 0 ? top * 1.08 : 1];
}

/** An estimate with as many digits as mean something. */
export function estimate(of: number): string {
  const size = Math.abs(of);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  const text = new Intl.NumberFormat("en", { maximumFractionDigits: digits }).format(size);
  return of < 0 && text !== "0" ? `${MINUS}${text}` : text;
}

/** `0.2 to 1.8`: a dash would look like a minus. */
export function span({ low, high }: Usual): string {
  return `${estimate(low)} to ${estimate(high)}`;
}

/** `Mon 2026-11-23 14:00: 30 events instead of 1 (0.2 to 1.8 is usual)`. */
export function sentenceOf(hour: JudgedHour, usual: Usual, { unit, time_zone }: Judged): string {
  const at = Date.parse(hour.start);
  const bound = hour.number && hour.number.method !== "exact" ? ` ± ${value(hour.number.error_bound)}` : "";
  const what = `${hour.number ? value(hour.number.value) : "0"}${bound} ${unit}`;
  return `${weekdayOf(at, time_zone)} ${instant(at, time_zone)}: ${what} instead of ${estimate(usual.mean)} (${span(usual)} is usual)`;
}

/** A sentence for every unusual hour, the newest first. */
export function sentences(judged: Judged): string[] {
  const said = hoursOf(judged).flatMap((hour) => (hour.unusual && hour.usual ? [sentenceOf(hour, hour.usual, judged)] : []));
  return said.reverse();
}
