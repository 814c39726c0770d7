/** The time series: settled windows in solid colour, provisional ones dashed and hatched, and the horizon between them. */

import "uplot/dist/uPlot.min.css";

import uPlot from "uplot";

import { hoursOf, type Judged, type JudgedHour, pieces, reach, span, type Step } from "./anomalies";
import type { Answer } from "./api";
import { paintBand, paintEdges, paintMarks } from "./band";
import { fill, h } from "./dom";
import { shortened, tick, value } from "./format";
import { type Drawn, drawn, missing, type Window, windows } from "./series";
import { dayOf, instant, timeOf } from "./zone";

/** Up to this many windows are bars; more are a stepped line. */
const BARS_MAX = 62;
const HEIGHT_PX = 320;

export class Chart {
  readonly element = h("div", { class: "chart", tabindex: "0", role: "group", "aria-roledescription": "chart", "aria-describedby": "chart-keys" });
  private readonly canvas = h("div", { class: "canvas" });
  private readonly tip = h("div", { class: "tip" });
  private readonly spoken = h("p", { class: "visually-hidden", "aria-live": "polite" });
  private plot: uPlot | null = null;
  private answer: Answer | null = null;
  private shown: readonly Window[] = [];
  private data: Drawn = { x: [], settled: [], provisional: [], window: [] };
  private bars = true;
  private hours: readonly JudgedHour[] = [];
  private band: readonly Step[][] = [];
  private readonly resize = new ResizeObserver(() => this.plot?.setSize({ width: this.canvas.clientWidth, height: HEIGHT_PX }));
  private readonly scheme = matchMedia("(prefers-color-scheme: dark)");
  private readonly repaint = (): void => this.rebuild();

  constructor() {
    const keys = "Arrow keys go from window to window, Home and End to the first and the last.";
    this.element.append(this.canvas, this.spoken, h("p", { class: "visually-hidden", id: "chart-keys" }, keys));
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.element.addEventListener("blur", () => this.leave());
    this.resize.observe(this.canvas);
    this.scheme.addEventListener("change", this.repaint);
    this.tip.hidden = true;
  }

  /** Draws an answer; returns the windows that it drew. */
  show(answer: Answer, label: string): readonly Window[] {
    const fresh = this.answer === null || this.answer.grain !== answer.grain || this.answer.metric !== answer.metric || this.answer.from !== answer.from;
    this.answer = answer;
    this.shown = windows(answer, Date.now());
    const bars = this.shown.length <= BARS_MAX;
    const rebuild = fresh || bars !== this.bars || this.plot === null;
    this.bars = bars;
    this.data = drawn(this.shown, !bars);
    this.element.setAttribute("aria-label", `${label}, ${this.shown.length} windows`);
    if (rebuild) this.rebuild();
    else this.plot?.setData(this.columns());
    return this.shown;
  }

  /** Draws what is usual behind the series, and marks what is not; nothing of the kind without a judgement. */
  judge(judged: Judged | null): void {
    this.hours = judged === null ? [] : hoursOf(judged);
    this.band = pieces(this.hours);
    // New data, not a new picture: the axis has to reach as far as the band does.
    this.plot?.setData(this.columns());
  }

  clear(): void {
    this.answer = null;
    this.shown = [];
    this.plot?.destroy();
    this.plot = null;
  }

  destroy(): void {
    this.clear();
    this.resize.disconnect();
    this.scheme.removeEventListener("change", this.repaint);
  }

  private columns(): uPlot.AlignedData {
    return [this.data.x, this.data.settled, this.data.provisional];
  }

  private rebuild(): void {
    if (this.answer === null) return;
    this.plot?.destroy();
    this.tip.hidden = true;
    const width = this.canvas.clientWidth || 600;
    this.plot = new uPlot(this.options(width, this.answer), this.columns(), this.canvas);
    this.plot.over.append(this.tip);
  }

