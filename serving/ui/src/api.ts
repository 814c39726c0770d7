/** What the serving layer answers, and how to ask it. The key goes into a header, never into an address. */

import type { AlertEvent, AlertList, Definition, NewAlert } from "./alerts";
import type { Judged } from "./anomalies";
import { sentence } from "./format";
import { dayStart } from "./zone";

/** A count is an integer; money is a decimal string, so that no cent passes through a float. */
export type Value = string | number;

export type State = "provisional" | "settled" | "restated" | "closed";

export interface Figure {
  value: Value;
  method: "exact" | "hll" | "frequent_items";
  /** In the unit of the value. */
  error_bound: Value;
  state: State;
  as_of: string | null;
  run_id: string | null;
}

export interface Part {
  layer: "batch" | "speed";
  state: State;
  from: string;
  to: string;
  number: Figure;
}

export interface Coverage {
  from: string;
  to: string;
  layer: "batch" | "speed";
  state: State;
  as_of: string | null;
  run_ids: string[];
}

export interface Gap {
  from: string;
  to: string;
  reason: string;
}

export interface Point {
  start: string;
  end: string;
  number: Figure;
}

export interface Group {
  dimensions: Record<string, string>;
  total: Figure;
  parts: Part[];
  points: Point[];
}

/** A number that may not be defined: something is divided by what may be zero. */
export type Derived = Omit<Figure, "value" | "error_bound"> & { value: Value | null; error_bound: Value | null };

/** How a number differs from that of the base. */
export interface Delta {
  difference: Derived | null;
  ratio: Derived | null;
}

export interface Comparison {
  base: Answer;
  same_state: boolean;
  total: Delta;
}

export interface HeatCell {
  /** 1 is Monday. */
  weekday: number;
  hour: number;
  /** How many hours of the range are behind the number. */
  hours: number;
  number: Derived | null;
}

/** One metric by hour of the day and day of the week. */
export interface HeatMap {
  measure: Measure | "formula";
  unit: string;
  time_zone: string;
  notes: string[];
  cells: HeatCell[];
}

/** The last two are answered by the speed layer alone and have no windows. */
export type Measure = "count" | "money" | "sum" | "users" | "active_users" | "top";

/** How old, and whether the live counting is behind or a store behind the server is away. */
export interface Stale {
  age_ms: number;
  reason: "speed_behind" | "store_away";
}

export interface Answer {
  tenant: string;
  metric: string;
  measure: Measure;
  unit: string;
  grain: string;
  time_zone: string;
  from: string;
  to: string;
  horizon: string | null;
  watermark: string | null;
  computed_at: string;
  /** How long before it was sent it was computed: more than nothing for an answer that is kept. */
  age_ms: number;
  /** Numbers that are older than they should be, and why. */
  stale?: Stale;
  /** How long before `computed_at` the partition that is the longest behind reported its progress. */
  speed_lag_ms: number | null;
  coverage: Coverage[];
  gaps: Gap[];
  truncated: boolean;
  notes: string[];
  total: Figure;
  parts: Part[];
  groups: Group[];
  /** The groups that were left out, added up, where that can be done. */
  other?: Group;
  comparison?: Comparison;
}

export interface Metric {
  name: string;
  event: string;
  measure: Measure;
  currency?: string | null;
  property?: string;
}

export interface Catalog {
  tenant: string;
  time_zone: string;
  metrics: Metric[];
  /** Each named by its dimensions, joined by commas; `total` has none. */
  rollups: string[];
  grains: string[];
}

/** Summed over days and dimension values; users too, so who came on two days is there twice. */
export interface ReconciliationRow {
  rollup: string;
  event: string;
  measure: Measure;
  currency: string;
  property?: string;
  speed: Value;
  batch: Value;
  drift: Value;
  reasons: Record<string, Value>;
  residual: Value;
  error_bound: Value;
  cells: number;
  cells_with_residual: number;
}

export interface Reconciliation {
  tenant: string;
  run_id: string;
  lake_version: number;
  settled_at: string;
  first_day: string;
  last_day: string;
  days: number;
  deliveries: number;
  events: number;
  /** Distinct over all of these days, exact. */
  users: number;
  horizon: string | null;
  rows: ReconciliationRow[];
  explained: boolean;
}

/** What to ask for; `from` and `to` are calendar days in the tenant's zone, `to` exclusive. */
export interface Question {
  metric: string;
  from: string;
  to: string;
  grain: string;
  by?: string | undefined;
  filters?: readonly { dimension: string; value: string }[];
}

/** The server said no, or could not be reached (status 0). The message says what to do. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(message);
  }
}

/** Longer than this, and the server does not answer. */
const TIMEOUT_MS = 20_000;

/** The query string of a question, always in one order, so that equal questions are equal addresses. */
export function parameters(question: Question): string {
  const query = new URLSearchParams({
    metric: question.metric,
    from: question.from,
    to: question.to,
    grain: question.grain,
  });
  if (question.by) query.set("by", question.by);
  for (const { dimension, value } of question.filters ?? []) query.append("filter", `${dimension}:${value}`);
  return query.toString();
}

/** A reader with a key, or one who is signed in: then there is no key, but the session's second token. */
export class Api {
  constructor(
    private readonly key: string | null,
    private readonly csrf: string | null = null,
  ) {}

  catalog(signal?: AbortSignal): Promise<Catalog> {
    return this.json("v1/catalog", signal);
  }

  query(question: Question, signal?: AbortSignal): Promise<Answer> {
    return this.json(`v1/query?${parameters(question)}`, signal);
  }

