/** Says whether the page is live, and never lets it look live while it is stale. */

import type { Stale } from "./api";
import { fill, h } from "./dom";
import { duration } from "./format";
import { type Phase, SILENCE_MAX_MS } from "./live";

/** The speed layer reports its progress at least every few seconds; older than this, the numbers are behind. */
const LAG_MAX_MS = 30_000;
/** A break as short as this is not worth a banner. */
const BREAK_MAX_MS = 3_000;

export type Health = "connecting" | "live" | "behind" | "last-good" | "reconnecting" | "stale" | "refused";

export interface Facts {
  phase: Phase;
  /** Why the connection is broken or refused. */
  text: string | null;
  /** Milliseconds since the last byte of the stream; null before the first. */
  silentMs: number | null;
  /** Age of the speed layer's oldest progress; null if it never reported any. */
  lagMs: number | null;
  /** What the server says of its own numbers. */
  stale: Stale | null;
}

/** What to call that. */
export function health(facts: Facts): Health {
  if (facts.phase === "refused") return "refused";
  if (facts.silentMs === null) return facts.phase === "broken" ? "reconnecting" : "connecting";
  if (facts.phase !== "open") return facts.silentMs > BREAK_MAX_MS ? "stale" : "reconnecting";
  if (facts.silentMs > SILENCE_MAX_MS) return "stale";
  if (facts.stale?.reason === "store_away") return "last-good";
  if (facts.stale?.reason === "speed_behind") return "behind";
  return facts.lagMs !== null && facts.lagMs > LAG_MAX_MS ? "behind" : "live";
}

export class Connection {
  readonly badge = h("p", { class: "health connecting", role: "status" }, "Connecting");
  /** Not announced: the badge is, and the banner's seconds would be read out again and again. */
  readonly banner = h("div", { class: "banner" });
  private facts: { phase: Phase; text: string | null } = { phase: "connecting", text: null };
  private heardAt: number | null = null;
  private lag: { ms: number; at: number } | null = null;
  private old: { stale: Stale; at: number } | null = null;
  private readonly timer = setInterval(() => this.paint(), 1000);
  private painted = "";

  constructor() {
    this.banner.hidden = true;
  }

  phase(phase: Phase, text: string | null): void {
    this.facts = { phase, text };
    this.paint();
  }

  /** A byte of the stream arrived. */
  heard(): void {
    this.heardAt = Date.now();
    this.paint();
  }

  /** What an answer says of the speed layer's lag and of its own age; both grow until the next answer. */
  lagged(ms: number | null, stale: Stale | null): void {
    this.lag = ms === null ? null : { ms, at: Date.now() };
    this.old = stale === null ? null : { stale, at: Date.now() };
    this.paint();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private paint(): void {
    const now = Date.now();
    const silentMs = this.heardAt === null ? null : now - this.heardAt;
    const lagMs = this.lag === null ? null : this.lag.ms + now - this.lag.at;
    const stale = this.old === null ? null : { ...this.old.stale, age_ms: this.old.stale.age_ms + now - this.old.at };
    const state = health({ ...this.facts, silentMs, lagMs, stale });
    const names: Record<Health, string> = {
      connecting: "Connecting",
      live: "Live",
      behind: "Behind",
      "last-good": "Not live",
      reconnecting: "Reconnecting",
      stale: "Not live",
      refused: "Not live",
    };
    document.body.classList.toggle("stale", state === "stale" || state === "refused" || state === "last-good");
    const said = this.explanation(state, silentMs ?? 0, lagMs ?? 0, stale?.age_ms ?? 0);
    if (this.painted !== state) {
      this.painted = state;
      this.badge.className = `health ${state}`;
      fill(this.badge, names[state]);
    }
    this.banner.hidden = said === null;
    this.banner.classList.toggle("mild", state === "behind");
    fill(this.banner, said);
  }

  private explanation(state: Health, silentMs: number, lagMs: number, ageMs: number): string | null {
    const why = this.facts.text ? `${this.facts.text} ` : "";
    if (state === "refused") return `These numbers do not change any more. ${why}`;
    if (state === "stale") return `These numbers are ${duration(silentMs)} old and may have changed. ${why}Trying to reconnect.`;
    if (state === "last-good") return `A store behind the server is away: these are the last good numbers, ${duration(ageMs)} old. New ones come by themselves.`;
    if (state === "behind") return `The live counting is ${duration(lagMs)} behind, and provisional numbers with it. Settled ones are not affected.`;
    return null;
  }
}
