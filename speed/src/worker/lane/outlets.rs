//! A lane's ends of the channels to the sinks and to the snapshots.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use crate::worker::sinks::Flush;
use crate::worker::snapshots::Capture;
use crate::worker::windows::Sink;

/// The way to one sink. It takes one batch at a time.
#[derive(Debug)]
pub(crate) struct Outlet {
    batches: Sender<Flush>,
    interval: Duration,
    pace: Pace,
    /// When the last batch was handed over; `None` where the next one is wanted at once.
    sent_at: Option<Instant>,
    /// Since when it has a batch that it did not answer yet.
    busy_since: Option<Instant>,
}

/// How soon a batch follows the one before, where the sink is free.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// After the interval that is configured.
    Usual,
    /// Not before so much time has passed, so that every cell is written fewer times.
    Slow(Duration),
    /// At once: much waits.
    Quick,
}

/// The part of the worker at the other end is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Outlet {
    pub(crate) fn new(batches: Sender<Flush>, interval: Duration) -> Self {
        Self { batches, interval, pace: Pace::Usual, sent_at: None, busy_since: None }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.busy_since.is_none()
    }

    pub(crate) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Whether it is free and its time has come.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.is_free() && self.due(now) <= now
    }

    fn due(&self, now: Instant) -> Instant {
        let pause = match self.pace {
            Pace::Usual => self.interval,
            Pace::Slow(pause) => pause.max(self.interval),
            Pace::Quick => Duration::ZERO,
        };
        self.sent_at.map_or(now, |at| at + pause)
    }

    /// Whether the sink's task has ended, which it only does when the worker ends.
    pub(crate) fn is_gone(&self) -> bool {
        self.batches.is_closed()
    }

    pub(crate) fn hurry(&mut self) {
        self.sent_at = None;
    }

    /// The batch was answered; how long that took.
    pub(crate) fn answered(&mut self) -> Duration {
        self.busy_since.take().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Hands a batch over; an empty one is not worth the way.
    pub(crate) fn send(&mut self, batch: Flush, now: Instant) -> Result<(), Gone> {
        self.sent_at = Some(now);
        if batch.parts.is_empty() {
            return Ok(());
        }
        // There is room for one, and the one before was answered.
        self.batches.try_send(batch).map_err(|_| Gone)?;
        self.busy_since = Some(now);
        Ok(())
    }
}

/// All of them.
pub(crate) struct Outlets {
    pub(crate) redis: Outlet,
    pub(crate) clickhouse: Outlet,
    pub(crate) captures: Sender<Capture>,
}

impl Outlets {
    pub(crate) fn of(&mut self, sink: Sink) -> &mut Outlet {
        match sink {
            Sink::Redis => &mut self.redis,
            Sink::ClickHouse => &mut self.clickhouse,
        }
    }

    /// When the next flush is due; a busy sink is asked again after its answer.
    pub(crate) fn next_due(&self, now: Instant) -> Instant {
        let free = [&self.redis, &self.clickhouse].into_iter().filter(|outlet| outlet.is_free());
        free.map(|outlet| outlet.due(now)).min().unwrap_or(now + Duration::from_secs(1))
    }
}