  /** The same with the range of the same length before it. */
  compared(question: Question, signal?: AbortSignal): Promise<Answer> {
    return this.json(`v1/query?${parameters(question)}&compare=previous`, signal);
  }

  /** The usual week of a question's range. */
  heatmap({ metric, from, to, filters }: Question, signal?: AbortSignal): Promise<HeatMap> {
    const query = new URLSearchParams({ metric, from, to });
    for (const { dimension, value } of filters ?? []) query.append("filter", `${dimension}:${value}`);
    return this.json(`v1/heatmap?${query}`, signal);
  }

  /** The hours of a question, each compared with those of the weeks before. It wants instants, not days. */
  anomalies({ metric, from, to, filters }: Question, zone: string, signal?: AbortSignal): Promise<Judged> {
    const [first, end] = [from, to].map((day) => new Date(dayStart(day, zone)).toISOString());
    const query = new URLSearchParams({ metric, from: first ?? from, to: end ?? to });
    for (const { dimension, value } of filters ?? []) query.append("filter", `${dimension}:${value}`);
    return this.json(`v1/anomalies?${query}`, signal);
  }

  /** All of them, page by page. */
  async alerts(signal?: AbortSignal): Promise<AlertList> {
    const all: AlertList = { alerts: [], unreadable: [] };
    for (let path: string | null = "v1/alerts"; path !== null; ) {
      const page: AlertList & { next: string | null } = await this.json(path, signal);
      all.alerts.push(...page.alerts);
      all.unreadable.push(...page.unreadable);
      path = page.next === null ? null : `v1/alerts?after=${encodeURIComponent(page.next)}`;
    }
    return all;
  }

  /** What was told last, the newest first. */
  async alertEvents(limit: number, signal?: AbortSignal): Promise<AlertEvent[]> {
    return (await this.json<{ events: AlertEvent[] }>(`v1/alert-events?limit=${limit}`, signal)).events;
  }

  /** The answer is the only place where the alert's secret is. */
  async createAlert(definition: Definition): Promise<NewAlert> {
    const headers = { Accept: "application/json", "Content-Type": "application/json" };
    const request = { method: "POST", headers, body: JSON.stringify(definition) };
    return (await (await this.ask("v1/alerts", request, AbortSignal.timeout(TIMEOUT_MS))).json()) as NewAlert;
  }

  async removeAlert(id: string): Promise<void> {
    const request = { method: "DELETE", headers: { Accept: "application/json" } };
    await this.ask(`v1/alerts/${encodeURIComponent(id)}`, request, AbortSignal.timeout(TIMEOUT_MS));
  }

  /** The newest reconciliation, or null before the first. */
  async reconciliation(signal?: AbortSignal): Promise<Reconciliation | null> {
    try {
      return await this.json("v1/reconciliations/latest", signal);
    } catch (error) {
      if (error instanceof Refused && error.status === 404) return null;
      throw error;
    }
  }

  /** Opens the stream of changes of a question's answer. */
  live(question: Question, lastEventId: string | null, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (lastEventId !== null) headers["Last-Event-ID"] = lastEventId;
    return this.ask(`v1/live?${parameters(question)}`, { headers }, signal);
  }

  private async json<T>(path: string, signal?: AbortSignal): Promise<T> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const response = await this.ask(path, { headers: { Accept: "application/json" } }, signal ? AbortSignal.any([signal, timeout]) : timeout);
    return (await response.json()) as T;
  }

  private async ask(path: string, request: { method?: string; headers: Record<string, string>; body?: string }, signal: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(path, { ...request, headers: { ...request.headers, ...this.credential() }, cache: "no-store", signal });
    } catch (error) {
      if (signal.aborted && signal.reason?.name !== "TimeoutError") throw error;
      throw new Refused(0, "The server does not answer. Is it running, and is the network there?");
    }
    if (!response.ok) throw await refusal(response, this.key !== null, request.method === undefined);
    return response;
  }

  private credential(): Record<string, string> {
    if (this.key !== null) return { Authorization: `Bearer ${this.key}` };
    return this.csrf === null ? {} : { "X-CSRF-Token": this.csrf };
  }
}

/** Reads a problem document (RFC 9457), or makes do with the status. Who only reads needs nothing but that scope. */
export async function refusal(response: Response, hasKey: boolean, reads = true): Promise<Refused> {
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const retryAfter = Number.isNaN(seconds) ? null : seconds;
  let said = "";
  try {
    const problem = (await response.json()) as { title?: string; detail?: string };
    said = sentence(problem.detail ?? problem.title ?? "");
  } catch {
    // Not a problem document; the status has to do.
  }
  const again = retryAfter === null ? "" : ` It asks to try again in ${retryAfter} s.`;
  switch (response.status) {
    case 401:
      if (!hasKey) return new Refused(401, said || "You are not signed in any more.");
      return new Refused(401, "The server does not know this key. It may be mistyped, expired or revoked.");
    case 403:
      if (!hasKey || !reads) return new Refused(403, said || "This is not open to you.");
      return new Refused(403, "This key may not read numbers. It needs the scope “read”.");
    case 429:
      return new Refused(429, `${hasKey ? "Too many questions at once." : said || "Too often."}${again}`, retryAfter);
    case 503:
      return new Refused(503, `${said || "The stores behind the server are away."}${again}`, retryAfter);
    default:
      return new Refused(response.status, said || `The server answered ${response.status}.`, retryAfter);
  }
}
