/** The range's total per value of a dimension: bars, the settled part solid, the provisional part hatched. */

import type { Answer, Group } from "./api";
import { method } from "./chart";
import { fill, h } from "./dom";
import { pixels, sum, value, words } from "./format";
import { shares } from "./series";

/** More rows than these are behind a button. */
const ROWS = 12;

export class Groups {
  readonly element = h("div", { class: "groups" });
  private all = false;
  private shown: { answer: Answer; by: string } | null = null;

  constructor(private readonly onOnly: (dimension: string, value: string) => void) {}

  show(answer: Answer, by: string): void {
    this.shown = { answer, by };
    const groups = [...answer.groups].sort((a, b) => pixels(b.total.value) - pixels(a.total.value));
    if (groups.length === 0) return fill(this.element, heading(by), h("p", { class: "empty" }, "Nothing happened in this range."));
    const all = this.all || groups.length <= ROWS;
    const listed = all ? [...groups, ...(answer.other ? [answer.other] : [])] : groups.slice(0, ROWS);
    const longest = Math.max(...listed.map((group) => Math.abs(pixels(group.total.value))), Number.MIN_VALUE);
    const rows = listed.map((group) => this.row(group, answer, by, longest, group === answer.other));
    const more = groups.length > ROWS && h("button", { type: "button", class: "quiet", onclick: () => this.toggle() }, this.all ? "Show fewer" : `Show all ${groups.length}`);
    fill(
      this.element,
      heading(by),
      h(
        "table",
        {},
        h("thead", { class: "visually-hidden" }, h("tr", {}, h("th", { scope: "col" }, words(by)), h("th", { scope: "col" }, "Share"), h("th", { scope: "col" }, answer.unit))),
        h("tbody", {}, ...rows),
      ),
      more,
      answer.truncated && h("p", { class: "hint" }, "There are more values than the server lists; the total above has them all the same."),
    );
  }

  problem(message: string): void {
    this.shown = null;
    fill(this.element, h("p", { class: "problem" }, message));
  }

  clear(): void {
    this.all = false;
    this.shown = null;
    fill(this.element);
  }

  private toggle(): void {
    this.all = !this.all;
    if (this.shown) this.show(this.shown.answer, this.shown.by);
  }

  private row(group: Group, answer: Answer, by: string, longest: number, isRest: boolean): HTMLElement {
    const own = group.dimensions[by];
    const bar = h("div", { class: "bar", "aria-hidden": "true" });
    const parts = answer.measure === "users" ? [{ state: group.total.state, value: group.total.value }] : shares(group.parts, sum);
    for (const part of parts) {
      const piece = h("span", { class: `piece ${part.state}` });
      piece.style.width = `${(Math.abs(pixels(part.value)) / longest) * 100}%`;
      bar.append(piece);
    }
    const bound = group.total.method === "exact" ? null : h("span", { class: "bound", title: method(group.total.method) }, ` ± ${value(group.total.error_bound)}`);
    const name =
      isRest || own === undefined || own === "__other__"
        ? h("span", { class: "rest" }, "all other values")
        : h("button", { type: "button", class: "link", title: `Show only ${own || "these"}`, onclick: () => this.onOnly(by, own) }, own || "(none)");
    return h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "wide" }, bar), h("td", { class: "amount" }, value(group.total.value), bound));
  }
}

function heading(by: string): HTMLElement {
  return h("h3", {}, `By ${words(by).toLowerCase()}`);
}
