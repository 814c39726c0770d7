/** What the series shows: metric, range, grain, dimension, filter. Kept in the address' fragment, to be linked to. */

import type { Catalog, Question } from "./api";
import { fill, h } from "./dom";
import { words } from "./format";
import { addDays, dayOf } from "./zone";

export interface Choice {
  metric: string;
  range: string;
  grain: string;
  by: string;
  filter: { dimension: string; value: string } | null;
}

/** Whole calendar days up to today, and which grains give no more points than a chart can show. */
const RANGES = [
  { name: "today", days: 1, grains: ["1m", "5m", "1h"] },
  { name: "7 days", days: 7, grains: ["1h", "1d"] },
  { name: "30 days", days: 30, grains: ["1h", "1d"] },
  { name: "a year", days: 366, grains: ["1d"] },
] as const;

const GRAINS: Record<string, string> = { "1s": "second", "1m": "minute", "5m": "5 minutes", "1h": "hour", "1d": "day" };

/** The question that a choice asks, today being the last day. */
export function question(choice: Choice, zone: string, now: number): Question {
  const today = dayOf(now, zone);
  const days = RANGES.find((range) => range.name === choice.range)?.days ?? 1;
  return {
    metric: choice.metric,
    from: addDays(today, 1 - days),
    to: addDays(today, 1),
    grain: choice.grain,
    ...(choice.filter ? { filters: [choice.filter] } : {}),
  };
}

/** Every dimension that some rollup has. */
export function dimensions(catalog: Catalog): string[] {
  return [...new Set(catalog.rollups.filter((name) => name !== "total").flatMap((name) => name.split(",")))].sort();
}

/** Whether a rollup counts by all of these dimensions at once; the server needs one. */
export function isCounted(catalog: Catalog, wanted: readonly string[]): boolean {
  return wanted.length === 0 || catalog.rollups.some((name) => wanted.every((one) => name.split(",").includes(one)));
}

/** A choice that the catalog allows, as close as possible to the one given. */
export function allowed(choice: Partial<Choice>, catalog: Catalog): Choice {
  const metric = catalog.metrics.some(({ name }) => name === choice.metric) ? choice.metric : catalog.metrics[0]?.name;
  const range = RANGES.find(({ name }) => name === choice.range) ?? RANGES[2];
  const grains = grainsOf(range.name, catalog);
  const grain = choice.grain !== undefined && grains.includes(choice.grain) ? choice.grain : (grains.at(-1) ?? range.grains[range.grains.length - 1]);
  const known = dimensions(catalog);
  const filter = choice.filter && known.includes(choice.filter.dimension) ? choice.filter : null;
  const first = known.find((one) => one !== filter?.dimension && isCounted(catalog, filter ? [one, filter.dimension] : [one]));
  const wanted = choice.by ?? first ?? "";
  const by = known.includes(wanted) && isCounted(catalog, filter ? [wanted, filter.dimension] : [wanted]) ? wanted : "";
  return { metric: metric ?? "", range: range.name, grain: grain ?? "1d", by, filter };
}

function grainsOf(range: string, catalog: Catalog): string[] {
  return (RANGES.find(({ name }) => name === range)?.grains ?? []).filter((grain) => catalog.grains.includes(grain));
}

/** The choice in the address; the key is never in it. */
export function fromAddress(): Partial<Choice> {
  const hash = new URLSearchParams(location.hash.slice(1));
  const [dimension, ...value] = (hash.get("filter") ?? "").split(":");
  const choice: Partial<Choice> = { filter: dimension ? { dimension, value: value.join(":") } : null };
  for (const name of ["metric", "range", "grain", "by"] as const) {
    const value = hash.get(name);
    if (value !== null) choice[name] = value;
  }
  return choice;
}

export function toAddress(choice: Choice): void {
  const hash = new URLSearchParams({ metric: choice.metric, range: choice.range, grain: choice.grain, by: choice.by });
  if (choice.filter) hash.set("filter", `${choice.filter.dimension}:${choice.filter.value}`);
  history.replaceState(null, "", `#${hash}`);
}

export class Controls {
  readonly element = h("form", { class: "controls", "aria-label": "What is shown", onsubmit: (event) => event.preventDefault() });

  constructor(
    private readonly catalog: Catalog,
    public choice: Choice,
    private readonly onChange: (choice: Choice) => void,
  ) {
    this.render();
  }

  change(change: Partial<Choice>): void {
    const focused = document.activeElement?.id;
    this.choice = allowed({ ...this.choice, ...change }, this.catalog);
    this.render();
    if (focused) document.getElementById(focused)?.focus();
    toAddress(this.choice);
    this.onChange(this.choice);
  }

  private render(): void {
    const { choice, catalog } = this;
    const filter = choice.filter;
    const counted = dimensions(catalog).filter((one) => isCounted(catalog, filter ? [one, filter.dimension] : [one]));
    fill(
      this.element,
      this.select("metric", "Metric", catalog.metrics.map(({ name }) => [name, words(name)])),
      this.segments("range", "Range", RANGES.map(({ name }) => [name, words(name)])),
      this.segments("grain", "Grain", grainsOf(choice.range, catalog).map((grain) => [grain, words(GRAINS[grain] ?? grain)])),
      this.select("by", "Group by", [["", "nothing"], ...counted.map((name): [string, string] => [name, words(name)])]),
      filter &&
        h(
          "button",
          { type: "button", class: "chip", id: "clear-filter", onclick: () => this.change({ filter: null }) },
          `only ${words(filter.dimension)}: ${filter.value || "(none)"} `,
          h("span", { "aria-hidden": "true" }, "×"),
          h("span", { class: "visually-hidden" }, ", remove this filter"),
        ),
    );
  }

  private select(name: "metric" | "by", label: string, options: readonly (readonly [string, string])[]): HTMLElement {
    const select = h("select", { id: `choose-${name}`, onchange: (event) => this.change({ [name]: (event.target as HTMLSelectElement).value }) });
    select.append(...options.map(([value, text]) => h("option", { value, selected: this.choice[name] === value }, text)));
    return h("label", {}, h("span", { class: "label" }, label), select);
  }

  private segments(name: "range" | "grain", label: string, options: readonly (readonly [string, string])[]): HTMLElement {
    const choose = (value: string) => (): void => this.change({ [name]: value });
    return h(
      "fieldset",
      {},
      h("legend", { class: "label" }, label),
      h(
        "div",
        { class: "segments" },
        ...options.map(([value, text]) => {
          const id = `choose-${name}-${value.replace(/\W/g, "-")}`;
          return h("label", { for: id }, h("input", { type: "radio", id, name, value, checked: this.choice[name] === value, onchange: choose(value) }), h("span", {}, text));
        }),
      ),
    );
  }
}
