/** Below the chart: which hours are unusual, in words, and what the band is. */

import { hoursOf, type Judged, sentences } from "./anomalies";
import { fill, h } from "./dom";

/** More hours than these are behind a line that opens. */
const LISTED = 4;

export class Unusual {
  readonly element = h("div", { class: "unusual" });
  private open = false;

  show(judged: Judged): void {
    // Without a band nothing was judged, and nothing is to be said.
    if (hoursOf(judged).every(({ usual }) => usual === null)) return this.clear();
    const said = sentences(judged);
    const items = said.map((text) => h("li", {}, h("span", { class: "mark", "aria-hidden": "true" }), text));
    const rest = items.slice(LISTED);
    fill(
      this.element,
      h("p", { class: "count" }, said.length === 0 ? "No unusual hours" : said.length === 1 ? "1 unusual hour" : `${said.length} unusual hours`),
      items.length > 0 && h("ul", {}, ...items.slice(0, LISTED)),
      rest.length > 0 && h("details", { open: this.open, ontoggle: (event) => this.remember(event) }, h("summary", {}, `${rest.length} more`), h("ul", {}, ...rest)),
      h("p", { class: "hint" }, h("span", { class: "swatch usual", "aria-hidden": "true" }), `Usual for this hour of the week: within ${judged.deviations} standard deviations of up to ${judged.weeks} weeks before. Only hours that are over are judged.`),
      ...judged.notes.map((note) => h("p", { class: "note" }, note)),
    );
  }

  problem(message: string): void {
    fill(this.element, h("p", { class: "problem" }, message));
  }

  clear(): void {
    fill(this.element);
  }

  /** The list is made anew every minute; what a reader has opened stays open. */
  private remember(event: Event): void {
    this.open = (event.target as HTMLDetailsElement).open;
  }
}
