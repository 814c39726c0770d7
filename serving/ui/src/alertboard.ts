/** The alerts of the tenant: how each stands, and what was told. Asked for again and again: a page has one stream. */

import { type Alert, type AlertEvent, condition, headline, phaseWords, receiver, told, unitOf } from "./alerts";
import { alertForm } from "./alertform";
import { type Api, type Metric, Refused } from "./api";
import { fill, h } from "./dom";
import { value } from "./format";
import { instant } from "./zone";

const TOLD_SHOWN = 5;
const CLASSES = ["", "", "amount", "when", ""];

export interface Listener {
  /** Something was written down or removed. */
  onChange(): void;
  /** The words for what went wrong; ends the board if nobody is let in any more. */
  problem(error: unknown): string;
}

export class Alerts {
  readonly element = h("section", { id: "alerts", tabindex: "-1", "aria-labelledby": "alerts-title" });
  /** In the head of the page, where it is seen from everywhere. */
  readonly badge = h("button", { type: "button", class: "health firing", onclick: () => this.come() });
  private readonly trouble = h("p", { class: "problem" });
  private readonly refused = h("p", { class: "problem", role: "alert" });
  private readonly verdict = h("p", { class: "empty", role: "status" }, "…");
  private readonly list = h("div", {});
  private readonly recent = h("div", {});
  private shown: string | null = null;

  constructor(
    private readonly api: Api,
    private readonly metrics: readonly Metric[],
    private readonly zone: string,
    private readonly listener: Listener,
  ) {
    this.badge.hidden = true;
    const form = alertForm(metrics.filter(({ measure }) => measure !== "top"), (definition) => this.change(() => api.createAlert(definition)));
    this.element.append(h("h2", { id: "alerts-title" }, "Alerts"), h("div", { class: "card alerts" }, this.trouble, this.verdict, this.list, this.refused, this.recent, form));
  }

  async read(signal: AbortSignal): Promise<void> {
    try {
      const { alerts, unreadable } = await this.api.alerts(signal);
      this.show(alerts, await this.api.alertEvents(TOLD_SHOWN, signal));
      fill(this.trouble, unreadable.length > 0 && `The server cannot read these alerts, and does not look at them: ${unreadable.join(", ")}.`);
    } catch (error) {
      // What was seen last stays, below the words that say that it is old.
      if (!signal.aborted) fill(this.trouble, this.listener.problem(error));
    }
  }

  /** Only if something is new: a reader's place in the list, and what a screen reader reads, stay where they are. */
  private show(alerts: readonly Alert[], events: readonly AlertEvent[]): void {
    const shown = JSON.stringify([alerts.map(({ id, phase, since, number }) => [id, phase, since, number]), events[0]?.id]);
    if (shown === this.shown) return;
    this.shown = shown;
    const focused = document.activeElement?.id;
    const firing = alerts.filter(({ phase }) => phase === "firing").length;
    this.badge.hidden = firing === 0;
    fill(this.badge, `${firing} firing`);
    this.conclude(alerts);
    fill(this.list, alerts.length > 0 && this.table(alerts));
    fill(this.recent, ...(events.length > 0 ? [h("h3", {}, "Told last"), h("ul", { class: "told" }, ...events.map((event) => this.event(event)))] : []));
    if (focused) document.getElementById(focused)?.focus();
  }

  private conclude(alerts: readonly Alert[]): void {
    const { kind, text } = alerts.length === 0 ? { kind: "", text: "Nothing is watched yet." } : headline(alerts);
    if (this.verdict.textContent === text) return;
    this.verdict.className = kind === "" ? "empty" : `verdict ${kind}`;
    fill(this.verdict, text);
  }

  private table(alerts: readonly Alert[]): HTMLElement {
    const columns = ["Alert", "State", "Last number", "Since", ""];
    const cells = (alert: Alert): (Node | string)[] => {
      const metric = this.metrics.find(({ name }) => name === alert.metric);
      const remove = (): void => void this.remove(alert);
      return [
        h("span", {}, h("span", { class: "name" }, alert.name), h("span", { class: "hint" }, condition(alert, metric), alert.webhook ? `; tells ${receiver(alert.webhook)}` : "")),
        // It stands at ok from the beginning, which nobody has seen yet.
        alert.since === null ? h("span", { class: "badge no_data" }, "new") : h("span", { class: `badge ${alert.phase}` }, phaseWords(alert.phase)),
        alert.number === null ? "–" : h("span", {}, value(alert.number), " ", h("span", { class: "unit" }, unitOf(metric))),
        alert.since === null ? "not looked at yet" : this.second(alert.since),
        h("button", { type: "button", class: "quiet", id: `remove-${alert.id}`, "aria-label": `Remove ${alert.name}`, onclick: remove }, "Remove"),
      ];
    };
    const heads = columns.map((name, index) => h("th", { scope: "col", class: CLASSES[index] ?? "" }, name || h("span", { class: "visually-hidden" }, "Change")));
    const row = (alert: Alert): HTMLElement =>
      h("tr", {}, ...cells(alert).map((cell, index) => h("td", { "data-label": columns[index] ?? "", class: CLASSES[index] ?? "" }, cell)));
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Every alert" }, h("table", { class: "stacked" }, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...alerts.map(row))));
  }

  private event(event: AlertEvent): HTMLElement {
    const { phase, word, text } = told(event);
    return h("li", {}, h("span", { class: "asof" }, this.second(event.at)), h("span", {}, h("span", { class: `badge ${phase}` }, word)), h("span", {}, text));
  }

  private async remove(alert: Alert): Promise<void> {
    if (!confirm(`Remove the alert “${alert.name}”? Messages of it that have not arrived yet are not sent any more.`)) return;
    try {
      await this.change(() => this.api.removeAlert(alert.id));
    } catch (error) {
      // Gone already is as good as gone.
      if (error instanceof Refused && error.status === 404) return this.listener.onChange();
      fill(this.refused, error instanceof Error ? error.message : String(error));
    }
  }

  /** Who may not change anything may still read: only who is not let in at all has to leave. */
  private async change<T>(task: () => Promise<T>): Promise<T> {
    try {
      const done = await task();
      fill(this.refused);
      this.listener.onChange();
      return done;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) this.listener.problem(error);
      throw error;
    }
  }

  private come(): void {
    this.element.scrollIntoView({ block: "start" });
    this.element.focus({ preventScroll: true });
  }

  private second(at: string): string {
    return instant(Math.floor(Date.parse(at) / 1000) * 1000, this.zone);
  }
}
