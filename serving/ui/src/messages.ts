/** The messages of the live stream, and the answer they add up to. */

import type { Answer, Group } from "./api";

/** A snapshot is a whole answer; a change has new fields, and of the groups only those and their points that changed. */
export interface Message {
  /** What to come back with. */
  position: string;
  seq: number;
  kind: "snapshot" | "change";
  answer: Partial<Answer>;
}

/** Reads the data of one event of the stream; null if it is not a message. */
export function parseMessage(data: string): Message | null {
  try {
    const message = JSON.parse(data) as Partial<Message> | null;
    const whole = message && typeof message.position === "string" && typeof message.seq === "number" && typeof message.answer === "object" && message.answer !== null;
    return whole && (message.kind === "snapshot" || message.kind === "change") ? (message as Message) : null;
  } catch {
    return null;
  }
}

/** Reads why the server ends a stream; null if it does not say. */
export function parseProblem(data: string): string | null {
  try {
    const problem = JSON.parse(data) as { title?: string; detail?: string } | null;
    return problem?.detail ?? problem?.title ?? null;
  } catch {
    return null;
  }
}

/** The client's copy of an answer. */
export class Replica {
  answer: Answer | null = null;
  position: string | null = null;
  seq: number | null = null;

  /** Takes one message in. `gap` means that messages are missing: the copy is not to be trusted, read again. */
  apply(message: Message): "applied" | "old" | "gap" {
    if (message.kind === "snapshot") {
      this.answer = message.answer as Answer;
      this.at(message);
      return "applied";
    }
    if (this.answer === null || this.seq === null || message.seq > this.seq + 1) return "gap";
    if (message.seq <= this.seq) return "old";
    // These are left out when there is nothing to say.
    const { other: _other, stale: _stale, ...kept } = this.answer;
    this.answer = { ...kept, ...message.answer, groups: mergedGroups(this.answer.groups, message.answer.groups ?? []) };
    this.at(message);
    return "applied";
  }

  /** Forgets everything, so that the next stream begins with a snapshot. */
  reset(): void {
    this.answer = null;
    this.position = null;
    this.seq = null;
  }

  private at({ position, seq }: Message): void {
    this.position = position;
    this.seq = seq;
  }
}

function mergedGroups(old: readonly Group[], changed: readonly Group[]): Group[] {
  const groups = new Map(old.map((group) => [identity(group), group]));
  for (const group of changed) {
    const before = groups.get(identity(group));
    const points = new Map((before?.points ?? []).map((point) => [Date.parse(point.start), point]));
    for (const point of group.points) points.set(Date.parse(point.start), point);
    const sorted = [...points].sort(([a], [b]) => a - b).map(([, point]) => point);
    groups.set(identity(group), { ...before, ...group, points: sorted });
  }
  return [...groups.values()];
}

function identity(group: Group): string {
  return JSON.stringify(Object.entries(group.dimensions).sort(([a], [b]) => (a < b ? -1 : 1)));
}