  private options(width: number, answer: Answer): uPlot.Options {
    // The plot outlives the answer that it was made for: newer ones only bring new data.
    const current = (): Answer => this.answer ?? answer;
    const css = getComputedStyle(this.element);
    const colour = (name: string): string => css.getPropertyValue(name).trim();
    const font = `12px ${css.fontFamily}`;
    const axis = { stroke: colour("--muted"), font, grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    // A bar covers most of its window and is no wider than 80 px.
    const paths = this.bars ? uPlot.paths.bars?.({ size: [0.8, 80, 2] }) : uPlot.paths.stepped?.({ align: 1 });
    const series = (name: string, more: uPlot.Series): uPlot.Series => ({
      ...more,
      stroke: colour(`--${name}`),
      fill: colour(`--${name}-fill`),
      width: 1.5,
      points: { show: false },
      spanGaps: false,
      ...(paths ? { paths } : {}),
    });
    return {
      width,
      height: HEIGHT_PX,
      padding: [26, 22, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: true, range: () => [Date.parse(current().from) / 1000, this.shownUpTo(current())] },
        y: { range: (_plot, min, max) => reach(min, max, this.band, this.shownUpTo(current()) * 1000) },
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), answer.time_zone),
      axes: [
        { ...axis, space: 64, size: 38, grid: { show: false }, values: (_plot, splits, _axis, _space, step) => labels(splits, step, answer.time_zone) },
        { ...axis, size: 52, values: (_plot, splits) => splits.map((at) => tick(at)) },
      ],
      series: [{}, series("settled", {}), series("provisional", { dash: [5, 3] })],
      hooks: {
        drawClear: [(plot) => paintBand(plot, this.band, colour), (plot) => this.paintBehind(plot, current(), colour)],
        draw: [
          (plot) => paintEdges(plot, this.band, colour),
          (plot) => paintMarks(plot, this.hours, colour),
          (plot) => this.paintHorizon(plot, current(), colour, font),
        ],
        setCursor: [(plot) => this.onCursor(plot)],
      },
    };
  }

  /** Seconds: the range's end, but not far into the future of an unfinished range. */
  private shownUpTo(answer: Answer): number {
    const end = this.shown.at(-1)?.end ?? Date.parse(answer.to);
    return Math.max(Math.min(Date.parse(answer.to), Math.max(end, Date.now())), end) / 1000;
  }

  /** Gaps are hatched, so that they look like nothing else. */
  private paintBehind(plot: uPlot, answer: Answer, colour: (name: string) => string): void {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.strokeStyle = colour("--problem");
    ctx.globalAlpha = 0.35;
    for (const gap of missing(answer)) {
      const left = plot.valToPos(Date.parse(gap.from) / 1000, "x", true);
      const right = plot.valToPos(Date.parse(gap.to) / 1000, "x", true);
      ctx.beginPath();
      for (let x = left - bbox.height; x < right; x += 8) {
        const from = Math.max(x, left);
        const to = Math.min(x + bbox.height, right);
        ctx.moveTo(from, bbox.top + (from - x));
        ctx.lineTo(to, bbox.top + (to - x));
      }
      ctx.stroke();
    }
    ctx.restore();
  }

  private paintHorizon(plot: uPlot, answer: Answer, colour: (name: string) => string, font: string): void {
    if (answer.horizon === null) return;
    const at = Date.parse(answer.horizon);
    const { ctx, bbox } = plot;
    if (at <= Date.parse(answer.from) || at / 1000 > (plot.scales.x?.max ?? 0)) return;
    const x = Math.round(plot.valToPos(at / 1000, "x", true));
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = colour("--ink");
    ctx.fillStyle = colour("--ink");
    ctx.lineWidth = ratio;
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top - 6 * ratio);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.font = font.replace("12px", `${12 * ratio}px`);
    const text = `settled up to ${instant(at, answer.time_zone)}`;
    const fitsLeft = x - ctx.measureText(text).width > bbox.left;
    ctx.textAlign = fitsLeft ? "right" : "left";
    ctx.fillText(text, x + (fitsLeft ? 0 : 4 * ratio), bbox.top - 10 * ratio);
    ctx.restore();
  }

  private onCursor(plot: uPlot): void {
    const { left, idx } = plot.cursor;
    const inside = left !== undefined && left !== null && left >= 0;
    const index = idx === null || idx === undefined ? undefined : this.windowAt(plot.posToVal(left ?? 0, "x"));
    const window = inside && index !== undefined ? this.shown[index] : undefined;
    if (!window || this.answer === null) {
      this.tip.hidden = true;
      return;
    }
    fill(this.tip, ...this.described(window, this.answer));
    this.tip.hidden = false;
    const middle = plot.valToPos((window.start + window.end) / 2000, "x");
    const leftEdge = Math.min(Math.max(middle - this.tip.offsetWidth / 2, 0), Math.max(0, plot.over.clientWidth - this.tip.offsetWidth));
    this.tip.style.transform = `translate(${Math.round(leftEdge)}px, 4px)`;
  }

  /** The window that contains an instant, in seconds. */
  private windowAt(seconds: number): number | undefined {
    const index = this.shown.findIndex((window) => window.start <= seconds * 1000 && seconds * 1000 < window.end);
    return index < 0 ? undefined : index;
  }

  private onKey(event: KeyboardEvent): void {
    const plot = this.plot;
    const last = this.shown.length - 1;
    if (!plot || last < 0) return;
    const { left } = plot.cursor;
    const at = left !== undefined && left >= 0 ? this.windowAt(plot.posToVal(left, "x")) : undefined;
    const moves: Record<string, number> = { ArrowLeft: (at ?? last + 1) - 1, ArrowRight: (at ?? last - 1) + 1, Home: 0, End: last };
    if (event.key === "Escape") return this.leave();
    const to = moves[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const window = this.shown[Math.min(Math.max(to, 0), last)];
    if (!window || this.answer === null) return;
    plot.setCursor({ left: plot.valToPos((window.start + window.end) / 2000, "x"), top: 10 });
    this.spoken.textContent = this.described(window, this.answer).map((node) => node.textContent).join(", ");
  }

  private described(window: Window, answer: Answer): HTMLElement[] {
    return describe(window, answer, this.hours.find(({ start }) => Date.parse(start) === window.start));
  }

  private leave(): void {
    this.plot?.setCursor({ left: -10, top: -10 });
  }
}

