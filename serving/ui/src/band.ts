/** Paints what is usual behind the series, and a mark on every hour that is not. */

import type uPlot from "uplot";

import type { JudgedHour, Step } from "./anomalies";
import { pixels } from "./format";

const MARK_MIN_PX = 3;
const MARK_MAX_PX = 5;
const HALF_HOUR_MS = 1_800_000;

type Colour = (name: string) => string;

/** The band, a quiet one: it steps from hour to hour, as the series does. */
export function paintBand(plot: uPlot, band: readonly Step[][], colour: Colour): void {
  painting(plot, (ctx) => {
    ctx.fillStyle = colour("--usual-fill");
    for (const steps of band) {
      ctx.beginPath();
      trace(plot, steps, ({ high }) => high, false);
      trace(plot, [...steps].reverse(), ({ low }) => low, true);
      ctx.closePath();
      ctx.fill();
    }
  });
}

/** Its edges, in front: a filled series would hide the lower one. */
export function paintEdges(plot: uPlot, band: readonly Step[][], colour: Colour): void {
  painting(plot, (ctx) => {
    ctx.strokeStyle = colour("--usual");
    ctx.lineWidth = devicePixelRatio;
    for (const steps of band) {
      ctx.beginPath();
      trace(plot, steps, ({ high }) => high, false);
      const [first] = steps;
      if (first) ctx.moveTo(x(plot, first.start), y(plot, first.low));
      trace(plot, steps, ({ low }) => low, false);
      ctx.stroke();
    }
  });
}

/** A diamond, which nothing else on the chart is, so that it does not depend on its colour. */
export function paintMarks(plot: uPlot, hours: readonly JudgedHour[], colour: Colour): void {
  // Smaller where the hours are narrow, so that neighbours can be told apart.
  const width = (plot.valToPos(3600, "x") - plot.valToPos(0, "x")) / 3;
  const size = Math.min(MARK_MIN_PX + width, MARK_MAX_PX) * devicePixelRatio;
  painting(plot, (ctx) => {
    ctx.fillStyle = colour("--problem");
    ctx.strokeStyle = colour("--card");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const { start, number, unusual } of hours) {
      if (!unusual) continue;
      const middle = x(plot, Date.parse(start) + HALF_HOUR_MS);
      // One at the bottom stays whole.
      const height = Math.min(y(plot, number === null ? 0 : pixels(number.value)), plot.bbox.top + plot.bbox.height - size);
      ctx.beginPath();
      ctx.moveTo(middle, height - size);
      ctx.lineTo(middle + size, height);
      ctx.lineTo(middle, height + size);
      ctx.lineTo(middle - size, height);
      ctx.closePath();
      ctx.stroke();
      ctx.fill();
    }
  });
}

/** Adds one edge of the band to the path. */
function trace(plot: uPlot, steps: readonly Step[], edge: (step: Step) => number, backwards: boolean): void {
  for (const step of steps) {
    const height = y(plot, edge(step));
    const [from, to] = backwards ? [step.end, step.start] : [step.start, step.end];
    plot.ctx.lineTo(x(plot, from), height);
    plot.ctx.lineTo(x(plot, to), height);
  }
}

function painting(plot: uPlot, paint: (ctx: CanvasRenderingContext2D) => void): void {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  // A line of the series may have left its dashes behind.
  ctx.setLineDash([]);
  paint(ctx);
  ctx.restore();
}

/** Whole pixels, so that no seam shows between two hours. */
function x(plot: uPlot, at: number): number {
  return Math.round(plot.valToPos(at / 1000, "x", true));
}

function y(plot: uPlot, of: number): number {
  return Math.round(plot.valToPos(of, "y", true));
}
