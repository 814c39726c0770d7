/** Numbers that are watched for people: what the server says of them, and the words for it. */

import type { Metric } from "./api";
import { value, words } from "./format";

export type Phase = "ok" | "pending" | "firing" | "no_data";

/** What a person writes down; what is left out the server fills in. */
export interface Definition {
  name: string;
  metric: string;
  filter?: string[];
  over_minutes?: number;
  side: "above" | "below";
  /** A decimal as text. */
  threshold: string;
  clear?: string;
  for_seconds?: number;
  /** Without its path for who may not change the alert. */
  webhook?: string;
}

export interface Alert extends Definition {
  id: string;
  phase: Phase;
  since: string | null;
  /** What was seen last. */
  number: string | null;
  created_by?: string;
}

export interface AlertList {
  alerts: Alert[];
  /** The ids of those that the server cannot read, and does not look at. */
  unreadable: string[];
}

export interface NewAlert extends Alert {
  secret: string;
}

/** What people were told. The alert itself may be gone by now. */
export interface AlertEvent {
  id: string;
  alert: string;
  at: string;
  body: {
    type: "alert.firing" | "alert.no_data" | "alert.resolved";
    data: { name: string; metric: string; side: "above" | "below"; threshold: string; number: string | null };
  };
}

const PHASES: Record<Phase, string> = { ok: "ok", pending: "pending", firing: "firing", no_data: "no data" };

export function phaseWords(phase: Phase): string {
  return PHASES[phase] ?? phase;
}

/** In what a metric is counted, as answers name it. */
export function unitOf(metric: Metric | undefined): string {
  switch (metric?.measure) {
    case "money":
      return metric.currency ?? "";
    case "count":
      return "events";
    case "users":
    case "active_users":
      return "users";
    default:
      return metric?.property ?? "";
  }
}

/** `Revenue over 5 min below 100 USD for more than 60 s`. */
export function condition(alert: Definition, metric: Metric | undefined): string {
  const only = (alert.filter ?? []).map((filter) => {
    const [dimension = "", ...of] = filter.split(":");
    return `, ${words(dimension).toLowerCase()} ${of.join(":") || "(none)"}`;
  });
  const over = metric?.measure === "active_users" || alert.over_minutes === undefined ? "" : ` over ${value(alert.over_minutes)} min`;
  const limit = `${alert.side} ${value(alert.threshold)} ${unitOf(metric)}`.trimEnd();
  const lasting = alert.for_seconds ? ` for more than ${value(alert.for_seconds)} s` : "";
  const clear = alert.clear === undefined ? "" : `, until it is back at ${value(alert.clear)}`;
  return `${words(alert.metric)}${only.join("")}${over} ${limit}${lasting}${clear}`;
}

/** Where messages go. Only the host: the rest of an address may be a secret. */
export function receiver(webhook: string): string {
  return URL.canParse(webhook) ? new URL(webhook).host : "a webhook";
}

/** How all of them stand, in one line. */
export function headline(alerts: readonly Alert[]): { kind: "good" | "bad" | "unsure"; text: string } {
  const count = (phase: Phase): number => alerts.filter((alert) => alert.phase === phase).length;
  const [firing, blind] = [count("firing"), count("no_data")];
  const unseen = blind > 0 ? `, ${blind} ${blind === 1 ? "has" : "have"} no data` : "";
  if (firing > 0) return { kind: "bad", text: `${firing} of ${alerts.length} ${firing === 1 ? "is" : "are"} firing${unseen}` };
  return { kind: blind > 0 ? "unsure" : "good", text: `None of ${alerts.length} is firing${unseen}` };
}

/** What an event said, with the phase whose colour it has: `Few purchases: 3, below 5`. */
export function told({ body: { type, data } }: AlertEvent): { phase: Phase; word: string; text: string } {
  const limit = `${data.side} ${value(data.threshold)}`;
  const number = data.number === null ? "no number" : value(data.number);
  switch (type) {
    case "alert.firing":
      return { phase: "firing", word: "firing", text: `${data.name}: ${number}, ${limit}` };
    case "alert.no_data":
      return { phase: "no_data", word: "no data", text: data.name };
    default:
      return { phase: "ok", word: "resolved", text: `${data.name}: ${number}, not ${limit} any more` };
  }
}

/** The form's fields as they were typed. */
export interface Fields {
  name: string;
  metric: string;
  side: string;
  threshold: string;
  seconds: string;
  minutes: string;
  webhook: string;
}

/** What to send. Whether it makes sense the server says, in words; what was left empty is left to it. */
export function definitionOf(fields: Fields): Definition {
  const whole = (text: string): number | undefined => (text.trim() === "" ? undefined : Number(text));
  const [seconds, minutes, webhook] = [whole(fields.seconds), whole(fields.minutes), fields.webhook.trim()];
  return {
    name: fields.name.trim(),
    metric: fields.metric,
    side: fields.side === "below" ? "below" : "above",
    threshold: fields.threshold.trim(),
    ...(seconds === undefined ? {} : { for_seconds: seconds }),
    ...(minutes === undefined ? {} : { over_minutes: minutes }),
    ...(webhook === "" ? {} : { webhook }),
  };
}
