/** Numbers and instants as text. Values keep every digit: they are grouped as text, never turned into floats. */

import type { Value } from "./api";

/** U+2212, as wide as a digit, unlike the hyphen. */
export const MINUS = "−";
const integers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A value with its digits grouped: `4596039.58` is `4,596,039.58`. What is not a number is shown as it came. */
export function value(of: Value): string {
  const match = /^(-?)(\d+)(\.\d+)?$/.exec(String(of));
  if (!match) return String(of);
  const [, sign = "", whole = "0", fraction = ""] = match;
  return `${sign ? MINUS : ""}${integers.format(BigInt(whole))}${fraction}`;
}

/** A difference, with its sign also where it is positive. */
export function signed(of: Value): string {
  const text = value(of);
  return isZero(of) || text.startsWith(MINUS) ? text : `+${text}`;
}

/** Whether a value is zero, however many zeros it is written with. */
export function isZero(of: Value): boolean {
  return /^-?0+(\.0*)?$/.test(String(of));
}

/** As a float: good for the position of a pixel, for nothing else. */
export function pixels(of: Value): number {
  return Number(of);
}

/** The exact sum of values of one unit. Only for what may be added: counts and money, never distinct users. */
export function sum(values: readonly Value[]): string {
  let places = 0;
  for (const one of values) places = Math.max(places, (String(one).split(".")[1] ?? "").length);
  let total = 0n;
  for (const one of values) {
    const [whole = "0", fraction = ""] = String(one).split(".");
    total += BigInt(whole + fraction.padEnd(places, "0"));
  }
  if (places === 0) return total.toString();
  const digits = (total < 0n ? -total : total).toString().padStart(places + 1, "0");
  return `${total < 0n ? "-" : ""}${digits.slice(0, -places)}.${digits.slice(-places)}`;
}

/** A tick of an axis, shortened: 1.2M, 340k. */
const ticks = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
export function tick(of: number): string {
  return ticks.format(of);
}

/** `household_orders` as people write it. */
export function words(name: string): string {
  const text = name.replace(/[_-]+/g, " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** How long ago, or for how long, in one unit. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** A text without its middle, for run ids. */
export function shortened(id: string): string {
  return id.length <= 18 ? id : `${id.slice(0, 8)}…${id.slice(-6)}`;
}

/** Problem documents speak in phrases; beside other sentences they read better as one. */
export function sentence(text: string): string {
  if (text === "") return "";
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
