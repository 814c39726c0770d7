/** A task that is run again now and then: when poked, but not too often, and from time to time in any case. */

export interface Pace {
  /** Not sooner than this after the last start, however often it is poked. */
  atMostEveryMs: number;
  /** Not later than this after the last start, if nobody pokes. */
  atLeastEveryMs: number;
}

export class Refresh {
  private readonly end = new AbortController();
  private readonly timer: ReturnType<typeof setInterval>;
  private startedAt = Number.NEGATIVE_INFINITY;
  private running = false;
  private poked = true;

  /** The task handles its own errors; it runs at once, one at a time, and not while the page is hidden. */
  constructor(
    private readonly task: (signal: AbortSignal) => Promise<void>,
    private readonly pace: Pace,
  ) {
    this.timer = setInterval(() => void this.step(), 250);
    void this.step();
  }

  /** Something changed. */
  poke(): void {
    this.poked = true;
  }

  /** The question is another one: run as soon as the running one ends. */
  now(): void {
    this.poked = true;
    this.startedAt = Number.NEGATIVE_INFINITY;
    void this.step();
  }

  stop(): void {
    clearInterval(this.timer);
    this.end.abort();
  }

  private async step(): Promise<void> {
    const age = performance.now() - this.startedAt;
    const due = age >= (this.poked ? this.pace.atMostEveryMs : this.pace.atLeastEveryMs);
    if (!due || this.running || document.hidden || this.end.signal.aborted) return;
    this.running = true;
    this.poked = false;
    this.startedAt = performance.now();
    try {
      await this.task(this.end.signal);
    } finally {
      this.running = false;
    }
  }
}
