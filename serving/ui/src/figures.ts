/** The big figures: what each metric of the catalog came to today, and how far that can be trusted. */

import type { Answer, Api, Metric } from "./api";
import { method } from "./chart";
import { fill, h } from "./dom";
import { pixels, value, words } from "./format";
import { addDays, dayOf, instant, timeOf } from "./zone";

interface Card {
  metric: Metric;
  element: HTMLElement;
  body: HTMLElement;
}

export class Figures {
  readonly element = h("section", { class: "figures", "aria-label": "Today so far" });
  private readonly cards: Card[];

  constructor(
    private readonly api: Api,
    metrics: readonly Metric[],
    private readonly zone: string,
  ) {
    this.cards = metrics.map((metric) => {
      const body = h("div", {}, h("p", { class: "big" }, "…"));
      return { metric, body, element: h("article", { class: "card figure" }, h("h2", {}, `${words(metric.name)} today`), body) };
    });
    this.element.append(...this.cards.map((card) => card.element));
    if (metrics.length === 0) {
      this.element.append(h("p", { class: "empty" }, "The catalog has no metrics for this tenant. Add some under ", h("code", {}, "metrics"), ", then reload."));
    }
  }

  /** Asks for today's values, one after the other; a card that cannot be read keeps its last value, marked as old. */
  async read(signal: AbortSignal, onAnswer: (answer: Answer) => void, onProblem: (error: unknown) => void): Promise<void> {
    const today = dayOf(Date.now(), this.zone);
    for (const card of this.cards) {
      try {
        const answer = await this.api.query({ metric: card.metric.name, from: today, to: addDays(today, 1), grain: "1d" }, signal);
        this.show(card, answer);
        onAnswer(answer);
      } catch (error) {
        if (signal.aborted) return;
        card.element.classList.add("old");
        if (!card.element.querySelector(".state")) fill(card.body, h("p", { class: "big" }, "–"), h("p", { class: "problem" }, error instanceof Error ? error.message : String(error)));
        onProblem(error);
      }
    }
  }

  private show(card: Card, answer: Answer): void {
    const { total } = answer;
    card.element.classList.remove("old");
    const bound = total.method !== "exact" && pixels(total.error_bound) > 0 ? h("span", { class: "bound", title: method(total.method) }, `± ${value(total.error_bound)}`) : null;
    fill(
      card.body,
      h("p", { class: "big" }, value(total.value), " ", bound, h("span", { class: "unit" }, answer.unit)),
      h("p", { class: "state" }, h("span", { class: `badge ${total.state}` }, total.state), total.as_of ? h("span", { class: "asof" }, `as of ${this.asOf(total.as_of)}`) : null),
    );
  }

  private asOf(at: string): string {
    const ms = Date.parse(at);
    return dayOf(ms, this.zone) === dayOf(Date.now(), this.zone) ? instant(at, this.zone).slice(11) || timeOf(ms, this.zone) : instant(at, this.zone);
  }
}
