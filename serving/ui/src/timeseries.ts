/** One metric over time: its total and how much of it is settled, the chart, the same as a table, and the groups. */

import type { Judged } from "./anomalies";
import type { Answer } from "./api";
import { Chart, method } from "./chart";
import { fill, h } from "./dom";
import { compared } from "./compared";
import { Groups } from "./groups";
import { Heat } from "./heatmap";
import { sum, value } from "./format";
import { missing, shares, type Window } from "./series";
import { Unusual } from "./unusual";
import { dayOf, instant } from "./zone";

/** So many gaps are told in words; the chart hatches them all. */
const GAPS_MAX = 5;
/** The table is of the newest windows; who wants more asks the API. */
const TABLE_ROWS_MAX = 400;

export class Series {
  readonly element = h("div", {});
  readonly groups: Groups;
  readonly heat = new Heat();
  private readonly chart = new Chart();
  private readonly unusual = new Unusual();
  private readonly summary = h("div", { class: "summary" });
  private readonly before = h("div", {});
  private readonly remarks = h("div", { class: "remarks" });
  private readonly rows = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The windows as a table" });
  private readonly table = h("details", { class: "astable", ontoggle: () => this.fillTable() }, h("summary", {}, "The windows as a table"), this.rows);
  private shown: { answer: Answer; windows: readonly Window[] } | null = null;
  private judged: Judged | null = null;

  constructor(onOnly: (dimension: string, value: string) => void) {
    this.groups = new Groups(onOnly);
    this.element.append(this.summary, this.before, this.chart.element, this.unusual.element, this.remarks, this.groups.element, this.heat.element, this.table);
  }

  /** Another question was asked; until it is answered, nothing of the old answer may be taken for it. */
  wait(): void {
    this.shown = null;
    this.groups.clear();
    this.heat.clear();
    this.judge(null);
    fill(this.before);
    this.element.setAttribute("aria-busy", "true");
  }

  /** What the range before had. */
  compare(answer: Answer): void {
    fill(this.before, compared(answer));
  }

  /** What is usual there, if that was asked for. */
  judge(judged: Judged | null): void {
    this.judged = judged;
    // Until the series is there the chart still has the one before, whose band this is not.
    if (judged === null || this.shown !== null) this.chart.judge(judged);
    if (judged === null) this.unusual.clear();
    else this.unusual.show(judged);
  }

  /** What is usual cannot be said. */
  unjudged(message: string): void {
    this.judge(null);
    this.unusual.problem(message);
  }

  show(answer: Answer, label: string): void {
    this.element.removeAttribute("aria-busy");
    const windows = this.chart.show(answer, label);
    if (this.shown === null) this.chart.judge(this.judged);
    this.shown = { answer, windows };
    fill(this.summary, ...summary(answer));
    fill(this.remarks, ...remarks(answer, windows));
    this.fillTable();
  }

  problem(message: string): void {
    this.element.removeAttribute("aria-busy");
    this.chart.clear();
    fill(this.summary, h("p", { class: "problem", role: "alert" }, message));
    fill(this.remarks);
  }

  destroy(): void {
    this.chart.destroy();
  }

  private fillTable(): void {
    if (!this.table.open || !this.shown) return;
    const { answer, windows } = this.shown;
    const at = (ms: number): string => (answer.grain === "1d" ? dayOf(ms, answer.time_zone) : instant(ms, answer.time_zone));
    const rows = [...windows].reverse().slice(0, TABLE_ROWS_MAX).map(({ start, number, state }) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, at(start)),
        h("td", { class: "amount" }, number ? value(number.value) : state === null ? "not known" : "0"),
        h("td", {}, state ? h("span", { class: `badge ${state}` }, state) : null),
        h("td", {}, number ? (number.method === "exact" ? "exact" : `± ${value(number.error_bound)}`) : ""),
        h("td", { class: "run" }, number?.run_id ?? ""),
      ),
    );
    const columns = ["Window from", answer.unit, "State", "Bound", "Run"];
    fill(
      this.rows,
      h("table", {}, h("thead", {}, h("tr", {}, ...columns.map((name, index) => h("th", { scope: "col", class: index === 1 ? "amount" : "" }, name)))), h("tbody", {}, ...rows)),
      windows.length > TABLE_ROWS_MAX && h("p", { class: "hint" }, `The newest ${TABLE_ROWS_MAX} of ${windows.length} windows.`),
    );
  }
}

/** The range's total, and how much of it is in which state. */
function summary(answer: Answer): HTMLElement[] {
  const { total } = answer;
  const bound = total.method === "exact" ? null : h("span", { class: "bound", title: method(total.method) }, `± ${value(total.error_bound)} `);
  const parts = answer.measure === "users" ? [] : shares(answer.parts, sum);
  const legend = parts.length > 0 ? parts.map(({ state, value: part }) => ({ state, text: `${state} ${value(part)}` })) : [...new Set(answer.coverage.map(({ state }) => state))].map((state) => ({ state, text: state as string }));
  const horizon = answer.horizon === null ? "nothing is settled yet" : `settled up to ${instant(answer.horizon, answer.time_zone)}`;
  const counted = answer.watermark === null ? "" : `, counted up to ${instant(Math.floor(Date.parse(answer.watermark) / 1000) * 1000, answer.time_zone)}`;
  return [
    h("p", { class: "total" }, value(total.value), " ", bound, h("span", { class: "unit" }, answer.unit)),
    h("ul", { class: "legend" }, ...legend.map(({ state, text }) => h("li", {}, h("span", { class: `swatch ${state}`, "aria-hidden": "true" }), text)), h("li", { class: "horizon" }, `${horizon}${counted}`)),
  ];
}

/** What a reader must know before trusting the picture. */
function remarks(answer: Answer, windows: readonly Window[]): HTMLElement[] {
  const zone = answer.time_zone;
  const all = missing(answer).slice(0, GAPS_MAX).map((gap) => h("p", { class: "problem" }, `No numbers from ${instant(gap.from, zone)} to ${instant(gap.to, zone)}: ${gap.reason}`));
  all.push(...answer.notes.map((note) => h("p", { class: "note" }, note)));
  if (windows.every((window) => window.number === null)) all.push(h("p", { class: "empty" }, "Nothing happened in this range. Choose a longer one, or send events to the collector."));
  return all;
}

