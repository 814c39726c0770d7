/** The same question about the range before, in a sentence: how much it was, the difference, and how certain both are. */

import type { Answer } from "./api";
import { h } from "./dom";
import { signed, value } from "./format";
import { dayOf } from "./zone";

export function compared(answer: Answer): HTMLElement | null {
  const { comparison } = answer;
  if (!comparison) return null;
  const { base, total } = comparison;
  const zone = answer.time_zone;
  const days = `${dayOf(Date.parse(base.from), zone)} to ${dayOf(Date.parse(base.to) - 1, zone)}`;
  const bound = base.total.method === "exact" ? "" : ` ± ${value(base.total.error_bound ?? 0)}`;
  const difference = total.difference?.value;
  const ratio = total.ratio?.value;
  return h(
    "p",
    { class: "compared" },
    `${days}: ${value(base.total.value ?? "not defined")}${bound} ${answer.unit} `,
    h("span", { class: `badge ${base.total.state}` }, base.total.state),
    difference !== null && difference !== undefined && h("span", { class: "difference" }, ` now ${signed(difference)}`),
    ratio !== null && ratio !== undefined && ` (${percent(ratio)})`,
    ...answer.notes.filter((note) => note.includes("not over")).map(() => h("span", { class: "hint" }, " · this range is not over yet")),
  );
}

/** A ratio as a change in percent, with one decimal; the digits behind it are in the API. */
export function percent(ratio: string | number): string {
  const change = (Number(ratio) - 1) * 100;
  const text = `${Math.abs(change).toFixed(1)} %`;
  return change < -0.05 ? `−${text}` : change > 0.05 ? `+${text}` : "±0.0 %";
}
