/** The usual week: an hour of the day by day of the week, darker where more happens; hatched where it is provisional. */

import type { HeatCell, HeatMap } from "./api";
import { fill, h } from "./dom";
import { pixels, value } from "./format";

const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/** The faintest cell in which something happened, in percent of the darkest. */
const FAINTEST = 12;

export class Heat {
  readonly element = h("div", { class: "heat" });

  show(map: HeatMap): void {
    const largest = Math.max(...map.cells.map((cell) => usual(cell, map)), Number.MIN_VALUE);
    const hours = [...Array(24).keys()];
    const rows = WEEKDAYS.map((name, index) => {
      const cells = map.cells.filter(({ weekday }) => weekday === index + 1);
      return h("tr", {}, h("th", { scope: "row" }, h("span", { "aria-hidden": "true" }, name.slice(0, 2)), h("span", { class: "visually-hidden" }, name)), ...cells.map((cell) => shade(cell, map, largest)));
    });
    fill(
      this.element,
      h("h3", {}, "The usual week"),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "By hour and day of the week" }, h("table", {}, h("thead", {}, h("tr", {}, h("td", {}), ...hours.map((hour) => h("th", { scope: "col" }, String(hour))))), h("tbody", {}, ...rows))),
      h("p", { class: "hint" }, `${map.measure === "users" ? "Different users" : `${map.unit || "Value"} of one hour on average`}, hours as clocks show them in ${map.time_zone}.`),
      ...map.notes.map((note) => h("p", { class: "note" }, note)),
    );
  }

  problem(message: string): void {
    fill(this.element, h("p", { class: "problem" }, message));
  }

  clear(): void {
    fill(this.element);
  }
}

/** What one such hour has on average; users of several hours are no sum, so they are not divided. For shades only. */
export function usual(cell: HeatCell, map: Pick<HeatMap, "measure">): number {
  if (cell.number === null || cell.number.value === null || cell.hours === 0) return 0;
  const all = Math.abs(pixels(cell.number.value));
  return map.measure === "users" || map.measure === "formula" ? all : all / cell.hours;
}

function shade(cell: HeatCell, map: HeatMap, largest: number): HTMLElement {
  const { number, hours } = cell;
  if (number === null) return h("td", { class: "never", title: "No such hour in this range" });
  const share = usual(cell, map) / largest;
  const said = number.value === null ? "not defined" : `${value(number.value)} ${map.unit}`;
  const bound = number.method === "exact" ? "" : ` ± ${value(number.error_bound ?? 0)}`;
  const title = `${WEEKDAYS[cell.weekday - 1]} ${cell.hour}:00: ${said}${bound} in ${hours} ${hours === 1 ? "hour" : "hours"}, ${number.state}`;
  const piece = h("td", { class: number.state, title }, h("span", { class: "visually-hidden" }, said));
  piece.style.setProperty("--share", share === 0 ? "0%" : `${FAINTEST + share * (100 - FAINTEST)}%`);
  return piece;
}
