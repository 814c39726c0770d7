/** The newest of what was told. The server gives events from the oldest on, so what was read is not read again. */

import type { AlertEvent } from "./alerts";
import type { Api } from "./api";

/** As many as the server gives at once. */
const PAGE = 500;

export class Told {
  private after: string | null = null;
  private newest: readonly AlertEvent[] = [];

  constructor(private readonly max: number) {}

  /** The newest events, the newest first, after asking for those that are not known yet. */
  async read(api: Pick<Api, "alertEvents">, signal: AbortSignal): Promise<readonly AlertEvent[]> {
    for (;;) {
      const events = await api.alertEvents(this.after, PAGE, signal);
      this.after = events.at(-1)?.id ?? this.after;
      this.newest = [...events.reverse(), ...this.newest].slice(0, this.max);
      if (events.length < PAGE) return this.newest;
    }
  }
}
