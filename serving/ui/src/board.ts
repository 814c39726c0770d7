/** The board: figures, series, alerts, reconciliation, and one live stream that keeps them up to date. */

import { Alerts } from "./alertboard";
import { canBeJudged } from "./anomalies";
import { type Answer, type Api, type Catalog, type Reconciliation, Refused } from "./api";
import { Connection } from "./connection";
import { Controls, allowed, fromAddress, question } from "./controls";
import { fill, h } from "./dom";
import { Figures } from "./figures";
import { words } from "./format";
import { watch } from "./live";
import { notForYou, showReconciliation } from "./reconciliation";
import { Refresh } from "./refresh";
import { Series } from "./timeseries";
import { dayOf, timeOf } from "./zone";

/** A page has one stream, because a browser opens six connections to a server at most, those of other tabs included. */
export function showBoard(root: Element, api: Api, offered: Catalog, onSignOut: (why: string | null) => void): void {
  // Series need windows.
  const catalog = { ...offered, metrics: offered.metrics.filter(({ measure }) => measure !== "active_users" && measure !== "top") };
  const zone = catalog.time_zone;
  const end = new AbortController();
  const connection = new Connection();
  const clock = h("span", { class: "clock" });
  const reconciliation = h("div", { class: "card" }, h("p", { class: "empty" }, "…"));
  const figures = new Figures(api, catalog.metrics, zone);
  const controls = new Controls(catalog, allowed(fromAddress(), catalog), () => ask());
  const series = new Series((dimension, value) => controls.change({ filter: { dimension, value }, by: "" }));
  let horizon: string | null | undefined;
  let asked = new AbortController();
  let day = dayOf(Date.now(), zone);

  const leave = (why: string | null): void => {
    if (end.signal.aborted) return;
    end.abort();
    asked.abort();
    for (const refresh of refreshes) refresh.stop();
    clearInterval(minder);
    connection.stop();
    series.destroy();
    document.body.classList.remove("stale");
    onSignOut(why);
  };
  /** A key that is no longer good ends the board, wherever it shows. */
  const problem = (error: unknown): string => {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) leave(error.message);
    return error instanceof Error ? error.message : String(error);
  };
  const seen = (answer: Answer): void => {
    connection.lagged(answer.speed_lag_ms, answer.stale ?? null);
    if (horizon !== undefined && horizon !== answer.horizon) reconciled.poke();
    horizon = answer.horizon;
  };

  const figured = new Refresh((signal) => figures.read(signal, seen, problem), { atMostEveryMs: 2_000, atLeastEveryMs: 10_000 });
  const grouped = new Refresh(
    async (signal) => {
      const { choice } = controls;
      if (choice.by === "" || choice.metric === "") return series.groups.clear();
      const groups = { ...question(choice, zone, Date.now()), grain: catalog.grains.includes("1d") ? "1d" : choice.grain, by: choice.by };
      try {
        const answer = await api.query(groups, signal);
        if (controls.choice === choice) series.groups.show(answer, choice.by);
      } catch (error) {
        if (!signal.aborted && controls.choice === choice) series.groups.problem(problem(error));
      }
    },
    { atMostEveryMs: 5_000, atLeastEveryMs: 30_000 },
  );
  /** What the chart does not show: the range before, and the usual week. */
  const beside = new Refresh(
    async (signal) => {
      const { choice } = controls;
      if (choice.metric === "") return;
      const asked = question(choice, zone, Date.now());
      try {
        const whole = { ...asked, grain: catalog.grains.includes("1d") ? "1d" : choice.grain };
        const [answer, week] = await Promise.all([api.compared(whole, signal), api.heatmap(asked, signal)]);
        if (controls.choice !== choice) return;
        series.compare(answer);
        series.heat.show(week);
      } catch (error) {
        if (!signal.aborted && controls.choice === choice) series.heat.problem(problem(error));
      }
    },
    { atMostEveryMs: 10_000, atLeastEveryMs: 60_000 },
  );
  const reconciled: Refresh = new Refresh(
    async (signal) => {
      try {
        const latest: Reconciliation | null = await api.reconciliation(signal);
        showReconciliation(reconciliation, latest, zone);
      } catch (error) {
        if (signal.aborted) return;
        // Who only reads has the numbers all the same.
        if (error instanceof Refused && error.status === 403) {
          reconciled.stop();
          return fill(reconciliation, notForYou());
        }
        fill(reconciliation, h("p", { class: "problem" }, problem(error)));
      }
    },
    { atMostEveryMs: 2_000, atLeastEveryMs: 30_000 },
  );
  const judged = new Refresh(
    async (signal) => {
      const { choice } = controls;
      const asked = question(choice, zone, Date.now());
      if (choice.metric === "" || !canBeJudged(asked)) return series.judge(null);
      try {
        const answer = await api.anomalies(asked, zone, signal);
        if (controls.choice === choice) series.judge(answer);
      } catch (error) {
        if (!signal.aborted && controls.choice === choice) series.unjudged(problem(error));
      }
    },
    { atMostEveryMs: 10_000, atLeastEveryMs: 60_000 },
  );
  const alerts = new Alerts(api, offered.metrics, zone, { onChange: () => watched.now(), problem });
  const watched: Refresh = new Refresh((signal) => alerts.read(signal), { atMostEveryMs: 2_000, atLeastEveryMs: 5_000 });
  const refreshes = [figured, grouped, beside, judged, watched, reconciled];

  const ask = (): void => {
    asked.abort();
    asked = new AbortController();
    if (controls.choice.metric === "") return;
    series.wait();
    grouped.now();
    beside.now();
    judged.now();
    const metric = catalog.metrics.find(({ name }) => name === controls.choice.metric);
    const listener = {
      onAnswer: (answer: Answer) => {
        series.show(answer, words(metric?.name ?? answer.metric));
        seen(answer);
        figured.poke();
        grouped.poke();
        watched.poke();
      },
      onPhase: connection.phase.bind(connection),
      onHeard: connection.heard.bind(connection),
    };
    watch(api, question(controls.choice, zone, Date.now()), listener, asked.signal).catch((error: unknown) => series.problem(problem(error)));
  };
  const minder = setInterval(() => {
    const now = Date.now();
    fill(clock, `${dayOf(now, zone)} ${timeOf(now, zone)}`);
    // The ranges end with today: at the tenant's midnight they move on.
    if (dayOf(now, zone) !== day) {
      day = dayOf(now, zone);
      ask();
      figured.poke();
    }
  }, 1000);

  const open = h("button", { type: "button", class: "quiet", onclick: () => leave(null) }, "Sign out");
  fill(
    root,
    h("a", { class: "skip", href: "#series" }, "Skip to the series"),
    h(
      "header",
      { class: "top" },
      h("p", { class: "brand" }, "Reckon"),
      h("h1", {}, catalog.tenant),
      h("p", { class: "zone" }, clock, ` ${zone}`),
      connection.badge,
      alerts.badge,
      h("nav", { "aria-label": "More" }, h("a", { href: "docs" }, "API"), open),
    ),
    connection.banner,
    h(
      "main",
      {},
      figures.element,
      h("section", { class: "card series", id: "series", tabindex: "-1", "aria-label": "Over time" }, controls.element, series.element),
      alerts.element,
      h("section", { "aria-labelledby": "reconciled" }, h("h2", { id: "reconciled" }, "Last reconciliation"), reconciliation),
    ),
  );
  ask();
}