/** The words of a window: when, what, how it was counted, whether it can change, and what is usual there. */
export function describe(window: Window, answer: Answer, judged?: JudgedHour): HTMLElement[] {
  const zone = answer.time_zone;
  const whole = answer.grain === "1d" ? dayOf(window.start, zone) : `${instant(window.start, zone)} – ${timeOf(window.end, zone)}`;
  const lines = [h("p", { class: "when" }, whole)];
  const { number } = window;
  if (window.state === null) return [...lines, h("p", {}, "Not known yet")];
  lines.push(h("p", { class: "what" }, number ? value(number.value) : "0", " ", h("span", { class: "unit" }, answer.unit)));
  lines.push(h("p", {}, h("span", { class: `badge ${window.state}` }, window.state), number ? ` ${method(number.method)}` : " nothing happened"));
  if (number && number.method !== "exact") lines.push(h("p", {}, `± ${value(number.error_bound)} ${answer.unit}`));
  if (judged?.usual) lines.push(h("p", {}, `usual: ${span(judged.usual)}`, judged.unusual && h("span", { class: "bad" }, " – this is unusual")));
  if (number?.run_id) lines.push(h("p", { class: "run", title: number.run_id }, `run ${shortened(number.run_id)}`));
  return lines;
}

/** How a number was computed, in words. */
export function method(name: string): string {
  const names: Record<string, string> = { exact: "exact", hll: "estimated (HyperLogLog)", frequent_items: "at most (frequent items)" };
  return names[name] ?? name;
}

function labels(splits: number[], step: number, zone: string): string[] {
  let before = "";
  return splits.map((seconds) => {
    const day = dayOf(seconds * 1000, zone);
    if (step >= 86_400) return step >= 28 * 86_400 ? day.slice(0, 7) : day.slice(5);
    const time = timeOf(seconds * 1000, zone);
    const text = day === before || (before === "" && time !== "00:00") ? time : `${time}\n${day.slice(5)}`;
    before = day;
    return text;
  });
}
